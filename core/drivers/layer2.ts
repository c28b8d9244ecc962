// Kernel objects of layer 2 networks, shared by bridge and vlan.
//
// Four shapes, which differ in the bridge:
//
//   bridge                    wfbr-NAME, the gateway on it                    each node by itself
//   vlan                      wfvlan with VLANs, shared by all such networks   each node by itself
//   either, parent a NIC      wfp-NIC, the NIC a port of it                    the LAN, or 802.1Q on it
//   either, parent a bridge   that bridge, as it is
import { parseInterface, type Family, type IpAddress, type IpNetwork } from '../address.js';
import { failedPrecondition, resourceExhausted } from '../errors.js';
import {
  BRIDGE_LINK_LOCAL,
  endpointAlias,
  gatewayOf,
  lanBridgeName,
  macOf,
  networkAlias,
  ownBridgeName,
  VLAN_BRIDGE,
  VLAN_BRIDGE_MAC,
  vlanGatewayName,
} from '../link-names.js';
import type { Membership, Parent } from '../membership.js';
import type { BridgedNetwork, Network } from '../network.js';
import { ipv6Enabled, type BridgeLink, type KernelObject } from '../objects/index.js';
import type { Endpoint } from '../records.js';
import type { CompiledEndpoint, Driver, NetworkFields } from './driver.js';
import { knownNeighbour, knownPort } from './known.js';

type Layer2Membership = Membership<BridgedNetwork>;

/** The parts that both drivers share. */
export const layer2 = {
  rollsBackFailedJoin: true,
  addressing: ({ parent, pool }) =>
    parent === undefined ? 'node' : pool === undefined ? 'claims' : 'blocks',
  hasOwnGateway,
  gatewayNode: gatewayNodeOf,
  gateway: ({ network }, family, vlan) =>
    vlan !== undefined && vlan !== vlanOf(network) ? undefined : gatewayIn(network, family),
  prefix: ({ network }, family) => prefixOf(network, family),
  reserved,
  pick,
  withLength: ({ network }, ip) => `${ip.toString()}/${network.subnet.length}`,

  checkUnderlay: () => undefined,
  parent: ({ parent }) => parent,
  takesUnderlay: ({ force }) => force,

  mtu: mtuOf,
  usualMtu: ({ mtu }, link) => mtu ?? link,
  links(membership) {
    const link = gatewayLinkOf(membership);
    return link === undefined ? [] : [link];
  },
  tunnels: () => [],
  inIp: () => false,
  fou: () => undefined,
  sharedTunnels: () => [],
  isPlain: () => false,
  udpPorts: () => [],
  vnis: () => [],
  hostLink: () => undefined,
  probes: () => [],

  describe: ({ parent, gateway, pool }): NetworkFields => ({
    ...(parent !== undefined && { parent }),
    ...(gateway && { gateway: gateway.toString() }),
    ...(pool && { range: pool.toString() }),
  }),

  compileNetwork,
  // On one layer 2 every peer is a neighbour.
  compilePeer: () => [],
  compileClaim: () => [],
  compileEndpoint,
} satisfies Partial<Driver<BridgedNetwork>>;

/** The VLAN of a network; undefined: its driver has none. */
const vlanOf = (network: BridgedNetwork): number | undefined =>
  'vlan' in network ? network.vlan : undefined;

function gatewayNodeOf(network: BridgedNetwork): string | undefined {
  return 'gatewayNode' in network ? network.gatewayNode : undefined;
}

/** A bridge of the node itself always has one. */
function hasOwnGateway(network: BridgedNetwork): boolean {
  if (network.gateway === undefined) return false;
  return network.parent === undefined || gatewayNodeOf(network) !== undefined;
}

function gatewayIn(network: BridgedNetwork, family: Family): IpAddress | undefined {
  if (family === 4) return network.gateway;
  return network.subnet6 !== undefined && hasOwnGateway(network) ? gatewayOf(network.subnet6) : undefined;
}

const prefixOf = ({ subnet, subnet6 }: BridgedNetwork, family: Family): IpNetwork | undefined =>
  family === 4 ? subnet : subnet6;

/** MTU of the containers: the requested one or the underlay's, and at most the parent's. */
function mtuOf({ network, underlay, parent }: Layer2Membership): number {
  return parent === undefined ? (network.mtu ?? underlay.mtu) : Math.min(parent.mtu, network.mtu ?? Infinity);
}

function reserved(network: BridgedNetwork, block: IpNetwork, ip: IpAddress): string | undefined {
  const whole = ip.family === 4 ? network.subnet : (network.subnet6 ?? block);
  const gateway = ip.family === 4 ? network.gateway : whole.at(1);
  if (gateway?.equals(ip) === true) return `is the gateway of network ${network.name}`;
  if (ip.equals(whole.base)) return `is the base address of ${whole.toString()}`;
  if (ip.family === 4 && ip.equals(whole.last)) return `is the broadcast address of ${whole.toString()}`;
  return undefined;
}

/** Addresses tried before a block counts as full: no node has as many containers. */
const MOST_TRIES = 1n << 20n;

/** Blocks have no reserved addresses of their own: only the network's are left out. */
function pick(
  network: BridgedNetwork,
  whole: IpNetwork,
  inUse: (ip: string) => boolean,
  after?: IpAddress,
  within?: IpNetwork,
): IpAddress {
  const block = within ?? whole;
  const start = after !== undefined && block.contains(after) ? after.value - block.base.value + 1n : 0n;
  const tries = block.size < MOST_TRIES ? block.size : MOST_TRIES;
  for (let i = 0n; i < tries; i++) {
    const ip = block.at((start + i) % block.size);
    if (reserved(network, block, ip) === undefined && !inUse(ip.toString())) return ip;
  }
  throw resourceExhausted(
    `every address of ${block.toString()} of network ${network.name} is in use on this node`,
    network.parent !== undefined
      ? 'Detach a container, attach on another node, ask for an address with --ip, or create a network with larger blocks (--host-prefix).'
      : 'Detach a container, or create a network with a larger subnet.',
  );
}

/**
 * A parent serves one network of the driver bridge, or any number of distinct VLANs.
 * @param mayShare whether an existing network shares the parent with this one
 * @throws WeftError FAILED_PRECONDITION naming the network that conflicts
 */
export function checkParent(
  network: BridgedNetwork,
  others: Iterable<Network>,
  mayShare: (other: BridgedNetwork) => boolean,
): void {
  const { name, parent } = network;
  for (const other of others) {
    if ('backend' in other || other.name === name || other.parent !== parent) continue;
    if (mayShare(other) || parent === undefined) continue;
    throw failedPrecondition(
      `network ${name}: ${parent} is the parent of network ${other.name} (driver ${other.driver}) already`,
      'Attach to that network, choose another parent, or remove that network first.',
    );
  }
}

/** The bridge whose ports the containers are. */
function bridgeOf({ network, parent }: Layer2Membership): string {
  if (parent !== undefined) return parent.isBridge ? parent.name : lanBridgeName(parent.name);
  return vlanOf(network) === undefined ? ownBridgeName(network.name) : VLAN_BRIDGE;
}

/** The node's link that receives the network's packets; undefined if the node itself is not in the network. */
function gatewayLinkOf(membership: Layer2Membership): string | undefined {
  const { network, lease } = membership;
  const node = gatewayNodeOf(network);
  if (node === undefined ? !hasOwnGateway(network) : node !== lease.node) return undefined;
  const bridge = bridgeOf(membership);
  const vlan = vlanOf(network);
  return vlan === undefined ? bridge : vlanGatewayName(bridge, vlan);
}

function compileNetwork(membership: Layer2Membership): KernelObject[] {
  const { network, parent } = membership;
  const vlan = vlanOf(network);
  const bridge = bridgeOf(membership);
  const objects: KernelObject[] = [];
  if (parent === undefined || !parent.isBridge) objects.push(bridgeLink(membership, bridge));
  if (parent !== undefined && !parent.isBridge) {
    objects.push({ kind: 'port', link: parent.name, master: bridge }, ...nativeVlan(parent, bridge));
    if (vlan !== undefined) objects.push({ kind: 'vlan', link: parent.name, bridge, vlan });
  }
  const link = gatewayLinkOf(membership);
  if (link === undefined) return objects;
  if (vlan !== undefined) {
    objects.push(
      { kind: 'vlan', link: bridge, bridge, vlan },
      {
        kind: 'link',
        type: 'vlan',
        name: link,
        alias: networkAlias(network.name),
        mtu: Math.min(mtuOf(membership), parent?.mtu ?? membership.underlay.mtu),
        base: bridge,
        vlan,
      },
    );
  }
  for (const family of [4, 6] as const) objects.push(...gatewayObjects(membership, link, family));
  return objects;
}

function bridgeLink({ network, underlay, parent, lease }: Layer2Membership, name: string): BridgeLink {
  const hasVlans = vlanOf(network) !== undefined;
  const vlans = hasVlans ? { vlans: true } : {};
  const link = { kind: 'link', type: 'bridge', name, ...vlans } as const;
  // The NIC's own address: neighbours keep their entries, and a switch port limited to one address lets it pass.
  if (parent !== undefined)
    return { ...link, alias: `weft parent ${parent.name}`, mac: parent.mac, mtu: parent.mtu };
  if (hasVlans) return { ...link, alias: 'weft VLANs', mac: VLAN_BRIDGE_MAC, mtu: underlay.mtu };
  const gateway = network.gateway ?? lease.subnet.at(1);
  return {
    ...link,
    alias: networkAlias(network.name),
    mac: macOf(gateway),
    mtu: network.mtu ?? underlay.mtu,
  };
}

/** A new port of a bridge with VLANs is in none: untagged frames, the host's own traffic, need a VLAN of their own. */
function nativeVlan({ name, native }: Parent, bridge: string): KernelObject[] {
  if (native === undefined) return [];
  return [bridge, name].map(
    (link) => ({ kind: 'vlan', link, bridge, vlan: native, untagged: true }) as const,
  );
}

function gatewayObjects(membership: Layer2Membership, link: string, family: Family): KernelObject[] {
  const gateway = gatewayIn(membership.network, family);
  const prefix = prefixOf(membership.network, family);
  if (gateway === undefined || prefix === undefined) return [];
  const objects: KernelObject[] = [
    { kind: 'address', link, address: `${gateway.toString()}/${prefix.length}` },
    { kind: 'sysctl', path: `net/ipv${family}/conf/${link}/forwarding`, value: '1' },
  ];
  if (family === 4) objects.push({ kind: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' });
  else {
    objects.push(
      { kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' },
      ipv6Enabled(link),
      // Source of neighbour solicitations: see overlay.ts.
      { kind: 'address', link, address: `${BRIDGE_LINK_LOCAL}/64` },
    );
  }
  return objects;
}

function compileEndpoint(membership: Layer2Membership, endpoint: Endpoint): CompiledEndpoint {
  const { network, parent } = membership;
  const bridge = bridgeOf(membership);
  const mtu = mtuOf(membership);
  const link = endpoint.ifname;
  const own = vlanOf(network);
  const vlan = own === undefined ? undefined : (endpoint.vlan ?? own);
  // On a LAN the node is one of many, and the addresses are not weft's alone.
  const gatewayLink = parent === undefined && vlan === own ? gatewayLinkOf(membership) : undefined;
  const host: KernelObject[] = [
    {
      kind: 'link',
      type: 'veth',
      name: endpoint.hostIfname,
      alias: endpointAlias(network.name, endpoint.name),
      mtu,
      master: bridge,
      ...(vlan === undefined ? {} : { vlan }),
      // As in overlays, for a container that connects to its own published port.
      ...(endpoint.publish.length === 0 ? {} : { hairpin: true }),
      peer: { name: link, mac: endpoint.mac },
    },
    ...knownPort(network, endpoint, bridge),
  ];
  if (vlan !== undefined && parent !== undefined && !parent.isBridge)
    host.push({ kind: 'vlan', link: parent.name, bridge, vlan });
  const container: KernelObject[] = [
    { kind: 'link', type: 'loopback', name: 'lo' },
    { kind: 'link', type: 'peer', name: link, mac: endpoint.mac, mtu },
  ];
  for (const family of [4, 6] as const) {
    const address = family === 4 ? endpoint.ip : endpoint.ip6;
    if (address === undefined) continue;
    if (family === 6) container.push(ipv6Enabled(link));
    container.push({ kind: 'address', link, address });
    if (gatewayLink !== undefined)
      host.push(...knownNeighbour(network, endpoint, gatewayLink, parseInterface(address).address));
    const via = vlan === own ? gatewayIn(network, family) : undefined;
    if (via === undefined || !endpoint.defaultRoute) continue;
    container.push({ kind: 'route', to: family === 4 ? '0.0.0.0/0' : '::/0', link, via: via.toString() });
  }
  return { host, container };
}
