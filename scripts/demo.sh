#!/usr/bin/env bash
# npm run demo: prepares what is needed, then shows two hosts talk.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
  *' --help '*) ;;
  *) bash scripts/prepare.sh --demo ;;
esac
exec node build/test/demo/main.js "$@"
