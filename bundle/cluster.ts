// A cluster of one host, whose programs record what they compile: `node build/bundle/cluster.js BUNDLES STATE`.
//
// It runs as process 1 of namespaces of its own (cache.ts), with the usual ports: nothing of it is seen outside, and all of it
// ends with this process.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { recorder } from './cache.js';
import type { Program } from './bundle.js';

const ETCD = 'http://127.0.0.1:2379';
const NETWORK = 'recorded';
const LINKS = [
  'link set lo up',
  'link add eth0 type veth peer name eth1',
  'addr add 192.0.2.10/24 dev eth0',
  'link set eth0 up',
  'link set eth1 up',
];

const [, , folder = '', state = ''] = process.argv;
const socket = join(state, 'agent.sock');

/** Settings of this machine, and its configuration files, are not for this cluster. */
const withoutSettings = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('WEFT_')));
/** Plain text: nobody else is on its network. */
const DAEMON = ['--config', '/dev/null', '--insecure'];

function start(program: Program, ...runs: string[][]): ChildProcess {
  const env = { ...withoutSettings(process.env), WEFT_AGENT: socket };
  return spawn(process.execPath, recorder(folder, program, runs), { stdio: 'inherit', env });
}

/** @throws Error where the daemon ends instead */
async function untilReady(port: number, daemon: ChildProcess): Promise<void> {
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
    if (answer?.ok === true) return;
    if (daemon.exitCode !== null) throw new Error(`${daemon.spawnargs.join(' ')}: it ended`);
    await delay(20);
  }
}

async function end(daemon: ChildProcess): Promise<void> {
  daemon.kill('SIGTERM');
  if (daemon.exitCode === null) await once(daemon, 'exit');
}

execFileSync('ip', ['-batch', '-'], { input: `${LINKS.join('\n')}\n` });
const container = spawn('unshare', ['--net', 'sleep', '1000']);
const controllerFlags = [...DAEMON, '--etcd-listen', ETCD, '--state-dir', join(state, 'controller')];
const controller = start('controller', controllerFlags);
const agentFlags = [...DAEMON, '--etcd', ETCD, '--controller', '127.0.0.1:7400', '--join', NETWORK];
const folders = ['--run-dir', state, '--state-dir', join(state, 'agent'), '--cnm-socket', 'none'];
const agent = start('agent', [...agentFlags, ...folders, '--underlay-iface', 'eth0']);
await untilReady(7401, controller);
await untilReady(7402, agent);
const commands = start(
  'cli',
  ['--version'],
  ['network', 'create', NETWORK, '--subnet', '10.0.0.0/16'],
  ['attach', NETWORK, `pid:${container.pid}`],
  ['endpoint', 'ls'],
  ['status'],
);
await once(commands, 'exit');
await end(agent);
await end(controller);
// What is left ends with process 1.
process.exit();
