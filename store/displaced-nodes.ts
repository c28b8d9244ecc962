// Nodes whose address or subnet another node has.
//
// A machine that is installed anew under another name takes its former self's subnet, as flanneld does, and answers at its
// address. What etcd says of the former node then leads to containers of the new one. Two living nodes of one address are a
// mistake in the settings of one of them.
import { IpNetwork, parseInterface } from '../core/address.js';
import type { Lease, NodeRecord } from '../core/records.js';
import type { Change, View } from './store.js';

export interface Displaced {
  node: string;
  by: string;
  /** Its life lease has ended: the other one is in its place for good. */
  isGone: boolean;
  /** The address or subnet, as text. */
  what: string;
}

type Records = Pick<View, 'nodes' | 'alive' | 'leases' | 'endpoints' | 'claims'>;

interface Found {
  displaced: ReadonlyMap<string, Displaced>;
  /** The nodes that are down: only of these does it matter where their endpoints are. */
  down: ReadonlySet<string>;
}

export class DisplacedNodes {
  #found: Found | undefined;

  constructor(private readonly view: Records) {}

  /** By node. Of two living nodes of one address each is in it. */
  get all(): ReadonlyMap<string, Displaced> {
    return (this.#found ??= findDisplaced(this.view)).displaced;
  }

  /** Whether a node that is down is not coming back. */
  isGone(node: string): boolean {
    return this.all.get(node)?.isGone === true;
  }

  /** What to do about something that this node has: a gone node's goes with it. */
  nextStep(node: string, otherwise: string): string {
    return this.isGone(node) ? removeStep(node) : otherwise;
  }

  handle(changes: readonly Change[]): void {
    if (changes.some((change) => this.#matters(change))) this.#found = undefined;
  }

  #matters(change: Change): boolean {
    const { kind } = change;
    if (kind === 'node' || kind === 'alive') return true;
    // While all are up it does not matter who has which subnet.
    if (kind === 'lease') return this.#found === undefined || this.#found.down.size > 0;
    if (kind !== 'endpoint' && kind !== 'claim') return false;
    return [change.before, change.after].some((one) => one && this.#found?.down.has(one.node));
  }

  /** As problems for people, each once. */
  problems(): { what: string; why: string; fix: string }[] {
    return [...this.all.values()].flatMap(({ node, by, isGone, what }) => {
      if (isGone)
        return {
          what: `node ${node}`,
          why: `it is down, and node ${by} has its ${what} now, as after a machine was installed anew under another name; its names are no longer resolved`,
          fix: removeStep(node),
        };
      if (node > by && this.all.get(by)?.by === node) return [];
      return {
        what: `nodes ${node} and ${by}`,
        why: `both are up and have the same ${what}: what is sent to one may arrive at the other`,
        fix: 'Give each node an address of its own: --underlay-ip, or --public-ip behind NAT.',
      };
    });
  }
}

const removeStep = (node: string): string => `Remove what is left of it: weft node rm ${node}.`;

function findDisplaced(view: Records): Found {
  const found = new Map<string, Displaced>();
  const at = new Map<string, NodeRecord[]>();
  for (const node of view.nodes.values())
    for (const ip of addressesOf(node)) at.set(ip, [...(at.get(ip) ?? []), node]);
  const down = new Set<string>();
  for (const node of view.nodes.values()) {
    const { name } = node;
    const isGone = !view.alive.has(name);
    if (isGone) down.add(name);
    for (const ip of addressesOf(node)) {
      // Of two that are down the later one is in place: its agent may be away for an upgrade only.
      const by = at
        .get(ip)
        ?.find((it) => it.name !== name && (view.alive.has(it.name) || (isGone && isLater(it, node))));
      if (by === undefined || found.has(name)) continue;
      found.set(name, { node: name, by: by.name, isGone, what: `address ${ip}` });
    }
  }
  if (down.size === 0) return { displaced: found, down };
  for (const [network, endpoints] of view.endpoints) {
    const leases = view.leases.get(network) ?? new Map<string, Lease>();
    // Few: those of the network's configs so far.
    const lengths = new Set([...leases.values()].map(({ subnet }) => subnet.length));
    for (const { node, ip } of endpoints.values()) {
      if (!down.has(node) || found.has(node)) continue;
      const { address } = parseInterface(ip);
      // It may be in another's subnet with that one's agreement.
      if (view.claims.get(network)?.get(address.toString())?.node === node) continue;
      const there = [...lengths].map((length) => leases.get(IpNetwork.of(address, length).toString()));
      const lease = there.find((it) => it?.node !== undefined && it.node !== node);
      if (lease?.node === undefined) continue;
      const what = `subnet ${lease.subnet.toString()} of network ${network}`;
      found.set(node, { node, by: lease.node, isGone: true, what });
    }
  }
  return { displaced: found, down };
}

const addressesOf = ({ publicIp, publicIp6 }: NodeRecord): string[] => [
  publicIp,
  ...(publicIp6 === undefined ? [] : [publicIp6]),
];

const isLater = (a: NodeRecord, b: NodeRecord): boolean => Date.parse(a.startedAt) > Date.parse(b.startedAt);
