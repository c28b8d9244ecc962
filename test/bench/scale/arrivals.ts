// How long news takes to reach the nodes of a network, beyond what etcd alone takes.
import { IpAddress, IpNetwork } from '../../../core/address.js';
import { until } from '../../lab/wait.js';
import type { LayoutNetwork } from './layout.js';
import type { MeasuredCluster } from './measured-cluster.js';
import { nameMark, type Container, type Mark } from './messages.js';

/** Milliseconds within which news has reached all nodes, or has been lost. */
const WITHIN_MS = 30_000;
/** The public address of leases that no node has. */
const NOBODY = '198.19.255.254';

/** Of one piece of news. */
export interface Arrivals {
  /** When it had reached every bare watcher, in milliseconds of the monotonic clock. */
  bare: number;
  /** When each node had handled it. */
  nodes: readonly number[];
}

/** Milliseconds after the bare watchers, of all nodes of all pieces of news. */
export const beyond = (all: readonly Arrivals[]): number[] =>
  all.flatMap(({ bare, nodes }) => nodes.map((at) => at - bare));

/** The value that this part of them does not exceed. @param part as 0.99 */
export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? NaN;
}

/** Has something happen, and times its arrival at this number of hollow nodes. @throws Error where some never have it */
async function timed(
  of: MeasuredCluster,
  { mark, nodes }: { mark: Mark; nodes: number },
  happen: () => Promise<unknown>,
): Promise<Arrivals> {
  const request = { do: 'mark', marks: [mark] } as const;
  await Promise.all([of.askWatcher(request), of.askAll(() => request)]);
  await happen();
  let at: number[] = [];
  await until(
    `${mark} at ${nodes} nodes`,
    async () => {
      const answers = await of.askAll(() => ({ do: 'arrivals' }));
      at = answers.flatMap(({ arrivals }) => arrivals?.[mark] ?? []);
      return at.length >= nodes;
    },
    { timeoutMs: WITHIN_MS, everyMs: 200, context: () => `it is at ${at.length}` },
  );
  const { arrivals } = await of.askWatcher({ do: 'arrivals' });
  const none = { do: 'mark', marks: [] } as const;
  await Promise.all([of.askWatcher(none), of.askAll(() => none)]);
  return { bare: arrivals?.[mark]?.[0] ?? NaN, nodes: at };
}

/** A lease that appears, as a flanneld writes it, until it is a route on every node of the network. */
export async function leaseArrives(of: MeasuredCluster, network: LayoutNetwork): Promise<Arrivals> {
  const { key, subnet } = await freeSubnet(of, network);
  const lease = {
    PublicIP: NOBODY,
    BackendType: 'vxlan',
    BackendData: { VNI: network.config.Backend.VNI, VtepMAC: '02:00:00:00:00:01' },
  };
  const nodes = of.layout.membersOf(network.name).length;
  const arrived = await timed(of, { mark: subnet, nodes }, () =>
    // While a leader is elected etcd refuses it.
    until('etcd takes it', async () => (await of.etcdctl('put', key, JSON.stringify(lease))) !== '', {
      timeoutMs: WITHIN_MS,
    }),
  );
  await of.etcdctl('del', key);
  return arrived;
}

/** A container that is attached, until the nodes of its network answer to its name. */
export async function nameArrives(of: MeasuredCluster, container: Container): Promise<Arrivals> {
  const { network, name } = container;
  const nodes = of.layout.membersOf(network).length;
  return await timed(of, { mark: nameMark(network, name), nodes }, () => of.attach([container]));
}

/** One from the end of the network that no node has. */
async function freeSubnet(
  of: MeasuredCluster,
  { name, config }: LayoutNetwork,
): Promise<{ key: string; subnet: string }> {
  const { base, length } = IpNetwork.parse(config.Network);
  const count = 2 ** (config.SubnetLen - length);
  for (let n = count - 1; n > 0; n--) {
    const subnet = IpNetwork.of(IpAddress.of(4, base.value + BigInt(n * 256)), config.SubnetLen).toString();
    const key = of.leaseKey(name, subnet);
    if (of.timedSubnets.has(subnet) || (await of.etcdctl('get', '--keys-only', key)).trim() !== '') continue;
    of.timedSubnets.add(subnet);
    return { key, subnet };
  }
  throw new Error(`network ${name} has no free subnet`);
}

/** Seconds since a time of the monotonic clock, at the last of these. */
export const secondsFrom = (began: number, { nodes }: Arrivals): number =>
  (Math.max(...nodes) - began) / 1000;
