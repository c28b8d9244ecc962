#!/usr/bin/env bash
# Makes Debian's own kernel ready for the tests on another kernel (test/vm), in node_modules/.cache/weft-vm: the kernel, the
# modules that a host of weft may want, and a first root that test/vm/init.sh starts in. Nothing is installed. With --check
# it only says, in one line on stdout, why this machine cannot run them; it exits 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/node_modules/.cache/weft-vm
# Their order is the order of loading; what they need is loaded before them.
first_modules='virtio_pci virtio_console virtio_net 9pnet_virtio 9p overlay'

# Whether the first root is made of what is here now.
fresh() { [ "$cache/initrd" -nt test/vm/init.sh ] && [ "$cache/initrd" -nt scripts/vm-kernel.sh ]; }

why_not() {
  local program
  [ "$(uname -m)" = x86_64 ] || { echo "this is $(uname -m), and only the kernel for x86_64 is tried"; return; }
  for program in qemu-system-x86_64 busybox cpio xz dpkg-deb apt-get tcpdump; do
    command -v "$program" >/dev/null || { echo "there is no $program here"; return; }
  done
  # Their cables end here.
  unshare --net ip tuntap add probe mode tap 2>/dev/null || { echo 'this kernel makes no tap device here'; return; }
  # The kernel starts it when nothing else is there yet.
  if ldd "$(command -v busybox)" >/dev/null 2>&1; then echo 'busybox is not the static one (Debian: busybox-static)'; return; fi
  [ "${1:-}" = before ] || { [ -s "$cache/image" ] && fresh; } || echo "Debian's kernel is not there (bash scripts/vm-kernel.sh)"
}

if [ "${1:-}" = --check ]; then
  why=$(why_not)
  [ -z "$why" ] && exit 0
  echo "$why"
  exit 1
fi

why=$(why_not before)
[ -z "$why" ] || { echo "weft: the tests on another kernel are not for this machine: $why" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work" "$cache.$$"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Leaves kernel and modules of a package in $cache, whole or not at all: what was interrupted must not look done.
fetch() {
  local deb version modules packed offset part wanted
  # apt-get downloads as a user of its own, who must be able to write here.
  chmod 755 "$work" && mkdir "$work/deb" && { chown _apt "$work/deb" 2>/dev/null || true; }
  (cd "$work/deb" && apt-get download -qq "$1")
  deb=$(echo "$work/deb/"*.deb)
  wanted=(--wildcards './boot/vmlinuz-*' '*/lib/modules/*/modules.*')
  for part in net lib crypto arch fs/9p fs/netfs fs/fscache fs/overlayfs drivers/virtio drivers/char/virtio_console drivers/net; do
    wanted+=("*/lib/modules/*/kernel/$part*")
  done
  mkdir "$work/root" "$work/new"
  # Drivers for real cards are most of what there is. tar complains about a pattern that nothing matched (what is built in);
  # whether all is there shows below.
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" \
    --exclude='*/drivers/net/ethernet/*' --exclude='*/drivers/net/wireless/*' --exclude='*/drivers/net/wwan/*' \
    --exclude='*/drivers/net/usb/*' --exclude='*/drivers/net/can/*' --exclude='*/drivers/net/phy/*' "${wanted[@]}" \
    2>/dev/null || true
  [ -d "$work/root/lib/modules" ] || mv "$work/root/usr/lib" "$work/root/lib"
  find "$work/root/lib/modules" -name '*.ko.xz' -exec xz -d {} +
  version=$(ls "$work/root/lib/modules")
  busybox depmod -b "$work/root" "$version"

  # The ELF image in the packed kernel starts without the BIOS and without unpacking itself, which in an emulator saves
  # seconds. Where it is not packed by xz, the packed kernel starts as well.
  packed=$work/root/boot/vmlinuz-$version
  for offset in $(LC_ALL=C grep -obUaP '\xfd7zXZ\x00' "$packed" | cut -d: -f1); do
    tail -c "+$((offset + 1))" "$packed" | xz -dc >"$work/new/vmlinux" 2>/dev/null || true
    [ "$(head -c 4 "$work/new/vmlinux" | tail -c 3)" = ELF ] && break
    rm "$work/new/vmlinux"
  done
  [ -s "$work/new/vmlinux" ] || cp "$packed" "$work/new/vmlinux"

  mv "$work/root/lib/modules" "$work/new/modules"
  echo "$1" >"$work/new/image"
  mkdir -p "$(dirname "$cache")"
  cp -r "$work/new" "$cache.$$"
  rm -rf "$cache"
  mv "$cache.$$" "$cache"
}

# The first root: busybox, what leads to the host's files, and the program that goes there.
make_initrd() {
  local root=$work/initrd module
  modules=$(echo "$cache"/modules/*)
  mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev" "$root/host" "$root/own" "$root/root"
  cp "$(command -v busybox)" "$root/bin/busybox"
  install -m 755 test/vm/init.sh "$root/init"
  : >"$root/modules/order"
  for module in $first_modules; do add_module "$root/modules" "$module"; done
  [ -s "$root/modules/9p.ko" ] || { echo 'weft: this kernel has no 9p file system' >&2; exit 1; }
  (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd.gz"
  mv "$work/initrd.gz" "$cache/initrd"
}

add_module() {
  local line path need
  # One that is built in has no line.
  line=$(grep -E "(^|/)$2\.ko:" "$modules/modules.dep") || return 0
  path=${line%%:*}
  for need in ${line#*:}; do add_module "$1" "$(basename "$need" .ko)"; done
  grep -qxF "$2.ko" "$1/order" && return 0
  cp "$modules/$path" "$1/"
  echo "$2.ko" >>"$1/order"
}

# The metapackage leads to the kernel that the mirror has now; a version written down here would soon be gone. Where there
# are no package lists, the kernel that is there is good enough.
image=$(LC_ALL=C apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -1)
have=$(cat "$cache/image" 2>/dev/null || true)
if [ -z "$image$have" ]; then
  echo 'weft: there is no package linux-image-amd64 that leads to a kernel' >&2
  exit 1
fi
[ -z "$image" ] || [ "$image" = "$have" ] || fetch "$image"
fresh || make_initrd
