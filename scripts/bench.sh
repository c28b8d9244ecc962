#!/usr/bin/env bash
# npm run bench [NAME…] [-- FLAG…]: prepares what is needed, then measures. WEFT_BENCH_ROUNDS says how often (200). What begins
# with a flag is for the benches that are named.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/prepare.sh --test
trap 'node build/test/lab/sweep.js' EXIT
status=0
names=()
while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do names+=("$1") && shift; done
[ ${#names[@]} -gt 0 ] || names=(attach names ports docker cni start security policy backends package)
case " ${names[*]} " in *' clouds '*) bash scripts/moto.sh --check >/dev/null || bash scripts/moto.sh ;; esac
case " ${names[*]} " in *' package '*) bash scripts/package.sh --out dist/test >/dev/null ;; esac
for bench in "${names[@]}"; do node "build/test/bench/$bench.js" "$@" || status=1; done
exit "$status"
