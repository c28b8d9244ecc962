#!/bin/busybox sh
# The first program of a virtual machine of the tests. It makes a root of the host's files, read-only below a layer in memory,
# changes into it, and there starts the program that runs the tests' commands (test/vm/guest.ts).
b=/bin/busybox

if [ "${1:-}" != inside ]; then
  $b mount -t proc proc /proc
  $b mount -t sysfs sys /sys
  $b mount -t devtmpfs dev /dev
  for module in $($b cat /modules/order); do $b insmod "/modules/$module"; done
  how=trans=virtio,version=9p2000.L,msize=512000
  $b mount -t 9p -o "$how,ro,cache=loose" host /host || exit 1
  $b mount -t tmpfs -o size=75% own /own
  $b mkdir -p /own/upper/vm/share /own/work
  $b cp -a /bin /init /own/upper/vm/
  $b mount -t overlay -o lowerdir=/host,upperdir=/own/upper,workdir=/own/work root /root || exit 1
  for folder in proc sys dev; do $b mount --move "/$folder" "/root/$folder"; done
  $b mount -t 9p -o "$how,cache=none" share /root/vm/share || exit 1
  exec $b switch_root /root /vm/init inside
fi

b=/vm/bin/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
$b mount -t tmpfs run /run
# Nor anything of a weft that runs on the host itself: what is deleted here is hidden by the layer in memory.
$b rm -rf /var/lib/weft* /var/lib/private/weft* /etc/weft /etc/systemd/system/weft-* /etc/systemd/system/*.wants/weft-*
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts pts /dev/pts
$b mount -t tmpfs shm /dev/shm
systemd=
for word in $($b cat /proc/cmdline); do
  case $word in
    weft.name=*) name=${word#*=} ;;
    weft.systemd=*) systemd=${word#*=} ;;
  esac
done
# Written by the host: node, program, modules, ip, ip6, gateway, gateway6.
. "/vm/share/$name.env"
# Not kmod, which a small Debian has not.
$b ln -sf $b /usr/sbin/modprobe
$b rm -rf /usr/lib/modules
$b ln -s "$modules" /usr/lib/modules
$b hostname "$name"
$b ip link set lo up
$b ip link set eth0 up
$b ip addr add "$ip/24" dev eth0
$b ip -6 addr add "$ip6/64" dev eth0 nodad 2>/dev/null || $b ip -6 addr add "$ip6/64" dev eth0
$b ip route add default via "$gateway"
$b ip -6 route add default via "$gateway6"
if [ -n "$systemd" ]; then
  # The program is a service of a target of its own, without the services that the host has enabled.
  $b mkdir -p /run/systemd/system
  {
    echo '[Unit]'
    echo 'AllowIsolate=yes'
    echo 'Requires=basic.target weft-test.service'
    echo 'After=basic.target'
  } >/run/systemd/system/weft-test.target
  {
    echo '[Service]'
    echo "ExecStart=\"$node\" \"$program\""
    echo "Environment=PATH=$PATH HOME=$HOME"
    echo "StandardOutput=append:/vm/share/$name.guest.log"
    echo "StandardError=append:/vm/share/$name.guest.log"
  } >/run/systemd/system/weft-test.service
  # It would take the machine for a container, and its words for somebody else's.
  $b rm -f /.dockerenv
  [ -s /etc/machine-id ] || echo 00000000000000000000000000000001 >/etc/machine-id
  exec "$systemd"
fi
# A shell that waits here takes over and reaps what others leave behind.
"$node" "$program" </dev/null >"/vm/share/$name.guest.log" 2>&1
echo "the guest's program ended: $?"
$b poweroff -f
