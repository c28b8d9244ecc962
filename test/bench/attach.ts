// Attach latency through the agent's socket, by HTTP and by gRPC, compared with `ip -batch`.
//
// `ip -batch` does the same steps by hand: 200 of each, in turn, every one for a fresh namespace. Also checks that the agent
// starts no process while it attaches.
//
// `ip` is started twice a round in two ways: by Node.js, which is what an agent that worked through `ip` would do and what
// weft is compared with, and by a shell that is already running, which is the least that starting a process can cost. The same
// steps as bare netlink messages say what the kernel and Node.js cost, without an agent.
import { fork, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import { RESOLVER_IP } from '../../core/link-names.js';
import { Cluster } from '../lab/cluster.js';
import { environment, ipBatch } from '../lab/exec.js';
import { sweep } from '../lab/runs.js';
import type { Bare } from './bare-netlink.js';

const ROUNDS = Number(process.env['WEFT_BENCH_ROUNDS'] ?? 200);
/** The target: p50 of an attach divided by p50 of `ip -batch`. */
const WANTED_RATIO = 0.4;
/** Pause, so that the aftermath of one (notifications, the comparison, etcd) is over before the other is measured. */
const REST_MS = 150;
const MTU = 1450;

/** The same network by hand: one bridge, which is the gateway. */
const BY_HAND = { bridge: 'byhand0', gateway: '10.101.0.1', length: 20, network: '10.101.0.0/16' };

async function main(): Promise<number> {
  sweep();
  const cluster = await Cluster.create(1);
  try {
    return await measure(cluster);
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${cluster.lab.logs()}`);
    return 1;
  } finally {
    await cluster.lab.down();
  }
}

async function measure(cluster: Cluster): Promise<number> {
  const host = cluster.lab.host(1);
  await cluster.startEtcd();
  // Subnets of 4094 addresses, so that every container can stay and the node fills up as in production.
  const config = { Network: '10.100.0.0/16', SubnetLen: 20, Backend: { Type: 'vxlan', VNI: 4100 } };
  await cluster.etcdctl('put', '/weft/networks/bench/config', JSON.stringify(config));
  await cluster.startAgents(['h1'], ['--join', 'bench']);
  await cluster.lab.until('the network is joined', async () =>
    (await host.must(['ip', 'link'])).includes('wfbr4100'),
  );
  await ipBatch(
    [
      `link add ${BY_HAND.bridge} mtu ${MTU} type bridge`,
      `link set ${BY_HAND.bridge} up`,
      `address add ${BY_HAND.gateway}/${BY_HAND.length} dev ${BY_HAND.bridge}`,
    ],
    host.namespace,
  );
  await addNamespaces(cluster, ROUNDS + WARM_UP);

  const agent = cluster.process('agent-h1').pid;
  const caller = fork(new URL('caller.js', import.meta.url), [join(host.runDir, 'agent.sock'), 'bench']);
  const bare = fork(new URL('bare-netlink.js', import.meta.url), [
    ...[`/run/netns/${host.namespace}`, BY_HAND.bridge, String(MTU)],
  ]);
  const shell = spawn('sh', { stdio: ['pipe', 'pipe', 'inherit'], env: environment() });
  try {
    const meter = new ProcessMeter(agent);
    if (!meterWorks())
      throw new Error(
        'this kernel does not count the page faults of children, which tells whether there were any',
      );
    const ways: Record<Way, (n: number) => Promise<number>> = {
      weft: (n) => asked(caller, { way: 'http', target: `netns:/run/netns/${cluster.lab.run}-weft${n}` }),
      grpc: (n) => asked(caller, { way: 'grpc', target: `netns:/run/netns/${cluster.lab.run}-grpc${n}` }),
      node: (n) => byNode(byHand(host.namespace, `${cluster.lab.run}-node${n}`, 3 * n)),
      shell: (n) => byShell(shell, byHand(host.namespace, `${cluster.lab.run}-shell${n}`, 3 * n + 1)),
      bare: (n) => asked(bare, byMessages(`/run/netns/${cluster.lab.run}-bare${n}`, 3 * n + 2)),
    };
    const times: Record<Way, number[]> = { weft: [], grpc: [], node: [], shell: [], bare: [] };
    console.log(`${ROUNDS} attaches by weft and ${ROUNDS} by ip -batch, in turn …`);
    for (let round = -WARM_UP; round < ROUNDS; round++) {
      for (const way of WAYS) {
        const took = await ways[way](round + WARM_UP);
        if (round >= 0) times[way].push(took);
        await delay(REST_MS);
      }
    }
    await verify(cluster);
    return report(times, meter.started());
  } finally {
    caller.disconnect();
    bare.disconnect();
    shell.stdin.end();
  }
}

function report(times: Record<Way, readonly number[]>, started: boolean): number {
  const row = (name: string, list: readonly number[]): string =>
    `  ${name.padEnd(38)}${[0.5, 0.99].map((q) => `${quantile(list, q).toFixed(2)} ms`.padStart(12)).join('')}`;
  const beside = (list: readonly number[]): string =>
    (quantile(times.weft, 0.5) / quantile(list, 0.5)).toFixed(2);
  const ratio = quantile(times.weft, 0.5) / quantile(times.node, 0.5);
  console.log(`  ${''.padEnd(38)}${'p50'.padStart(12)}${'p99'.padStart(12)}`);
  console.log(row('weft, through the agent’s socket', times.weft));
  console.log(row('the same by gRPC', times.grpc));
  console.log(row('ip -batch, the same steps', times.node));
  console.log(row('ip -batch, from a shell that waits', times.shell));
  console.log(row('bare netlink, the same steps', times.bare));
  console.log(
    `  ratio of the p50: ${ratio.toFixed(2)} (wanted: at most ${WANTED_RATIO}); beside the shell’s ${beside(times.shell)}, beside bare netlink ${beside(times.bare)}`,
  );
  console.log(`  processes that the agent started meanwhile: ${started ? 'some' : 'none'}`);
  if (ratio <= WANTED_RATIO && !started) return 0;
  console.log('Not reached.');
  return 1;
}

/** Rounds that are not counted: they open connections and compile code. */
const WARM_UP = 20;
const WAYS = ['weft', 'grpc', 'node', 'shell', 'bare'] as const;
type Way = (typeof WAYS)[number];

async function addNamespaces({ lab }: Cluster, count: number): Promise<void> {
  const numbers = Array.from({ length: count }, (_, n) => n);
  await ipBatch(numbers.flatMap((n) => WAYS.map((way) => `netns add ${lab.run}-${way}${n}`)));
}

/** Has a process attach a container. @returns the milliseconds that it took */
async function asked(
  process: ChildProcess,
  target: { way: 'http' | 'grpc'; target: string } | Bare,
): Promise<number> {
  process.send(target);
  const [answer] = (await once(process, 'message')) as [number | string];
  if (typeof answer === 'string') throw new Error(`attach ${JSON.stringify(target)}: ${answer}`);
  return answer;
}

/** One run of `ip -batch`: in this namespace, these lines. */
interface Batch {
  namespace: string;
  lines: string[];
}

/** The link, addresses and routes of the n-th container that is attached by hand. */
function partsOf(n: number): Omit<Bare, 'container'> {
  const offset = n + 2;
  const octets = [offset >> 8, offset & 0xff];
  return {
    link: `byhand${n + 1}`,
    index: 10_000 + n,
    mac: `02:00:0a:65:${octets.map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`,
    address: `10.101.${octets.join('.')}/${BY_HAND.length}`,
    routes: [
      { to: BY_HAND.network, via: BY_HAND.gateway },
      { to: '0.0.0.0/0', via: BY_HAND.gateway },
      { to: `${RESOLVER_IP}/32` },
    ],
  };
}

const byMessages = (container: string, n: number): Bare => ({ container, ...partsOf(n) });

/** The agent's steps: a veth pair into the namespace, its host end on the bridge, its other end configured. */
function byHand(host: string, container: string, n: number): Batch[] {
  const { link, mac, address, routes } = partsOf(n);
  return [
    {
      namespace: host,
      lines: [
        `link add ${link} mtu ${MTU} type veth peer name eth0 netns ${container} mtu ${MTU} address ${mac}`,
        `link set ${link} alias "endpoint c${n} of byhand" master ${BY_HAND.bridge} up`,
      ],
    },
    {
      namespace: container,
      lines: [
        'link set lo up',
        'link set eth0 up',
        `address add ${address} dev eth0`,
        ...routes.map(({ to, via }) => `route add ${to} ${via === undefined ? 'dev eth0' : `via ${via}`}`),
      ],
    },
  ];
}

function byNode(batches: readonly Batch[]): Promise<number> {
  const began = performance.now();
  for (const { namespace, lines } of batches) {
    run('ip', ['-n', namespace, '-batch', '-'], lines.join('\n'));
  }
  return Promise.resolve(performance.now() - began);
}

async function byShell(shell: ChildProcess, batches: readonly Batch[]): Promise<number> {
  const script = batches.map(
    ({ namespace, lines }) => `ip -n ${namespace} -batch - <<'END' || exit\n${lines.join('\n')}\nEND\n`,
  );
  const began = performance.now();
  shell.stdin?.write(`${script.join('')}echo done\n`);
  if (shell.stdout === null) throw new Error('the shell has no output');
  // ip ends, and with it its output, after the first command that failed.
  await once(shell.stdout, 'readable');
  if (shell.stdout.read() === null) throw new Error('ip -batch from the shell failed');
  return performance.now() - began;
}

function run(program: string, args: readonly string[], input: string): void {
  const { status, stderr } = spawnSync(program, args, { input: `${input}\n`, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

/** All ways must have the same result, or the comparison is void. */
async function verify(cluster: Cluster): Promise<void> {
  const last = ROUNDS + WARM_UP - 1;
  for (const way of WAYS) {
    const place = cluster.lab.existing(`${way}${last}`);
    const routes = await place.must(['ip', '-o', 'route']);
    const links = await place.must(['ip', '-o', 'link']);
    const lines = routes.trim().split('\n').length;
    if (lines !== 4 || !links.includes(`mtu ${MTU}`) || !/lo: <LOOPBACK,UP/.test(links)) {
      throw new Error(`namespace ${place.namespace} is not set up as the others:\n${routes}${links}`);
    }
  }
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? NaN;
}

/**
 * Whether a process has started others: a child costs page faults before it can do anything, and they are added to its
 * parent's cminflt when it has ended (proc(5)); one that has not ended yet is listed as its child.
 */
class ProcessMeter {
  readonly #before: { faults: number; children: string };

  constructor(readonly pid: number) {
    this.#before = this.#look();
  }

  #look(): { faults: number; children: string } {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const children = spawnSync('sh', ['-c', `cat /proc/${this.pid}/task/*/children`], {
      encoding: 'utf8',
    }).stdout;
    return { faults: Number(fields[8]) + Number(fields[10]), children };
  }

  started(): boolean {
    const now = this.#look();
    return now.faults !== this.#before.faults || now.children !== this.#before.children;
  }
}

/** Checks the meter on this process, which starts one. */
function meterWorks(): boolean {
  const meter = new ProcessMeter(process.pid);
  run('true', [], '');
  return meter.started();
}

process.exitCode = await main();
