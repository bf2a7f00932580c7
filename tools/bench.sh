#!/usr/bin/env bash
# Runs every benchmark that the build made (bin/*_bench) and keeps their figures in out/bench/NAME.json.
set -euo pipefail
cd "$(dirname "$0")/.."

shopt -s nullglob
benches=(build/release/bin/*_bench)
if [ ${#benches[@]} -eq 0 ]; then
  echo "bench: no *_bench.cc in any folder" >&2
  exit 1
fi
mkdir -p out/bench
for bench in "${benches[@]}"; do
  name=$(basename "$bench" _bench)
  echo "== $name"
  "$bench" --benchmark_out="out/bench/$name.json" --benchmark_out_format=json
done
