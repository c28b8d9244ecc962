// Starts a `weft run` command: namespaces first, then network, then exec.
//
// util-linux creates the namespaces and runs a shell in them that waits. When the agent has attached them it sends the shell the
// location of the container's files; the shell mounts them and becomes the command. The command line uses these texts, since the
// command has its terminal, and so does the agent, which restarts commands.
//
//   unshare ─▶ sh: "ready" ─ waits ─▶ mounts ─▶ exec COMMAND                       in the foreground
//                                             └▶ sh ─▶ COMMAND, then folder/exit   with a log: the exit status must be kept
//
// Descriptor 3 leads to the process that started it. If that one ends before the start message, the read ends, the shell exits,
// and the namespaces end with it: an interrupted start leaves nothing behind.
import type { RunNetwork } from './run.js';

/** In the command line of the waiting process, by which the agent verifies a process id. */
export const launchMark = (id: string): string => `weft-run-${id}`;

/** What the waiting shell reports when its namespaces exist. */
export const LAUNCH_READY = 'ready';

/** Exit status where the shell could not exec the command; Docker's status for its own errors. */
export const LAUNCH_FAILED = 125;

/** The start message, sent on descriptor 3. */
export interface Launch {
  /** The folder of the container's files. It is mounted on itself: that mount identifies every process of the container. */
  folder: string;
  /** Empty: unchanged. */
  hostname: string;
  /** Process whose network namespace and hostname are joined. */
  join?: number | undefined;
  /** File that the output is appended to, where no terminal is attached. */
  log?: string | undefined;
}

/** Files below the folder that the container's processes write. */
export const LAUNCH_PID = 'pid';
export const LAUNCH_EXIT = 'exit';

// Arguments: the second script, the command.
const WAIT = `
second=$1; shift
echo ${LAUNCH_READY} >&3
IFS= read -r folder <&3 && IFS= read -r hostname <&3 && IFS= read -r join <&3 && IFS= read -r log <&3 ||
  exit ${LAUNCH_FAILED}
exec 3<&-
[ -n "$join" ] || exec sh -c "$second" "$0" "$folder" "$hostname" "$log" "$@"
exec nsenter --target "$join" --net --uts -- sh -c "$second" "$0" "$folder" "" "$log" "$@"
`;

// mount follows links: where /etc/resolv.conf is one, its target is covered, in this namespace alone.
// A sysfs shows the links of the network namespace that it was mounted in; the cgroups below it are the host's.
// A waiting shell outlives signals to its command; a trapped signal has its default action in children. The shell's report of a
// command that a signal ended is kept out of the command's output.
const BECOME = `
folder=$1 hostname=$2 log=$3; shift 3
[ -z "$log" ] || exec >>"$log" 2>&1 </dev/null || exit ${LAUNCH_FAILED}
fail() { echo "weft: $1" >&2; exit ${LAUNCH_FAILED}; }
mount --bind "$folder" "$folder" || fail "the folder $folder cannot be mounted"
[ -z "$hostname" ] || echo "$hostname" >/proc/sys/kernel/hostname || fail "the hostname cannot be set"
for file in hosts hostname resolv.conf; do
  [ -e "$folder/$file" ] || continue
  if [ -e "/etc/$file" ]; then mount --bind "$folder/$file" "/etc/$file" || fail "/etc/$file cannot be set"
  elif [ "$file" = resolv.conf ]; then echo "weft: this host has no /etc/resolv.conf: names are not found" >&2; fi
done
if [ -d "$folder/sys" ] && mount -t sysfs sysfs "$folder/sys" 2>/dev/null; then
  mount --rbind /sys/fs/cgroup "$folder/sys/fs/cgroup" 2>/dev/null
  mount --move "$folder/sys" /sys || fail "/sys cannot be set"
fi
if [ -z "$log" ]; then
  echo $$ >"$folder/${LAUNCH_PID}"
  exec "$@"
fi
echo 0 2>/dev/null >/proc/self/oom_score_adj
trap : HUP INT QUIT TERM USR1 USR2
exec 4>&2 2>/dev/null
sh -c 'echo $$ >"$1/${LAUNCH_PID}" && shift && exec "$@"' "$0" "$folder" "$@" 2>&4 4>&-
status=$?
echo $status >"$folder/${LAUNCH_EXIT}.new" && mv "$folder/${LAUNCH_EXIT}.new" "$folder/${LAUNCH_EXIT}"
exit $status
`;

/** The program and arguments that make the namespaces and wait. Descriptor 3 must be a socket or a pair of pipes. */
export function launchArgv(id: string, network: RunNetwork, command: readonly string[]): string[] {
  const own = network.kind === 'network' || network.kind === 'none';
  return [
    'unshare',
    ...(own ? ['--net', '--uts'] : []),
    // The host does not see what is mounted here; what it mounts later is seen here, as programs there may expect.
    ...['--mount', '--propagation', 'slave', '--'],
    ...['sh', '-c', WAIT, launchMark(id), BECOME, ...command],
  ];
}

/** The start message as text. */
export const launchWord = ({ folder, hostname, join, log }: Launch): string =>
  [folder, hostname, join ?? '', log ?? '', ''].join('\n');

/** Runs a command in all of a running container's namespaces, in `directory` if it exists. */
export function enterArgv(pid: number, directory: string, command: readonly string[]): string[] {
  return [
    ...['nsenter', '--target', String(pid), '--net', '--uts', '--mount', '--'],
    ...['sh', '-c', 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"', 'weft-exec', directory, ...command],
  ];
}
