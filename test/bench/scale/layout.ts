// Which nodes, networks and containers a measured cluster has.
import { IpAddress } from '../../../core/address.js';
import type { Container } from './messages.js';

export interface Size {
  nodes: number;
  endpoints: number;
  networks: number;
}

export interface LayoutNetwork {
  name: string;
  /** As in flannel's config. */
  config: { Network: string; SubnetLen: number; Backend: { Type: 'vxlan'; VNI: number } };
}

export interface LayoutNode {
  name: string;
  ip: string;
  networks: string[];
}

/** Networks that a node is on, where there are so many. */
const NETWORKS_OF_ONE = 3;
const FIRST_VNI = 4200;
const SUBNET_LEN = 24;
/** Twice as many subnets as nodes: the choice of a free one stays a choice. */
const ROOM = 2;
/** So many are there in any case, for leases that are timed. */
const LEAST_BITS = 7;
/** RFC 2544: for benchmarks. No interface has these. */
export const UNDERLAY = '198.18.0.0/15';

const ipv4 = (value: number): string => IpAddress.of(4, BigInt(value)).toString();
const valueOf = (ip: string): number => Number(IpAddress.parse(ip).value);

/** Names are of one length, so that records of any cluster are of one size. */
const named = (kind: string, n: number): string => `${kind}${String(n).padStart(5, '0')}`;

export class Layout {
  readonly networks: readonly LayoutNetwork[];
  readonly nodes: readonly LayoutNode[];

  /** @throws Error where the size cannot be laid out */
  constructor(readonly size: Size) {
    const { nodes, endpoints, networks } = size;
    const perNode = Math.min(NETWORKS_OF_ONE, networks);
    if (endpoints > nodes * perNode * 250)
      throw new Error('so many endpoints do not fit the subnets of the nodes');
    const members = Math.ceil((nodes * perNode) / networks) + 1;
    const bits = Math.max(LEAST_BITS, Math.ceil(Math.log2(members * ROOM)));
    const length = SUBNET_LEN - bits;
    const step = 2 ** (32 - length);
    if (networks * step > 2 ** 24) throw new Error('so many nodes and networks do not fit 10.0.0.0/8');
    this.networks = Array.from({ length: networks }, (_, n) => ({
      name: named('net', n),
      config: {
        Network: `${ipv4(valueOf('10.0.0.0') + n * step)}/${length}`,
        SubnetLen: SUBNET_LEN,
        Backend: { Type: 'vxlan' as const, VNI: FIRST_VNI + n },
      },
    }));
    const first = valueOf('198.18.0.0') + 256;
    this.nodes = Array.from({ length: nodes }, (_, n) => ({
      name: named('node', n),
      ip: ipv4(first + n),
      networks: Array.from({ length: perNode }, (_, i) => named('net', (n * perNode + i) % networks)),
    }));
  }

  /** Evenly on the nodes and their networks. */
  containers(): Container[] {
    return Array.from({ length: this.size.endpoints }, (_, n) => {
      const node = this.#node(n % this.nodes.length);
      const turn = Math.floor(n / this.nodes.length);
      return {
        node: node.name,
        network: node.networks[turn % node.networks.length] ?? '',
        name: named('c', n),
      };
    });
  }

  #node(n: number): LayoutNode {
    const node = this.nodes[n];
    if (node === undefined) throw new Error(`there is no node ${n}`);
    return node;
  }

  /** Hollow nodes that are on the network. */
  membersOf(network: string): LayoutNode[] {
    return this.nodes.filter(({ networks }) => networks.includes(network));
  }
}
