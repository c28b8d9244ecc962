// Paths between containers as benchmarks measure them, and the containers that an administrator makes by hand.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from '../lab/cluster.js';
import { CHECKOUT, type Host, type Namespace } from '../lab/lab.js';
import { ping } from '../lab/traffic.js';
import { until } from '../lab/wait.js';

const SECONDS = 1.5;
const PROGRAM = join(CHECKOUT, 'build/test/bench/blast.js');

/** A path from one namespace to another. */
export interface Path {
  name: string;
  from: Namespace;
  to: Namespace;
  ip: string;
}

export interface Sample {
  megabits: number;
  packets: number;
  latencyMs: number;
  /** Seconds of all cores for a gigabyte. */
  cpu: number;
}

export function pathOf(name: string, [a, b]: readonly { place: Namespace; ip: string }[]): Path {
  if (a === undefined || b === undefined) throw new Error(`${name} has no two ends`);
  return { name, from: a.place, to: b.place, ip: b.ip };
}

/** A container on a bridge with the gateway's address. */
export async function containerOn(
  cluster: Cluster,
  host: Host,
  gateway: string,
  mtu: string,
): Promise<{ place: Namespace; ip: string }> {
  const name = `c-${host.name}`;
  await cluster.addContainers(name);
  const ip = gateway.replace(/\.1$/, '.2');
  await host.must([
    ...['sh', '-ec'],
    `ip link add br0 mtu ${mtu} type bridge; ip addr add ${gateway}/24 dev br0; ip link set br0 up
     ip link add ve0 mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${cluster.ns(name)}
     ip link set ve0 master br0 up; echo 1 >/proc/sys/net/ipv4/ip_forward`,
  ]);
  await cluster.sh(
    name,
    `ip link set lo up; ip link set eth0 up; ip addr add ${ip}/24 dev eth0; ip route add default via ${gateway}`,
  );
  return { place: cluster.place(name), ip };
}

let port = 20_000;

/** What arrives at the other end. */
async function flow(
  { name, from, to, ip }: Path,
  protocol: 'tcp' | 'udp',
): Promise<{ count: number; seconds: number }> {
  port += 1;
  const receiver = to.spawn(`receive-${port}`, [process.execPath, PROGRAM, 'receive', protocol, `${port}`]);
  const said = (): string => receiver.log();
  await until(`${name}: the receiver listens`, () => said().includes('listening'));
  await from.must([process.execPath, PROGRAM, 'send', protocol, ip, `${port}`, `${SECONDS}`]);
  await receiver.ended;
  const [, count, seconds] = /"(?:bytes|packets)":(\d+),"seconds":([\d.]+)/.exec(said()) ?? [];
  if (count === undefined) throw new Error(`${name}: nothing arrived: ${receiver.tail()}`);
  return { count: Number(count), seconds: Number(seconds) };
}

export async function measure(path: Path): Promise<Sample> {
  const before = busySeconds();
  const bytes = await flow(path, 'tcp');
  const cpu = busySeconds() - before;
  const packets = await flow(path, 'udp');
  const { averageMs = NaN } = await ping(path.from, path.ip, { count: 100, intervalMs: 5 });
  return {
    megabits: (bytes.count * 8) / bytes.seconds / 1e6,
    packets: packets.count / packets.seconds,
    latencyMs: averageMs,
    cpu: (cpu * 1e9) / bytes.count,
  };
}

/** Seconds in which any core of the machine did something (proc_stat(5)). */
function busySeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] =
    readFileSync('/proc/stat', 'latin1').split('\n', 1)[0]?.split(/\s+/).slice(1).map(Number) ?? [];
  return (user + nice + system + irq + softirq) / 100;
}
