#!/usr/bin/env bash
# Makes the Python environment of the peers that we measure ourselves against, bench/peers/venv (minutes, gigabytes).
# Nothing that Thimble builds, tests or runs by default needs it.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=bench/peers/venv
stamp=$venv/requirements-peers.txt
cmp -s tools/requirements-peers.txt "$stamp" && exit 0
[ -x $venv/bin/pip ] || python3 -m venv $venv
$venv/bin/pip install --quiet --disable-pip-version-check -r tools/requirements-peers.txt
cp tools/requirements-peers.txt "$stamp"
echo "peers: $venv/bin/python"
