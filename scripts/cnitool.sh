#!/usr/bin/env bash
# Builds CNI's own client (cnitool, Apache-2.0) into node_modules/.cache/weft-cni, where there is Go; nothing is installed. With
# --check it only says, in one line on stdout, why it is not there; it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/node_modules/.cache/weft-cni
version=v1.3.0

# Go's own installer puts it here, and in no PATH.
PATH=$PATH:/usr/local/go/bin
if [ "${1:-}" = --check ]; then
  [ ! -x "$folder/$version/cnitool" ] || exit 0
  command -v go >/dev/null || { echo 'there is no Go to build cnitool with'; exit 1; }
  echo 'cnitool is not there (bash scripts/cnitool.sh)'
  exit 1
fi

command -v go >/dev/null || { echo 'weft: there is no Go to build cnitool with' >&2; exit 1; }
# Whole or not at all: what was interrupted must not look done.
work=$(mktemp -d "${TMPDIR:-/tmp}/weft-cnitool.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
(cd "$work" && CGO_ENABLED=0 GOBIN=$work GOPATH=$work/go GOCACHE=$work/cache GOFLAGS=-modcacherw \
  go install "github.com/containernetworking/cni/cnitool@$version")
mkdir -p "$folder/$version"
mv "$work/cnitool" "$folder/$version/cnitool"
