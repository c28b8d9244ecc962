#!/usr/bin/env bash
# Makes a fresh Debian or Ubuntu with Node.js ready: system packages, npm packages, build. What is there already is not done
# again, and two that run at once wait for each other. With --test also what the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'weft: %s\n      %s\n' "$1" "$2" >&2; exit 1; }
step() { printf '%s … ' "$1"; began=$SECONDS; }
done_() { printf 'done (%d s)\n' $((SECONDS - began)); }

[ "$(id -u)" = 0 ] || fail 'this needs root: it makes network namespaces' 'Run it as root, or with sudo.'
command -v node >/dev/null || fail 'there is no Node.js' 'Install Node.js 20 or newer with npm.'
node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' ||
  fail "Node.js $(node --version) is too old" 'Install Node.js 20 or newer.'
command -v npm >/dev/null || fail 'there is no npm' 'Install npm.'

exec 9>/tmp/weft-prepare.lock
flock -n 9 || { echo 'Waiting for another preparation to end …'; flock 9; }

# command:package
wanted='etcd:etcd-server ip:iproute2 iptables:iptables nft:nftables setpriv:util-linux'
wanted="$wanted ping:iputils-ping curl:curl ss:iproute2"
[ "${1:-}" = --test ] && wanted="$wanted openssl:openssl nc:netcat-openbsd etcdctl:etcd-client sysctl:procps"
missing=
for pair in $wanted; do
  command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done

# Debian's etcd-server starts a service of its own at installation; weft starts etcd itself.
policy=/usr/sbin/policy-rc.d
restore_policy() {
  [ "${policy_ours:-}" = yes ] || return 0
  rm -f "$policy"
  [ ! -e "$policy.before-weft" ] || mv "$policy.before-weft" "$policy"
  policy_ours=
}
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || fail "these are missing:$missing" 'Install them with the package manager of this system.'
  export DEBIAN_FRONTEND=noninteractive
  step 'Looking up system packages'
  apt-get update -qq >/tmp/weft-apt.log 2>&1 || { cat /tmp/weft-apt.log >&2; fail 'apt-get update failed' 'Its words are above.'; }
  done_
  step "Installing$missing"
  trap restore_policy EXIT
  trap 'restore_policy; exit 130' INT TERM
  [ ! -e "$policy" ] || mv "$policy" "$policy.before-weft"
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  policy_ours=yes
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $missing >/tmp/weft-apt.log 2>&1 ||
    { cat /tmp/weft-apt.log >&2; fail 'apt-get install failed' 'Its words are above.'; }
  restore_policy
  case "$missing" in
    *etcd-server*) ! command -v systemctl >/dev/null || systemctl disable --quiet etcd.service >/dev/null 2>&1 || true ;;
  esac
  done_
fi

stamp=node_modules/.weft-installed
if ! cmp -s package-lock.json "$stamp"; then
  step 'Installing npm packages'
  npm ci --no-audit --no-fund --loglevel=error >/tmp/weft-npm.log 2>&1 ||
    { cat /tmp/weft-npm.log >&2; fail 'npm ci failed' 'Its words are above.'; }
  cp package-lock.json "$stamp"
  done_
fi

built=build/.weft-built
sources='agent cli controller core daemon plugin proto store test'
# shellcheck disable=SC2086
if [ ! -e "$built" ] || [ -n "$(find $sources package-lock.json tsconfig.json -newer "$built" \( -name '*.ts' -o -name '*.json' \) -print -quit 2>/dev/null)" ]; then
  step 'Building'
  # A source that is gone must not live on as its old build.
  rm -rf build
  npm run --silent build
  touch "$built"
  done_
fi
