#!/usr/bin/env bash
# Generates the TypeScript types from proto/; with --check it only compares, and fails where they differ.
set -euo pipefail
cd "$(dirname "$0")/../proto"
buf=../node_modules/.bin/buf
"$buf" lint --config '{"version":"v2","lint":{"use":["MINIMAL"],"except":["PACKAGE_DIRECTORY_MATCH"]}}'
if [ "${1:-}" != --check ]; then
  exec "$buf" generate
fi
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$buf" generate --output "$fresh"
if ! diff -r "$fresh/gen" gen; then
  echo 'proto/gen is not what the .proto files say. Run: npm run generate' >&2
  exit 1
fi
echo 'proto/gen is what the .proto files say.'
