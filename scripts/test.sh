#!/usr/bin/env bash
# Runs every test that this machine allows: first the parts, then whole clusters, then those on another kernel. Arguments name
# single test files, or are ava's. The last line counts them all.
set -uo pipefail
cd "$(dirname "$0")/.."

sweep() { node build/test/lab/sweep.js; }
log=$(mktemp)
trap 'rm -f "$log"; sweep' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
sweep

not_run=()
only_parts=()
# In a namespace of its own, so that two runs do not meet.
if ! why=$(unshare --net ip link add probe type vxlan id 1 dstport 4789 2>&1); then
  not_run+=("the tests of the kernel and of clusters: this kernel makes no vxlan device here ($why)")
  only_parts=('test/core/**' 'test/store/**' 'test/daemon/**' 'test/controller/**' 'test/cli/**' 'test/fakes/**' 'test/fuzz/**')
fi

# What an engine needs of a machine: cgroups that can be written, and overlayfs on a tmpfs.
docker_runs() {
  command -v dockerd >/dev/null || { echo 'there is no dockerd'; return 1; }
  local probe='mount -t tmpfs t /mnt && cd /mnt && mkdir l u w m && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m'
  unshare -m --propagation private sh -c "$probe" || return 1
  local group=/sys/fs/cgroup/weft-probe.$$
  [ ! -d /sys/fs/cgroup/pids ] || group=/sys/fs/cgroup/pids/weft-probe.$$
  mkdir "$group" && rmdir "$group"
}
other_kernel=yes
if ! why=$(bash scripts/vm-kernel.sh --check); then
  not_run+=("the tests on another kernel: $why")
  other_kernel=
fi

passed=0 failed=0 status=0
failures=()
run() {
  local code good bad
  node_modules/.bin/ava "$@" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  # ava marks what passed, and ends with a rule and lines such as "1 test failed", "1 hook failed", "1 uncaught exception".
  read -r good bad < <(sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^ +✔ / { good++ }
    /^ *─+ *$/ { bad = 0 }
    /^ *[0-9]+ (tests?|hooks?) failed/ || /^ *[0-9]+ (uncaught exceptions?|unhandled rejections?)/ { bad += $1 }
    END { print good + 0, bad + 0 }')
  # A run that was cut short, or found nothing to run, says no number.
  if [ "$code" = 0 ]; then bad=0; elif [ "$bad" = 0 ]; then bad=1; fi
  passed=$((passed + good))
  failed=$((failed + bad))
  [ "$code" = 0 ] || status=1
  mapfile -t -O "${#failures[@]}" failures < <(sed -nE 's/\x1b\[[0-9;]*m//g; s/^ *✘ //p' "$log")
  mapfile -t -O "${#not_run[@]}" not_run < <(sed -nE 's/\x1b\[[0-9;]*m//g; s/^ *- \[skip\] //p' "$log")
}

if [ $# -gt 0 ]; then
  case "$*" in
    *test/cluster/faults/crowds/*) run --config crowds.ava.config.js "$@" ;;
    *test/cluster/faults/*) run --config faults.ava.config.js "$@" ;;
    *test/cluster/*) run --config cluster.ava.config.js "$@" ;;
    *test/docker/*) run --config docker.ava.config.js "$@" ;;
    *test/vm/*) run --config vm.ava.config.js "$@" ;;
    *) run "$@" ;;
  esac
else
  run ${only_parts[@]+"${only_parts[@]}"}
  if [ ${#only_parts[@]} = 0 ]; then
    run --config cluster.ava.config.js
    run --config faults.ava.config.js
    run --config crowds.ava.config.js
    if why=$(docker_runs 2>&1); then
      run --config docker.ava.config.js
    else
      not_run+=("the tests with Docker's engine: none runs here ($why)")
    fi
  fi
  [ -z "$other_kernel" ] || run --config vm.ava.config.js
fi

if [ ${#not_run[@]} -gt 0 ]; then
  printf '\nNot run on this machine:\n'
  printf '  %s\n' "${not_run[@]}"
fi
if [ ${#failures[@]} -gt 0 ]; then
  printf '\nFailed:\n'
  printf '  %s\n' "${failures[@]}"
fi
[ "$passed" -gt 0 ] || status=1
echo
echo "$passed passed, $failed failed"
exit "$status"
