#!/bin/sh
# Installs weft below /usr/local, or updates it there: ./install.sh, as root. Takes it away again: ./install.sh --uninstall
# --root DIR puts everything below DIR: an image, a disk of another host.
set -eu
cd "$(dirname "$0")"

fail() {
  printf 'weft: %s\n      %s\n' "$1" "$2" >&2
  exit 1
}

root= action=install
while [ $# -gt 0 ]; do
  case $1 in
  --uninstall) action=uninstall ;;
  --root)
    [ $# -gt 1 ] || fail '--root: has no value' 'Name the folder.'
    root=${2%/}
    shift
    ;;
  *) fail "$1: not known" 'Usage: ./install.sh [--uninstall] [--root DIR]' ;;
  esac
  shift
done
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail 'this writes to /usr/local and /etc' 'Run it as root, or with sudo.'

has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Where each file of the archive goes.
places() {
  (cd prefix && find . -type f) | sed "s|^\./\(.*\)|prefix/\1 $root/usr/local/\1|"
  (cd etc && find . -type f) | sed "s|^\./\(.*\)|etc/\1 $root/etc/\1|"
}

if [ "$action" = uninstall ]; then
  [ ! -e "$root/etc/weft/setup.json" ] || fail 'this host is in a cluster' 'Take it out first: weft leave'
  places | while read -r _ to; do rm -f "$to"; done
  rm -rf "$root/usr/local/lib/weft" "$root/usr/local/share/doc/weft"
  echo 'weft is not installed any more.'
  exit
fi

case $(uname -m):$(ls prefix/lib/weft/netlink/prebuilds) in
x86_64:linux-x64 | aarch64:linux-arm64) ;;
*) [ -n "$root" ] || fail "this archive is not for $(uname -m)" 'Take the one for this machine.' ;;
esac
if [ -z "$root" ]; then
  ldconfig -p 2>/dev/null | grep -q 'libnftables\.so\.1' || ls /usr/lib*/libnftables.so.1 >/dev/null 2>&1 ||
    echo 'weft: libnftables is not there, which the agent needs: install nftables (Fedora, RHEL, SUSE), or iptables alone.' >&2
fi
places | while read -r from to; do
  mkdir -p "$(dirname "$to")"
  # A program that runs keeps the file that it has.
  cp "$from" "$to.new"
  mv -f "$to.new" "$to"
done
if has_systemd; then
  for unit in weft-controller weft-agent; do systemctl try-restart $unit.service 2>/dev/null || true; done
fi
echo 'weft is installed. Next: weft init, or weft join as the first host has printed it.'
