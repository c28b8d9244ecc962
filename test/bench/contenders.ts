// Agents that the bench of starts compares: weft, and a flanneld where there is one.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { ETCD, type Cluster } from '../lab/cluster.js';
import { WEFT, type Host } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';

/** One program on all hosts of a cluster. */
export interface Contender {
  name: string;
  /** Root of its keys, below which its network is. */
  prefix: string;
  command(host: Host): string[];
  /** Where it writes FLANNEL_SUBNET when it has its subnet. */
  envFile(host: Host): string;
  /** Its links on a host. */
  links: readonly string[];
}

/** @param etcd flags by which it reaches etcd */
export const weftAgent = (network: string, vni: number, etcd = ['--etcd', ETCD]): Contender => ({
  name: 'weft',
  prefix: `/weft/networks/${network}`,
  command: (host) => [
    ...[WEFT, 'agent', '--node', host.name, ...etcd, '--join', network, '--underlay-iface', 'eth0'],
    ...['--run-dir', host.runDir, '--state-dir', host.stateDir, '--cnm-socket', 'none'],
    ...['--docker', `unix://${join(host.runDir, 'no-docker.sock')}`],
  ],
  envFile: (host) => join(host.runDir, 'subnets', `${network}.env`),
  links: [`wfvx${vni}`, `wfbr${vni}`],
});

export const WEFT_AGENT = weftAgent('bench', 4100);

export const flanneld = (program: string): Contender => ({
  name: 'flanneld',
  prefix: '/coreos.com/network',
  command: (host) => [
    ...[program, `--etcd-endpoints=${ETCD}`, '--iface=eth0', '--ip-masq'],
    `--subnet-file=${join(host.runDir, 'flannel.env')}`,
  ],
  envFile: (host) => join(host.runDir, 'flannel.env'),
  links: ['flannel.4101'],
});

const VNI: Readonly<Record<string, number>> = { weft: 4100, flanneld: 4101 };

export async function createNetwork(cluster: Pick<Cluster, 'etcdctl' | 'lab'>, of: Contender): Promise<void> {
  const number = VNI[of.name] ?? 0;
  const config = {
    Network: `10.${number - 4000}.0.0/16`,
    SubnetLen: 24,
    Backend: { Type: 'vxlan', VNI: number },
  };
  await cluster.etcdctl('put', `${of.prefix}/config`, JSON.stringify(config));
  for (const host of cluster.lab.hosts) mkdirSync(host.runDir, { recursive: true });
}

export const start = (host: Host, of: Contender): LabProcess => host.spawn(of.name, of.command(host));

/** The base address of its subnet, as in `10.100.5.0`; undefined before it has one. */
export function subnetOf(host: Host, of: Contender): string | undefined {
  try {
    const text = readFileSync(of.envFile(host), 'utf8');
    return /^FLANNEL_SUBNET=(\d+\.\d+\.\d+)\./m.exec(text)?.[1]?.concat('.0');
  } catch {
    return undefined;
  }
}

/** Ends it, and takes away all that it left on its host and in etcd. */
export async function forget(
  cluster: Pick<Cluster, 'etcdctl'>,
  host: Host,
  process: LabProcess,
  of: Contender,
): Promise<void> {
  const subnet = subnetOf(host, of);
  await process.kill();
  if (subnet !== undefined) await cluster.etcdctl('del', `${of.prefix}/subnets/${subnet}-24`);
  await cluster.etcdctl('del', '--prefix', `/weft/nodes/${host.name}`);
  const links = of.links.map((link) => `ip link del ${link}`).join('; ');
  await host.exec(['sh', '-c', `${links}; nft flush ruleset; iptables -F; iptables -t nat -F`]);
  for (const folder of [dirname(of.envFile(host)), host.runDir, host.stateDir])
    rmSync(folder, { recursive: true, force: true });
  for (const folder of [host.runDir, host.stateDir]) mkdirSync(folder, { recursive: true });
}

/** Base addresses of the subnets that a process has routes to, from its own network namespace. */
export function routesOf({ pid }: LabProcess): Set<string> {
  // proc_pid_net(5): interface, destination and more, in hexadecimal of this machine's byte order.
  const lines = readFileSync(`/proc/${pid}/net/route`, 'latin1').trim().split('\n').slice(1);
  return new Set(
    lines.map((line) => {
      const [, destination = ''] = line.split('\t');
      return Buffer.from(destination, 'hex').reverse().join('.');
    }),
  );
}
