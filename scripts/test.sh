#!/usr/bin/env bash
# All tests; the last line counts them over all test binaries, and what could not run here is told before it.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
sum() { grep -E '^test result:' "$log" | grep -oE "[0-9]+ $1" | awk '{n += $1} END {print n + 0}'; }
grep -oE 'SKIPPED: .*' "$log" | sort | uniq -c
missing=$(grep -cE 'SKIPPED: ' "$log")
echo "$(($(sum passed) - missing)) passed, $(sum failed) failed, $(($(sum ignored) + missing)) skipped"
exit "$status"
