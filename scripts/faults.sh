#!/usr/bin/env bash
# The fault suite in full: every line with the waits that its requirement names, then the table of all of them.
#   npm run test:faults -- [--short] [--repeat N] [LINE…]     LINE: part of a line's or a lane's name
set -uo pipefail
cd "$(dirname "$0")/.."

form=full repeat=1 lines=()
while [ $# -gt 0 ]; do
  case "$1" in
    --short) form=short ;;
    --repeat) repeat=${2:?--repeat needs a number}; shift ;;
    --*) echo "faults: $1: unknown; there are --short, --repeat N and LINE" >&2; exit 2 ;;
    *) lines+=("$1") ;;
  esac
  shift
done
[[ $repeat =~ ^[1-9][0-9]*$ ]] || { echo "faults: --repeat $repeat: not a number of runs" >&2; exit 2; }

sweep() { node build/test/lab/sweep.js; }
table=$(mktemp) log=$(mktemp)
trap 'rm -f "$table" "$log"; sweep' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
sweep

lanes=() crowds=() match=()
for line in ${lines[@]+"${lines[@]}"}; do
  # A lane is a file; everything else is part of a line's name.
  if [ -f "test/cluster/faults/$line.test.ts" ]; then lanes+=("test/cluster/faults/$line.test.ts")
  elif [ -f "test/cluster/faults/crowds/$line.test.ts" ]; then crowds+=("test/cluster/faults/crowds/$line.test.ts")
  else match+=(--match "*$line*"); fi
done

status=0 none=0
# run FILES-AT-A-TIME FILE…
run() {
  local code
  WEFT_FAULTS=$form WEFT_FAULTS_TABLE=$table \
    node_modules/.bin/ava --timeout 30m --concurrency "$1" ${match[@]+"${match[@]}"} "${@:2}" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  # A line that one of the two does not have may be the other's.
  if [ "$code" != 0 ] && grep -q "find any matching tests" "$log"; then none=$((none + 1)); else status=$((status | code)); fi
}
# Round by round, with new hosts each time: an agent that sees the same damage ten times in a row takes it for a dispute, and
# does not go on repairing it at once.
for ((round = 1; round <= repeat; round++)); do
  none=0
  # The faults two at a time. What fills a machine by itself is in crowds: beside it a lane would measure the machine.
  if [ ${#lanes[@]} -gt 0 ]; then run 2 "${lanes[@]}"; elif [ ${#crowds[@]} = 0 ]; then run 2 'test/cluster/faults/*.test.ts'; fi
  if [ ${#crowds[@]} -gt 0 ]; then run 1 "${crowds[@]}"; elif [ ${#lanes[@]} = 0 ]; then run 1 'test/cluster/faults/crowds/*.test.ts'; fi
  if [ "$none" = 2 ]; then echo "faults: no line or lane has that in its name" >&2; exit 1; fi
done
node build/test/cluster/faults/table.js "$table"
exit "$status"
