#!/usr/bin/env bash
# npm run bench [NAME…]: prepares what is needed, then measures. WEFT_BENCH_ROUNDS says how often (200).
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/prepare.sh --test
trap 'node build/test/lab/sweep.js' EXIT
status=0
[ $# -gt 0 ] || set -- attach names ports docker cni start security policy backends package
case " $* " in *' package '*) bash scripts/package.sh --out dist/test >/dev/null ;; esac
for bench in "$@"; do node "build/test/bench/$bench.js" || status=1; done
exit "$status"
