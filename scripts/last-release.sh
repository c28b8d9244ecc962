#!/usr/bin/env bash
# Builds the last release from the repository's own tag, for `npm run test:upgrade`: in node_modules/.cache/weft-release. With
# --check it only says, in one line on stdout, why it is not there; it exits 1 then. --path prints where it is.
set -euo pipefail
cd "$(dirname "$0")/.."

# The newest tag before this commit; 0.1.0 is the commit that was it where a clone has no tags.
FIRST=7ff0ecc
tag=$(git tag --list 'v[0-9]*' --merged HEAD --no-contains HEAD --sort=-version:refname | head -n 1)
commit=$(git rev-parse --verify --quiet "${tag:-$FIRST}^{commit}") || {
  echo "this clone has neither a tag of a release nor the commit of 0.1.0 ($FIRST)"
  exit 1
}
folder=$PWD/node_modules/.cache/weft-release/$commit

case ${1:-} in
--path) echo "$folder" && exit ;;
--check)
  [ ! -e "$folder/build/bundled" ] || exit 0
  echo "the last release (${tag:-0.1.0}) is not built (bash scripts/last-release.sh)"
  exit 1
  ;;
esac

# Whole or not at all: what was interrupted must not look done.
fresh=$folder.$$
trap 'rm -rf "$fresh"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$fresh"
git archive "$commit" | tar -xf - -C "$fresh"
(cd "$fresh" && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build)
rm -rf "$folder"
mv "$fresh" "$folder"
