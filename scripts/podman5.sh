#!/usr/bin/env bash
# Makes a root of Debian 13 with podman 5 and netavark in node_modules/.cache/weft-podman5, for `npm run test:podman`: 480 MB, in
# a minute or two. Nothing of it is installed or started. With --check it only says, in one line on stdout, why it is not there;
# it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/node_modules/.cache/weft-podman5
if [ "${1:-}" = --check ]; then
  [ ! -x "$folder/root/usr/bin/podman" ] || exit 0
  echo 'there is no root with podman 5 (bash scripts/podman5.sh)'
  exit 1
fi

[ "$(id -u)" = 0 ] || { echo 'weft: this needs root: debootstrap makes device files' >&2; exit 1; }
if ! command -v debootstrap >/dev/null; then
  command -v apt-get >/dev/null || { echo 'weft: there is no debootstrap' >&2; exit 1; }
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends debootstrap
fi
# Whole or not at all: what was interrupted must not look done.
fresh=$folder/fresh.$$
trap 'rm -rf "$fresh"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$folder"
debootstrap --variant=minbase --include=podman,netavark,runc,nftables trixie "$fresh"
rm -rf "$fresh/var/cache/apt" "$folder/root"
mv "$fresh" "$folder/root"
