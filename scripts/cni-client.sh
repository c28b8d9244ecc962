#!/usr/bin/env bash
# cni-client.sh NAME [--check]: builds a client of CNI's (cnitool, crictl; both Apache-2.0) into node_modules/.cache/weft-cni, where
# there is Go; nothing is installed. With --check it only says, in one line on stdout, why it is not there; it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:-}
case $name in
cnitool) module=github.com/containernetworking/cni/cnitool version=v1.3.0 ;;
crictl) module=sigs.k8s.io/cri-tools/cmd/crictl version=v1.34.0 ;;
*) echo 'weft: cni-client.sh cnitool|crictl [--check]' >&2; exit 2 ;;
esac
program=$PWD/node_modules/.cache/weft-cni/$version/$name

# Go's own installer puts it here, and in no PATH.
PATH=$PATH:/usr/local/go/bin
if [ "${2:-}" = --check ]; then
  [ ! -x "$program" ] || exit 0
  command -v go >/dev/null || { echo "there is no Go to build $name with"; exit 1; }
  echo "$name is not there (bash scripts/cni-client.sh $name)"
  exit 1
fi

command -v go >/dev/null || { echo "weft: there is no Go to build $name with" >&2; exit 1; }
# Whole or not at all: what was interrupted must not look done.
work=$(mktemp -d "${TMPDIR:-/tmp}/weft-$name.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# With Go's usual caches: another checkout has it in seconds.
(cd "$work" && CGO_ENABLED=0 GOBIN=$work go install "$module@$version")
mkdir -p "$(dirname "$program")"
mv "$work/$name" "$program"
