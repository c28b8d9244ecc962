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
table=$(mktemp)
trap 'rm -f "$table"; sweep' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
sweep

files=() match=()
for line in ${lines[@]+"${lines[@]}"}; do
  # A lane is a file; everything else is part of a line's name.
  if [ -f "test/cluster/faults/$line.test.ts" ]; then files+=("test/cluster/faults/$line.test.ts"); else match+=(--match "*$line*"); fi
done
[ ${#files[@]} -gt 0 ] || files=('test/cluster/faults/**/*.test.ts')
WEFT_FAULTS=$form WEFT_FAULTS_REPEAT=$repeat WEFT_FAULTS_TABLE=$table \
  node_modules/.bin/ava --config faults.ava.config.js --timeout 30m ${match[@]+"${match[@]}"} "${files[@]}"
status=$?
node build/test/cluster/faults/table.js "$table"
exit "$status"
