// Observers for the fault suite: status, metrics, kernel objects, etcd, CPU.
import { readFileSync } from 'node:fs';

import { ETCD, type Cluster } from '../../lab/cluster.js';
import type { LabProcess } from '../../lab/process.js';

export interface StatusJson {
  health: string;
  node: { stepsApplied: number; stepsFailed: number; driftRepaired: number };
  store: { state: string; pending: number };
  networks: { name: string; subnet: string }[];
  peers: { node: string; rttMs: number | null }[];
  problems: { what: string; why: string; fix: string }[];
}

export const statusOf = (cluster: Cluster, host: string): Promise<StatusJson> => cluster.json(host, 'status');

/** By node. */
export async function nodeStates(cluster: Cluster): Promise<Record<string, string>> {
  const nodes = await cluster.json<{ name: string; state: string }[]>('h1', 'node', 'ls');
  return Object.fromEntries(nodes.map(({ name, state }) => [name, state]));
}

/** A host's kernel objects for peers: tunnels, routes, neighbours and FDB entries. */
export const tunnels = (cluster: Cluster, host: string): Promise<string> =>
  cluster.sh(
    host,
    'ip -br link show type vxlan; ip route show proto 119; ip neigh show nud permanent | grep wfvx | sort; ' +
      'for link in $(ip -br link show type vxlan | cut -d" " -f1); do bridge fdb show dev $link | grep dst | sort; done',
  );

export const routes = (cluster: Cluster, host: string): Promise<string> =>
  cluster.sh(host, 'ip route show proto 119');

/** One metric's value, without labels. */
export async function metric(cluster: Cluster, host: string, name: string): Promise<number> {
  const text = await cluster.sh(host, 'curl -sf http://127.0.0.1:7402/metrics');
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  if (line === undefined) throw new Error(`${host} has no metric ${name}`);
  return Number(line.split(' ')[1]);
}

/** The sum of a metric over all labels, or over those with this one. */
export async function metricSum(cluster: Cluster, host: string, name: string, label = ''): Promise<number> {
  const text = await cluster.sh(host, 'curl -sf http://127.0.0.1:7402/metrics');
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(label));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** Milliseconds of CPU that a process has used (proc(5), fields 14 and 15 of stat, in ticks of 10 ms). */
export function cpuMs(one: LabProcess): number {
  const stat = readFileSync(`/proc/${one.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Lines that a process has logged after the first `length` characters of its log. */
export const loggedSince = (one: LabProcess, length: number): string[] =>
  one.log().slice(length).split('\n').filter(Boolean);

export const keysBelow = async (cluster: Cluster, prefix: string): Promise<string[]> =>
  (await cluster.etcdctl('get', '--prefix', '--keys-only', prefix)).split('\n').filter(Boolean).sort();

/** A lease of a node that does not exist, as a flanneld would write it: every node must get a route to it. */
export async function putPeer(
  cluster: Cluster,
  subnet: string,
  number: number,
  endpoints = ETCD,
): Promise<void> {
  const at = ['--endpoints', endpoints];
  const config = JSON.parse(
    await cluster.etcdctl('get', '--print-value-only', '/weft/networks/blue/config', ...at),
  ) as {
    Backend: { VNI: number };
  };
  await cluster.etcdctl(
    'put',
    `/weft/networks/blue/subnets/${subnet.replace('/', '-')}`,
    JSON.stringify({
      PublicIP: `192.0.2.${number}`,
      BackendType: 'vxlan',
      BackendData: {
        VNI: config.Backend.VNI,
        VtepMAC: `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`,
      },
    }),
    ...at,
  );
}

export const deletePeer = (cluster: Cluster, subnet: string, endpoints = ETCD): Promise<string> =>
  cluster.etcdctl('del', '--endpoints', endpoints, `/weft/networks/blue/subnets/${subnet.replace('/', '-')}`);

/** A dual-stack network beside the lane's own. */
export async function createSix(cluster: Cluster): Promise<void> {
  const subnets = ['--subnet', '10.108.0.0/16', '--subnet6', 'fd00:108::/48'];
  await cluster.json('h1', 'network', 'create', 'six', ...subnets);
}

/** Whether a node's subnet of network blue (without its length) and an endpoint there are deleted everywhere. */
export async function isDeleted(cluster: Cluster, subnet: string, endpoint: string): Promise<boolean> {
  const [keys, ...kernels] = await Promise.all([
    keysBelow(cluster, '/weft/networks/blue/'),
    tunnels(cluster, 'h1'),
    tunnels(cluster, 'h2'),
  ]);
  const deleted = !keys.join().includes(endpoint) && !keys.join().includes(`${subnet}-`);
  return deleted && kernels.every((text) => !text.includes(subnet));
}
