#!/usr/bin/env bash
# chromium.sh [--check]: installs Debian's Chromium, which the tests of the page drive. With --check it only says, in one line on
# stdout, why it is not there; it exits 1 then. Ubuntu has it only as a snap, which a test cannot drive in a namespace.
set -euo pipefail

if [ "${1:-}" = --check ]; then
  command -v chromium >/dev/null || { echo 'there is no Chromium (Debian: chromium)'; exit 1; }
  exit 0
fi

command -v apt-get >/dev/null || { echo 'weft: Chromium is not here, and there is no apt-get' >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 chromium
