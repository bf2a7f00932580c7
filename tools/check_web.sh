#!/usr/bin/env bash
# Whether web/dist/report.html is what web/src builds; afterwards it is.
set -euo pipefail
cd "$(dirname "$0")/.."
committed=$(mktemp)
trap 'rm -f "$committed"' EXIT
cp web/dist/report.html "$committed"
(cd web && npm run --silent build >/dev/null)
if ! cmp -s "$committed" web/dist/report.html; then
  echo "check_web: web/dist/report.html was not what web/src builds; it is now, so commit it" >&2
  exit 1
fi
