#!/usr/bin/env bash
# Installs what building and testing the report page (web/) needs: Node with npm, Chromium, and npm's packages as
# web/package-lock.json pins them. Says nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/apt_install.sh
source tools/apt_install.sh

say() { echo "setup_web: $*" >&2; }

packages=()
command -v chromium >/dev/null || packages+=(chromium fonts-dejavu-core)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
if [ ${#packages[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    say "this is not Debian, so nothing is installed for you. Missing: ${packages[*]}"
    exit 1
  fi
  apt_install "${packages[@]}"
fi
if ! [ web/node_modules/.package-lock.json -nt web/package-lock.json ]; then
  say "installing npm's packages into web/node_modules"
  (cd web && npm ci --ignore-scripts --silent)
fi
