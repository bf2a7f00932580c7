#!/usr/bin/env bash
# Makes sure that what the arm64 preset needs is there; says nothing when it is: the cross compiler and the emulator
# as packages of this system, our libraries' arm64 packages unpacked into build/arm64-sysroot. Debian and Ubuntu only.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/apt_install.sh
source tools/apt_install.sh

tools=(g++-aarch64-linux-gnu qemu-user)
libraries=(libfmt-dev nlohmann-json3-dev libexpected-dev libcli11-dev libeigen3-dev libpcre2-dev libutf8proc-dev
           libssl-dev libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev)
# Of what these depend on, the packages that hold a library that we link; the compiler brings the C library.
ours='ssl|fmt|nlohmann|expected|cli11|eigen3|pcre2-(dev|8|16|32|posix)|utf8proc|gtest|gmock|rapidcheck|benchmark'
sysroot=$PWD/build/arm64-sysroot

say() { echo "setup_arm64: $*" >&2; }

# With lists of its own, so that this system need not be told of a second architecture.
make_sysroot() {
  local work names name
  work=$(mktemp -d)
  # shellcheck disable=SC2064  # the folder's name is wanted now
  trap "rm -rf '$work'" EXIT
  mkdir -p "$work"/{lists,cache/archives}/partial "$work/debs" "$work/root"
  local apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
             -o Dir::State::Lists="$work/lists" -o Dir::State::Status=/dev/null -o Dir::Cache="$work/cache"
             -o Dir::Log="$work")
  say "fetching the arm64 packages of our libraries into build/arm64-sysroot"
  "${apt[@]}" update >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  if ! "${apt[@]}" install -s --no-install-recommends "${libraries[@]}" >"$work/plan" 2>"$work/log"; then
    cat "$work/log" >&2
    say "the package sources of this system offer no arm64 packages (Ubuntu keeps them on a host of their own)"
    exit 1
  fi
  names=$(awk -v ours="$ours" '$1 == "Inst" && $2 ~ ours { print $2 }' "$work/plan")
  # shellcheck disable=SC2086  # a list of names
  (cd "$work/debs" && "${apt[@]}" download $names >"$work/log" 2>&1) || { cat "$work/log" >&2; exit 1; }
  for name in "$work"/debs/*.deb; do dpkg-deb -x "$name" "$work/root"; done
  rm -rf "$sysroot"
  mkdir -p "$(dirname "$sysroot")"
  mv "$work/root" "$sysroot"
  echo "${libraries[*]}" >"$sysroot/packages"
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  say "this is not Debian or Ubuntu. Needed: a cross compiler for aarch64-linux-gnu, qemu-aarch64, and in $sysroot"
  say "the contents of the arm64 packages ${libraries[*]}"
  exit 1
fi
apt_install "${tools[@]}"
[ "$(cat "$sysroot/packages" 2>/dev/null)" = "${libraries[*]}" ] || make_sysroot
