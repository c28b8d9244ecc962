#!/usr/bin/env bash
# Runs every test that this machine's kernel allows: first the parts, then whole clusters. Arguments name single test files.
# The last line counts them all.
set -uo pipefail
cd "$(dirname "$0")/.."

sweep() { node build/test/lab/sweep.js; }
log=$(mktemp)
trap 'rm -f "$log"; sweep' EXIT
trap 'exit 130' INT TERM
sweep

ip link add wtprobe type vxlan id 1 dstport 0 2>/dev/null && ip link del wtprobe ||
  echo 'Not run: tests of the kernel and of clusters will fail, for this kernel has no vxlan.'
command -v "${WEFT_FLANNELD:-flanneld}" >/dev/null ||
  echo 'Not run: nodes beside a real flanneld, for there is none on the PATH (WEFT_FLANNELD names one).'

passed=0 failed=0 status=0
run() {
  node_modules/.bin/ava "$@" 2>&1 | tee "$log"
  local code=${PIPESTATUS[0]}
  # ava writes a line for each test, and ends with lines such as "1 test failed".
  local good bad
  good=$(grep -c '^ *✔ ' "$log")
  bad=$(sed -nE 's/^ *([0-9]+) (tests? failed|hooks? failed|uncaught exceptions?|unhandled rejections?).*/\1/p' "$log" | tail -1)
  if [ "$code" = 0 ]; then bad=0; elif [ "${bad:-0}" = 0 ]; then bad=1; fi
  passed=$((passed + ${good:-0}))
  failed=$((failed + bad))
  [ "$code" = 0 ] || status=1
}

if [ $# -gt 0 ]; then
  case "$*" in
    *test/cluster/*) run --config cluster.ava.config.js "$@" ;;
    *) run "$@" ;;
  esac
else
  run
  run --config cluster.ava.config.js
fi
[ "$passed" -gt 0 ] || status=1
echo
echo "$passed passed, $failed failed"
exit "$status"
