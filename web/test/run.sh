#!/usr/bin/env bash
# The report page in Chromium. Ends with 77 (skipped, to ctest) where what it needs is missing; tools/setup_web.sh
# installs that.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() {
  echo "skipped: $1; tools/setup_web.sh installs it"
  exit 77
}
command -v node >/dev/null || skip "there is no node"
[ -d node_modules/playwright-core ] || skip "web/node_modules is not there"
CHROMIUM=${CHROMIUM:-$(command -v chromium || true)}
[ -n "$CHROMIUM" ] || skip "there is no chromium"
export CHROMIUM
exec node --test test/report_test.mjs
