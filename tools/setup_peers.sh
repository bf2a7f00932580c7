#!/usr/bin/env bash
# Makes what we measure ourselves against in bench/peers/: a Python environment (minutes, gigabytes), and llama.cpp, which
# its llama-cpp-python builds from source for this processor, behind a small program of C functions (bench/llama_peer.cc).
# --openvino: also OpenVINO GenAI, in an environment of its own. Nothing that Thimble builds, tests or runs by default
# needs any of it.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=bench/peers/venv
stamp=$venv/requirements-peers.txt
if ! cmp -s tools/requirements-peers.txt "$stamp"; then
  [ -x $venv/bin/pip ] || python3 -m venv $venv
  $venv/bin/pip install --quiet --disable-pip-version-check -r tools/requirements-peers.txt
  cp tools/requirements-peers.txt "$stamp"
  echo "peers: $venv/bin/python"
fi

peer=bench/peers/llama_peer
if [ bench/llama_peer.cc -nt $peer ] || [ "$stamp" -nt $peer ]; then
  packages=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  c++ -std=c++17 -O2 -Wall bench/llama_peer.cc -I"$packages/include" -L"$packages/llama_cpp/lib" \
    -Wl,-rpath,"$packages/llama_cpp/lib" -lllama -lggml -lggml-base -o $peer
fi

# A llama.cpp that was built for less than this processor would be an easy victim.
info=$($peer system-info)
need() {
  if grep -qw "$1" /proc/cpuinfo && [[ "$info" != *"$2 = 1"* ]]; then
    echo "peers: this processor has $1, but llama.cpp was built without $2: $info" >&2
    echo "peers: remove $venv and build it here, without CMAKE_ARGS that turn GGML_NATIVE off" >&2
    exit 1
  fi
}
need avx2 AVX2
need avx2 REPACK
need avx512f AVX512
need avx512_vnni AVX512_VNNI
need avx512_bf16 AVX512_BF16
need asimddp DOTPROD
need i8mm MATMUL_INT8

openvino=bench/peers/openvino
if [ "${1:-}" = --openvino ] && [ ! -x $openvino/bin/pip ]; then
  python3 -m venv $openvino
  $openvino/bin/pip install --quiet --disable-pip-version-check openvino-genai==2026.4.1.0
fi
