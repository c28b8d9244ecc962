#!/usr/bin/env bash
# Makes roots of Debian 12 and 13 in node_modules/.cache/weft-debian, for `npm run test:package`: what a small installation has,
# and what weft's package depends on. Nothing of them is started. With --check it only says, in one line on stdout, why they are
# not there; it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/node_modules/.cache/weft-debian
missing=()
for release in bookworm trixie; do [ -x "$folder/$release/usr/sbin/iptables" ] || missing+=("$release"); done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "${1:-}" = --check ]; then
  echo "there is no root of Debian ${missing[*]} (bash scripts/debian-roots.sh)"
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
for release in "${missing[@]}"; do
  rm -rf "$fresh"
  debootstrap --variant=minbase --include=libnftables1,iptables,etcd-server,iproute2,man-db "$release" "$fresh"
  rm -rf "$fresh/var/cache/apt" "$fresh/var/lib/apt/lists" "${folder:?}/$release"
  mv "$fresh" "$folder/$release"
done
