#!/usr/bin/env bash
# Makes a fresh Debian or Ubuntu with Node.js ready: system packages, npm packages, build. What is there already is not done
# again, and two that run at once wait for each other. With --test also what the tests need. With --build only the build: that
# needs neither root nor network.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'weft: %s\n      %s\n' "$1" "$2" >&2; exit 1; }
step() { printf '%s … ' "$1"; began=$SECONDS; }
done_() { printf 'done (%d s)\n' $((SECONDS - began)); }

mode=${1:-}
[ "$mode" = --build ] || [ "$(id -u)" = 0 ] ||
  fail 'this needs root: it makes network namespaces' 'Run it as root, or with sudo. Without root there is npm run test:unit.'
command -v node >/dev/null || fail 'there is no Node.js' 'Install Node.js 20 or newer with npm.'
node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' ||
  fail "Node.js $(node --version) is too old" 'Install Node.js 20 or newer.'
command -v npm >/dev/null || fail 'there is no npm' 'Install npm.'

log=$(mktemp)
# Runs a step's command with its output put aside, and shows that only where it fails. It has the lock, too: should only this
# script be ended, the next one waits until the command has let go of what it writes.
quietly() {
  "$@" >"$log" 2>&1 </dev/null && return
  printf 'failed\n' && cat "$log" >&2
  fail "$* failed" 'Its words are above.'
}

# A lock on a folder leaves no file behind.
lock() { flock -n 9 || { echo 'Waiting for another preparation to end …'; flock 9; }; }

# Debian's etcd-server, docker.io, firewalld, keepalived and ufw start a service at installation, and have it started at every boot; weft
# and its tests start their own.
policy=/usr/sbin/policy-rc.d
aside=$policy.before-weft
mark='# weft: while packages are installed, no service is started'
forbid_services() {
  [ ! -e "$policy" ] || mv "$policy" "$aside"
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
}
allow_services() {
  # Only what we made is taken away, also what a killed preparation left.
  if [ -e "$policy" ] && grep -qxF "$mark" "$policy"; then rm -f "$policy"; fi
  if [ -e "$aside" ] && [ ! -e "$policy" ]; then mv "$aside" "$policy"; fi
}
# disable NAME UNIT…: the init script and the units of a package.
disable() {
  local name=$1 unit
  shift
  for unit in "$@"; do
    if command -v systemctl >/dev/null; then systemctl disable --quiet "$unit" >/dev/null 2>&1 || true; fi
    # Where there is no systemd now, there may be one later: the links that enable the service are made all the same.
    if command -v deb-systemd-helper >/dev/null; then deb-systemd-helper disable "$unit" >/dev/null 2>&1 || true; fi
  done
  if [ -e "/etc/init.d/$name" ] && command -v update-rc.d >/dev/null; then update-rc.d "$name" disable >/dev/null 2>&1 || true; fi
}

finish() {
  rm -f "$log" "$log.began"
  [ "$mode" = --build ] || allow_services
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# command:package
wanted='etcd:etcd-server ip:iproute2 iptables:iptables nft:nftables setpriv:util-linux'
wanted="$wanted ping:iputils-ping curl:curl ss:iproute2"
if [ "$mode" = --test ]; then
  wanted="$wanted openssl:openssl nc:netcat-openbsd etcdctl:etcd-client sysctl:procps dig:bind9-dnsutils dnsmasq:dnsmasq-base"
  # A real Docker engine, which the tests start by themselves, and the one program that their images are made of.
  wanted="$wanted dockerd:docker.io containerd:containerd runc:runc busybox:busybox-static"
  wanted="$wanted docker-compose:docker-compose"
  # A real CNI runtime, and CNI's own plugins to chain with.
  wanted="$wanted podman:podman /usr/lib/cni/bridge:containernetworking-plugins"
  # Checks units, and is the first program of a machine of the tests on another kernel; it is not started here.
  wanted="$wanted systemd-analyze:systemd"
  # Takes from packages what only debuggers read.
  wanted="$wanted strip:binutils"
  # Firewalls of hosts, which the tests start in namespaces of their own.
  wanted="$wanted firewalld:firewalld dbus-daemon:dbus-daemon"
  # ufw would take these away, which are the owner's.
  dpkg -s iptables-persistent >/dev/null 2>&1 || dpkg -s netfilter-persistent >/dev/null 2>&1 || wanted="$wanted ufw:ufw"
  # Moves an address between containers.
  wanted="$wanted keepalived:keepalived"
  # For the tests on another kernel, which is one of this architecture.
  if [ "$(uname -m)" = x86_64 ]; then
    wanted="$wanted qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio xz:xz-utils tcpdump:tcpdump"
  fi
fi
[ "$mode" != --build ] || wanted=
missing() {
  local pair
  for pair in $wanted; do command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"; done | sort -u
}

if [ -n "$(missing)" ]; then
  command -v apt-get >/dev/null ||
    fail "these are missing: $(missing | xargs)" 'Install them with the package manager of this system.'
  exec 9</var/lib/dpkg
  lock
  allow_services
  # Another preparation may just have installed them.
  mapfile -t packages < <(missing)
  if [ ${#packages[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    step 'Looking up system packages'
    quietly apt-get update -qq 9>&-
    done_
    step "Installing ${packages[*]}"
    # What firewalld brings along where it was not there before.
    had_bus=$(command -v dbus-daemon || true)
    forbid_services
    quietly apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}" 9>&-
    case " ${packages[*]} " in *' etcd-server '*) disable etcd etcd.service ;; esac
    case " ${packages[*]} " in *' docker.io '*) disable docker docker.service docker.socket ;; esac
    case " ${packages[*]} " in *' containerd '* | *' docker.io '*) disable containerd containerd.service ;; esac
    case " ${packages[*]} " in *' firewalld '*) disable firewalld firewalld.service ;; esac
    case " ${packages[*]} " in *' keepalived '*) disable keepalived keepalived.service ;; esac
    case " ${packages[*]} " in *' ufw '*) disable ufw ufw.service ;; esac
    case " ${packages[*]} " in
      *' podman '*) disable podman podman.service podman.socket podman-restart.service podman-auto-update.timer podman-auto-update.service ;;
    esac
    [ -n "$had_bus" ] || disable dbus dbus.service dbus.socket
    allow_services
    done_
  fi
fi

exec 9<.
lock

stamp=node_modules/.weft-installed
if [ "$mode" = --build ]; then
  [ -d node_modules ] || fail 'the npm packages are not there' 'Run: npm ci'
elif ! cmp -s package-lock.json "$stamp"; then
  step 'Installing npm packages'
  quietly npm ci --no-audit --no-fund --loglevel=error
  cp package-lock.json "$stamp"
  done_
fi

# extra WHAT SCRIPT…: that a machine cannot have it (no Debian, no network) is no reason to run no test; those that need it are
# named at the end.
extra() {
  local what=$1
  shift
  bash "$@" --check >/dev/null && return
  step "Fetching $what"
  if bash "$@" >"$log" 2>&1 </dev/null; then done_; else printf 'not here: %s\n' "$(tail -n 1 "$log")"; fi
}
if [ "$mode" = --test ]; then
  extra 'another kernel for its tests' scripts/vm-kernel.sh
  extra "CNI's own client" scripts/cni-client.sh cnitool
  extra "the client of Kubernetes' runtimes" scripts/cni-client.sh crictl
  extra 'a browser' scripts/chromium.sh
fi

built=build/.weft-built
sources='agent bundle cli cloud controller core daemon plugin programs proto store test web'
# shellcheck disable=SC2086
if [ ! -e "$built" ] || [ -n "$(find $sources package-lock.json tsconfig.json -newer "$built" \( -name '*.ts' -o -name '*.json' -o -path 'web/*' \) -print -quit 2>/dev/null)" ]; then
  step 'Building'
  # Of the moment before the build, so that what changes meanwhile is built by the next.
  touch "$log.began"
  # A source that is gone must not live on as its old build.
  rm -rf build
  quietly npm run --silent build
  mv "$log.began" "$built"
  done_
fi
