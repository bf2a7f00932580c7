#!/usr/bin/env bash
# Makes sure that what the build, the tests and the demo need is installed; says nothing when it is.
# On Debian (12 or later) and Ubuntu (24.04 or later) it installs what is missing; elsewhere it lists it.
set -euo pipefail
# shellcheck source=tools/apt_install.sh
source "$(dirname "$0")/apt_install.sh"

packages=(build-essential cmake ninja-build ccache pkg-config
          libfmt-dev nlohmann-json3-dev libexpected-dev libcli11-dev libeigen3-dev libpcre2-dev libutf8proc-dev
          libssl-dev libopenmpi-dev openmpi-bin libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev
          python3 python3-venv python3-pip ca-certificates)
min_cmake=3.25
min_gcc=12

say() { echo "setup: $*" >&2; }

at_least() {  # at_least VERSION MINIMUM
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# Elsewhere we cannot know the packages' names, so we look for what each of them brings.
check_by_hand() {
  local missing=() tool module header
  for tool in g++ cmake ninja pkg-config python3 mpirun; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if command -v pkg-config >/dev/null; then
    for module in fmt libpcre2-8 libutf8proc libcrypto gtest gmock; do
      pkg-config --exists "$module" || missing+=("$module")
    done
  fi
  if command -v g++ >/dev/null; then
    for header in nlohmann/json.hpp tl/expected.hpp CLI/CLI.hpp eigen3/Eigen/Dense rapidcheck.h benchmark/benchmark.h; do
      echo "#include <$header>" | g++ -std=c++20 -fsyntax-only -x c++ - 2>/dev/null || missing+=("$header")
    done
  fi
  if [ ${#missing[@]} -gt 0 ]; then
    say "this is not Debian or Ubuntu, so nothing is installed for you. Missing: ${missing[*]}"
    say "Thimble needs the counterparts of these Debian packages: ${packages[*]}"
    exit 1
  fi
}

check_versions() {
  local cmake gcc
  cmake=$(cmake --version | sed -n '1s/[^0-9]*//p')
  gcc=$(${CXX:-g++} -dumpfullversion -dumpversion)
  if ! at_least "$cmake" "$min_cmake"; then
    say "CMake $cmake is too old: Thimble needs $min_cmake (Debian 12, Ubuntu 24.04, or 'pip install cmake')"
    exit 1
  fi
  if ! ${CXX:-g++} --version | grep -qi clang && ! at_least "$gcc" "$min_gcc"; then
    say "GCC $gcc is too old: Thimble needs $min_gcc (set CXX to a newer compiler)"
    exit 1
  fi
}

if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
  apt_install "${packages[@]}"
else
  check_by_hand
fi
check_versions
