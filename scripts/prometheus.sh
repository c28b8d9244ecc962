#!/usr/bin/env bash
# Leaves Debian's Prometheus and promtool in node_modules/.cache/weft-prometheus, for `npm run test:prometheus`: 100 MB; nothing is
# installed, and no service is made. With --check it only says, in one line on stdout, why they are not there; it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/node_modules/.cache/weft-prometheus
if [ "${1:-}" = --check ]; then
  [ ! -x "$folder/promtool" ] || exit 0
  echo 'there is no Prometheus (bash scripts/prometheus.sh)'
  exit 1
fi

for program in apt-get dpkg-deb; do
  command -v "$program" >/dev/null || { echo "weft: there is no $program to fetch Prometheus with" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# apt-get downloads as a user of its own, who must be able to write here.
chmod 755 "$work" && mkdir "$work/deb" && { chown _apt "$work/deb" 2>/dev/null || true; }
(cd "$work/deb" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; })
dpkg-deb --extract "$work/deb/"*.deb "$work/files"
# Whole or not at all: what was interrupted must not look done.
rm -rf "$folder.fresh" "$folder"
mkdir -p "$folder.fresh"
mv "$work/files/usr/bin/prometheus" "$work/files/usr/bin/promtool" "$folder.fresh/"
mv "$folder.fresh" "$folder"
