#!/usr/bin/env bash
# Runs every test that this machine's kernel allows: first the parts, then whole clusters. Arguments name single test files,
# or are ava's. The last line counts them all.
set -uo pipefail
cd "$(dirname "$0")/.."

sweep() { node build/test/lab/sweep.js; }
log=$(mktemp)
trap 'rm -f "$log"; sweep' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
sweep

not_run=()
only_parts=()
# In a namespace of its own, so that two runs do not meet.
if ! why=$(unshare --net ip link add probe type vxlan id 1 dstport 4789 2>&1); then
  not_run+=("the tests of the kernel and of clusters: this kernel makes no vxlan device here ($why)")
  only_parts=('test/core/**' 'test/store/**' 'test/daemon/**' 'test/controller/**' 'test/cli/**' 'test/fakes/**' 'test/fuzz/**')
fi

passed=0 failed=0 status=0
run() {
  local code good bad
  node_modules/.bin/ava "$@" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  # ava marks what passed, and ends with a rule and lines such as "1 test failed", "1 hook failed", "1 uncaught exception".
  read -r good bad < <(sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^ +✔ / { good++ }
    /^ *─+ *$/ { bad = 0 }
    /^ *[0-9]+ (tests?|hooks?) failed/ || /^ *[0-9]+ (uncaught exceptions?|unhandled rejections?)/ { bad += $1 }
    END { print good + 0, bad + 0 }')
  # A run that was cut short, or found nothing to run, says no number.
  if [ "$code" = 0 ]; then bad=0; elif [ "$bad" = 0 ]; then bad=1; fi
  passed=$((passed + good))
  failed=$((failed + bad))
  [ "$code" = 0 ] || status=1
  mapfile -t -O "${#not_run[@]}" not_run < <(sed -nE 's/\x1b\[[0-9;]*m//g; s/^ *- \[skip\] //p' "$log")
}

if [ $# -gt 0 ]; then
  case "$*" in
    *test/cluster/*) run --config cluster.ava.config.js "$@" ;;
    *) run "$@" ;;
  esac
else
  run ${only_parts[@]+"${only_parts[@]}"}
  [ ${#only_parts[@]} -gt 0 ] || run --config cluster.ava.config.js
fi

if [ ${#not_run[@]} -gt 0 ]; then
  printf '\nNot run on this machine:\n'
  printf '  %s\n' "${not_run[@]}"
fi
[ "$passed" -gt 0 ] || status=1
echo
echo "$passed passed, $failed failed"
exit "$status"
