#!/usr/bin/env bash
# npm run bench: prepares what is needed, then measures. WEFT_BENCH_ROUNDS says how often (200).
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/prepare.sh --test
trap 'node build/test/lab/sweep.js' EXIT
failed=0
node build/test/bench/attach.js "$@" || failed=1
node build/test/bench/ports.js || failed=1
exit "$failed"
