#!/usr/bin/env bash
# npm run release -- VERSION [--no-packages]: makes a release of what is committed. The version goes where it is written, what is
# unreleased in the changelog gets its heading, both are committed and tagged, and dist/ has the packages for every machine with
# their checksums and their bill of materials. Nothing is pushed: the last lines say how.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'weft: %s\n      %s\n' "$1" "$2" >&2; exit 1; }

version=${1:-}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || fail "\"$version\" is no version" 'Usage: npm run release -- 1.2.3'
[ -z "$(git status --porcelain)" ] || fail 'there are changes that are not committed' 'Commit them, or put them aside.'
! git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || fail "v$version is there already" 'Take the next version.'
last=$(git tag --list 'v[0-9]*' --merged HEAD --sort=-version:refname | head -n 1)
[ -z "$last" ] || [ "$(printf '%s\n' "${last#v}" "$version" | sort -V | tail -n 1)" = "$version" ] ||
  fail "$version is before ${last#v}, the last release" 'Take a higher one.'
# Between its heading and the next.
unreleased=$(awk '/^## / { on = ($0 == "## [Unreleased]"); next } on' CHANGELOG.md)
[ -n "${unreleased//[[:space:]]/}" ] || fail 'CHANGELOG.md has nothing below [Unreleased]' 'Write what people will notice.'

date=$(date -u +%F)
sed -i "s/^## \[Unreleased\]\$/&\n\n## [$version] - $date/" CHANGELOG.md
if [ "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)" != "$version" ]; then
  npm version --silent --no-git-tag-version --allow-same-version "$version" >/dev/null
fi
sed -i "s/^version=.*/version=$version/" bin/weft-cni bin/weft-netavark
git commit --quiet -am "release: $version"
# Signed, where git has a key for it.
if git config user.signingkey >/dev/null; then sign=--sign; else sign=--annotate; fi
git tag "$sign" -m "weft $version" "v$version"
echo "v$version is committed and tagged."

if [ "${2:-}" != --no-packages ]; then
  bash scripts/package.sh x64 arm64
  (cd dist && sha256sum --check --quiet SHA256SUMS)
fi
cat <<NEXT
Next:
  git push --follow-tags
  and dist/ goes beside the tag: the packages, SHA256SUMS, and the bill of materials (*.cdx.json).
NEXT
