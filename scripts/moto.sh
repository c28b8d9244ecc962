#!/usr/bin/env bash
# Makes a Python environment with moto's EC2 server (Apache-2.0) in node_modules/.cache/weft-moto, for `npm run test:clouds`:
# 320 MB; nothing is installed. With --check it only says, in one line on stdout, why it is not there; it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/node_modules/.cache/weft-moto
version=5.2.5
if [ "${1:-}" = --check ]; then
  [ ! -x "$folder/bin/moto_server" ] || exit 0
  echo "there is no moto's EC2 server (bash scripts/moto.sh)"
  exit 1
fi

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  command -v apt-get >/dev/null || { echo 'weft: there is no Python with venv to run moto with' >&2; exit 1; }
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends python3-venv
fi
# Whole or not at all: what was interrupted must not look done.
trap 'rm -rf "$folder.fresh"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$(dirname "$folder")"
rm -rf "$folder.fresh" "$folder"
python3 -m venv "$folder.fresh"
"$folder.fresh/bin/python" -m pip install --quiet --disable-pip-version-check "moto[ec2,server]==$version"
mv "$folder.fresh" "$folder"
# Its programs name the folder that they were made in.
sed -i "1s|^#!.*|#!$folder/bin/python|" "$folder/bin/moto_server"
