#!/usr/bin/env bash
# Checks of the sources: format, includes, scripts, and clang-tidy on the files changed since $LINT_BASE (default: the
# commit before the last).   --quick: no clang-tidy.   --all: clang-tidy on every file (minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

llvm=14.0.6
build=${BUILD:-build/release}
failed=0

step() {  # step NAME COMMAND...: silent when it passes
  local name=$1 log
  shift
  if log=$("$@" 2>&1); then
    echo "lint: $name: ok"
  else
    echo "lint: $name: FAILED"
    sed 's/^/  /' <<<"$log" | head -n 200
    failed=1
  fi
}

# Other versions format differently, so it is this one everywhere: the system's, or a private copy.
find_clang_format() {
  local candidate
  for candidate in clang-format-14 clang-format .cache/venv/bin/clang-format; do
    if "$candidate" --version 2>/dev/null | grep -q "version ${llvm%%.*}\."; then
      echo "$candidate"
      return
    fi
  done
  [ -x .cache/venv/bin/pip ] || python3 -m venv .cache/venv
  .cache/venv/bin/pip install --quiet --disable-pip-version-check "clang-format==$llvm" >&2
  echo .cache/venv/bin/clang-format
}

check_scripts() {
  local script result=0
  git ls-files -z '*.py' | xargs -0 -r python3 -W error -c '
import ast, sys
for path in sys.argv[1:]:
    compile(open(path, encoding="utf-8").read(), path, "exec", ast.PyCF_ONLY_AST)' || result=1
  for script in $(git ls-files '*.sh' .ci/run); do bash -n "$script" || result=1; done
  if command -v shellcheck >/dev/null; then
    git ls-files -z '*.sh' .ci/run | xargs -0 -r shellcheck --severity=warning || result=1
  fi
  return $result
}

check_format() {
  # shellcheck disable=SC2016
  git ls-files -z '*.cc' '*.h' | xargs -0 -r -n 1 -P "$(nproc)" bash -c \
    '"$0" --dry-run -Werror "$1" 2>/dev/null || { echo "$0 -i $1"; exit 1; }' "$1"
}

# The files that this build compiles, of those changed since the base.
tidy_files() {
  local base=${LINT_BASE:-HEAD~1}
  if [ "${1:-}" = --all ] || ! git rev-parse -q --verify "$base^{commit}" >/dev/null; then
    git ls-files '*.cc'
  else
    { git diff --name-only --diff-filter=d "$base" -- '*.cc'; git ls-files -o --exclude-standard '*.cc'; }
  fi | sort -u | while read -r file; do
    if grep -qF "\"file\": \"$PWD/$file\"" "$build/compile_commands.json"; then echo "$file"; fi
  done
}

check_tidy() {
  local tidy=$1
  shift
  # GCC's own flags in the compile commands mean nothing to Clang.
  printf '%s\0' "$@" | xargs -0 -n 1 -P "$(nproc)" "$tidy" -p "$build" --quiet \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-ignored-optimization-argument 2>&1 |
    grep -v ' warnings\? generated\.$'
  return "${PIPESTATUS[1]}"
}

step format check_format "$(find_clang_format)"
step includes tools/check_includes.py
step scripts check_scripts
if [ -x web/node_modules/.bin/prettier ]; then
  step "web format" bash -c "cd web && node_modules/.bin/prettier --check --log-level warn ."
fi

[ "${1:-}" = --quick ] && exit $failed
tidy=$(command -v clang-tidy-14 || command -v clang-tidy || true)
if [ -z "$tidy" ]; then
  echo "lint: clang-tidy: left out, not installed (the package clang-tidy has it)"
elif [ ! -f "$build/compile_commands.json" ]; then
  echo "lint: clang-tidy: left out, $build/compile_commands.json is not there (make build)"
else
  mapfile -t files < <(tidy_files "${1:-}")
  if [ ${#files[@]} -gt 0 ]; then
    step "clang-tidy (${#files[@]} files)" check_tidy "$tidy" "${files[@]}"
  fi
fi
exit $failed
