#!/bin/sh
# check_kernel_symbols.sh LIBKERNELS.A: fails if a unit that is compiled for a newer CPU (its symbols are in
# thimble::avx2, thimble::neon, ..., but not thimble::ref) defines anything but its Fill functions that other units
# can see. The linker keeps one copy of a weak symbol (an inline function, a template of std::): if it kept the newer
# CPU's, the baseline code that shares it would crash on an older one. $NM is the nm to use, if not the system's.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 LIBKERNELS.A" >&2; exit 2; }

"${NM:-nm}" -C --defined-only "$1" | awk '
  function finish() {
    if (tier != "" && tier != "ref") {
      ++tier_units
      if (bad != "") { printf "%s of %s:\n%s", unit, tier, bad; failed = 1 }
    }
    tier = bad = ""
  }
  /^[^ ].*:$/ { finish(); unit = substr($0, 1, length($0) - 1); next }
  NF >= 3 && $2 ~ /^[A-Zu]$/ && $3 !~ /^DW\.ref\./ {  # (a pointer for exceptions, the same everywhere)
    name = $0
    sub(/^[0-9a-f]* . /, "", name)
    if ($2 == "T" && name ~ /^thimble::[a-z0-9_]+::Fill[A-Za-z]+\(thimble::KernelTable\*\)$/) {
      split(name, parts, "::")
      tier = parts[2]
    } else {
      bad = bad "  " $2 " " name "\n"
    }
  }
  END {
    finish()
    printf "%d units of newer CPUs checked\n", tier_units
    exit failed
  }'
