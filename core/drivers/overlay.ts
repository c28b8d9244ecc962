// overlay: a routed subnet for each node, joined by a backend.
//
// A node has a bridge with the gateway of its subnet; a backend (core/backends) carries packets to the other nodes' subnets.
// IPv4 and IPv6 are sides of one network, handled by the same code.
import * as z from 'zod';

import { addressBits, IpNetwork, parseInterface, type Family } from '../address.js';
import { backendIn, backendOf, BACKEND_TYPES } from '../backends/index.js';
import { overheadOf, tunnelMtu } from '../backends/backend.js';
import { alreadyExists, failedPrecondition } from '../errors.js';
import { addressIn, FAMILIES, subnetIn, textIn } from '../families.js';
import { pickAddress, reservedUse, withLength } from '../ipam.js';
import {
  BRIDGE_LINK_LOCAL,
  endpointAlias,
  gatewayOf,
  macOf,
  networkAlias,
  transitIfname,
} from '../link-names.js';
import type { OverlayMembership } from '../membership.js';
import { isEncrypted, prefixesOf, type OverlayNetwork } from '../network.js';
import { ipv6Enabled, type KernelObject } from '../objects/index.js';
import { isHost, type Endpoint } from '../records.js';
import type { CompiledEndpoint, Driver, Probe } from './driver.js';
import { knownNeighbour, knownPort } from './known.js';
import { parseOverlay } from './overlay-spec.js';
import {
  besideOf,
  bridgeOf,
  inForce,
  isOfBackend,
  leaseAs,
  remoteIn,
  remotesOf,
  sidesOf,
} from './overlay-sides.js';
import { savedCommon } from './saved.js';
import { noVlan } from './vlan-ids.js';

export const overlay: Driver<OverlayNetwork> = {
  name: 'overlay',
  options: [
    'backend',
    'backendOptions',
    ...BACKEND_TYPES.flatMap((type) => backendOf(type).options),
    'hostPrefix6',
  ],
  rollsBackFailedJoin: false,
  saved: z.union(
    BACKEND_TYPES.map((type) =>
      z.object({
        ...savedCommon,
        driver: z.literal('overlay'),
        backend: z.literal(type),
        ...backendOf(type).config.saved,
      }),
    ),
  ),
  parse: parseOverlay,

  addressing: () => 'subnets',
  fixedBackendType: undefined,
  needs: (network) => backendIn(network).needs,
  occupies: (network) => prefixesOf(network),
  hasOwnGateway: () => true,
  gatewayNode: () => undefined,
  gateway({ lease }, family) {
    const subnet = lease && subnetIn(lease, family);
    return subnet === undefined ? undefined : gatewayOf(subnet);
  },
  prefix: ({ lease }, family) => lease && subnetIn(lease, family),
  reserved: (_network, block, ip) => reservedUse(block, ip),
  pick: (_network, block, inUse, after, within) => pickAddress(block, inUse, after, within),
  withLength: ({ lease }, ip) => withLength(ip, lease.subnet),

  checkUnderlay(network, underlay) {
    const { name, subnet6 } = network;
    for (const family of FAMILIES) {
      if (subnetIn(network, family) === undefined) continue;
      const carriers = backendIn(network).carriers(network, family);
      const [carrier] = carriers;
      if (carrier === undefined || carriers.some((one) => addressIn(underlay, one) !== undefined)) continue;
      const kind = subnet6 === undefined ? `of IPv${family}` : 'dual stack';
      const both = subnet6 === undefined ? '--underlay-ip' : 'both with --underlay-ip IP,IP6';
      throw failedPrecondition(
        `network ${name} is ${kind}, and this node has no IPv${carrier} address on the underlay`,
        `Give the underlay interface an IPv${carrier} address, or name ${subnet6 === undefined ? 'it with ' : ''}${both}.`,
      );
    }
  },
  checkBeside(network, others) {
    for (const other of others) {
      if (other.driver !== 'overlay' || other.name === network.name) continue;
      // Also of what they move to or from: two networks of one backend may share a port.
      for (const one of withBeside(network))
        for (const its of withBeside(other))
          if (one.backend === its.backend) backendIn(one).checkBeside(one, its);
          else checkPorts(one, its);
    }
  },
  /** Another backend gives the containers' ports another bridge, and nothing else. */
  isSameKind: (_network, other) => other.driver === 'overlay',
  parent: () => undefined,
  takesUnderlay: () => false,
  vlans: () => [],
  vlanFor: noVlan,

  /** Of both backends, while the network moves: no packet is too large for either. */
  mtu(membership) {
    return Math.min(
      ...bothOf(membership).flatMap((one) =>
        sidesOf(one).map(({ family }) =>
          tunnelMtu(one, overheadOf(backendIn(one.network), one.network, family)),
        ),
      ),
    );
  },
  usualMtu: (network, link) =>
    Math.min(
      link - overheadOf(backendIn(network), network, subnetIn(network, 6) === undefined ? 4 : 6),
      network.mtu ?? Infinity,
    ),
  links: (membership) => [
    ...(membership.subnetOnly === true ? [] : [bridgeOf(membership)]),
    ...overlay.tunnels(membership),
  ],
  tunnels: (membership) =>
    bothOf(membership).flatMap((one) =>
      backendIn(one.network).tunnels(
        one,
        sidesOf(one).map(({ family }) => family),
      ),
    ),
  inIp: (network) => withBeside(network).some((one) => backendIn(one).inIp === true),
  fou: (network) => withBeside(network).flatMap((one) => backendIn(one).fou?.(one) ?? [])[0],
  sharedTunnels: (membership) =>
    bothOf(membership)
      .filter(({ network }) => backendIn(network).devices === 'node')
      .flatMap((one) => backendIn(one.network).tunnels(one, [4])),
  isPlain: (network) => withBeside(network).some((one) => backendIn(one).isPlain(one)),
  vnis: (network) => withBeside(network).flatMap((one) => backendIn(one).vnis(one)),
  udpPorts: (network) => withBeside(network).flatMap((one) => backendIn(one).udpPorts(one)),
  /** The bridge: the host needs no veth pair. */
  hostLink: (membership) => ({ name: bridgeOf(membership), mac: macOf(gatewayOf(membership.lease.subnet)) }),
  probes(moving, lease) {
    const membership = inForce(moving);
    const { network } = membership;
    const peer = leaseAs(lease, network.backend);
    const backend = backendIn(network);
    if (!isOfBackend(peer, network) || peer.publicIp.value === 0n) return [];
    const mtu = overlay.mtu(moving);
    return prefixesOf(peer).map(({ family }): Probe => {
      const remote = remoteIn(membership, peer, family);
      if ('why' in remote) return { family, unreachable: remote.why };
      const overhead = overheadOf(backend, network, family);
      const size = Math.min(mtu, (peer.mtu ?? Infinity) - overhead);
      return {
        family,
        address: backend.probeAddress(remote),
        underlay: remote.publicIp,
        size,
        outerSize: size + overhead,
        advice: backend.advice(network, family),
      };
    });
  },

  describe: (network) => ({
    backend: network.backend,
    directRouting: false,
    encrypted: isEncrypted(network),
    ...backendIn(network).describe(network),
  }),

  compileNetwork,
  compilePeer: (membership, peer) =>
    inBoth(membership, (one) =>
      remotesOf(one, peer).flatMap((remote) => backendIn(one.network).compilePeer(one, remote)),
    ),
  /** A route to the peer that uses the address, and a proxy entry for the containers that look for it on their own link. */
  compileClaim(membership, { ip }, user) {
    const own = subnetIn(membership.lease, ip.family);
    const whole = IpNetwork.of(ip, addressBits(ip.family));
    const leads = inBoth(membership, (one) =>
      remotesOf(one, user)
        .filter(({ family }) => family === ip.family)
        .flatMap((remote) => backendIn(one.network).routesTo(one, remote, whole)),
    );
    const isNeeded = leads.length > 0 && own?.contains(ip) === true && membership.subnetOnly !== true;
    return isNeeded ? [...leads, { kind: 'proxy', link: bridgeOf(membership), ip: ip.toString() }] : leads;
  },
  compileEndpoint,
};

/** A port receives the packets of one backend. @throws WeftError ALREADY_EXISTS */
function checkPorts(network: OverlayNetwork, other: OverlayNetwork): void {
  const taken = backendIn(other).udpPorts(other);
  const port = backendIn(network)
    .udpPorts(network)
    .find((one) => taken.includes(one));
  if (port === undefined) return;
  throw alreadyExists(
    `network ${network.name}: UDP port ${port} is network ${other.name}'s, of the backend ${other.backend}`,
    'Give one of them another port (--port).',
  );
}

const bothOf = (membership: OverlayMembership): OverlayMembership[] => [
  inForce(membership),
  ...besideOf(membership),
];

const withBeside = (network: OverlayNetwork): OverlayNetwork[] =>
  network.beside === undefined ? [network] : [network, network.beside];

/** What the backend in force compiles to, and without routes what the one beside does. */
const inBoth = (
  membership: OverlayMembership,
  compile: (one: OverlayMembership) => KernelObject[],
): KernelObject[] => [
  ...compile(inForce(membership)),
  ...besideOf(membership).flatMap((one) => compile(one).filter(({ kind }) => kind !== 'route')),
];

function compileNetwork(membership: OverlayMembership): KernelObject[] {
  const { network, lease } = membership;
  const bridge = bridgeOf(membership);
  const hasBridge = membership.subnetOnly !== true;
  const objects: KernelObject[] = [];
  if (hasBridge)
    objects.push({
      kind: 'link',
      type: 'bridge',
      name: bridge,
      alias: networkAlias(network.name),
      mac: macOf(gatewayOf(lease.subnet)),
      mtu: overlay.mtu(membership),
    });
  for (const { family, subnet } of sidesOf(inForce(membership))) {
    objects.push(
      ...inBoth(membership, (one) =>
        sidesOf(one)
          .filter((side) => side.family === family)
          .flatMap((side) => backendIn(one.network).compileNetwork(one, side)),
      ),
    );
    if (hasBridge) objects.push(...gatewayObjects(bridge, subnet));
    const tunnels = bothOf(membership).flatMap((one) => backendIn(one.network).tunnels(one, [family]));
    objects.push(...forwardingOf(family, [...tunnels, ...(hasBridge ? [bridge] : [])]));
  }
  return objects;
}

/** What makes the bridge the gateway of the node's subnet. */
function gatewayObjects(bridge: string, subnet: IpNetwork): KernelObject[] {
  const gateway: KernelObject[] = [
    { kind: 'address', link: bridge, address: `${gatewayOf(subnet).toString()}/${subnet.length}` },
    // The kernel answers for another's address after a random time of up to this (net/core/neighbour.c, pneigh_enqueue), so
    // that the owner answers first. Nobody else answers on this bridge.
    { kind: 'sysctl', path: `net/ipv${subnet.family}/neigh/${bridge}/proxy_delay`, value: '0' },
  ];
  if (subnet.family === 4) return gateway;
  return [
    ...gateway,
    // Neighbour solicitations need a link-local source (RFC 4861 §7.2.2). The kernel's own would first be checked for
    // duplicates, and for a second or two no container could be reached.
    { kind: 'address', link: bridge, address: `${BRIDGE_LINK_LOCAL}/64` },
    // IPv6 proxy entries answer only if this is on (net/ipv6/ndisc.c, ndisc_recv_ns).
    { kind: 'sysctl', path: `net/ipv6/conf/${bridge}/proxy_ndp`, value: '1' },
  ];
}

/** The settings with which the links forward packets of the family. */
function forwardingOf(family: Family, links: readonly string[]): KernelObject[] {
  const conf = `net/ipv${family}/conf`;
  const sysctl = (path: string, value = '1'): KernelObject => ({ kind: 'sysctl', path, value });
  const forwarding = links.map((link) => sysctl(`${conf}/${link}/forwarding`));
  if (family === 6) return [...forwarding, sysctl('net/ipv6/conf/all/forwarding'), ...links.map(ipv6Enabled)];
  return [
    ...forwarding,
    sysctl('net/ipv4/ip_forward'),
    ...links.flatMap((link) => [
      // 127.0.0.1:PORT of the host leads to a container only where packets of that source may leave by the link
      // (net/ipv4/route.c, __mkroute_output); the firewall keeps containers from the other direction.
      sysctl(`${conf}/${link}/route_localnet`),
      // Replies may arrive by another network's link than the requests left by. 2 (loose): the higher of `all` and this
      // counts, so that a strict host is not strict here.
      sysctl(`${conf}/${link}/rp_filter`, '2'),
    ]),
  ];
}

/**
 * The host as a member of the network: addresses on its bridge. The kernel's own route to the subnet prefers the gateway's
 * address as the source; two routes to its halves override it, and peers' routes name the source as well.
 */
function compileHostEndpoint(membership: OverlayMembership, endpoint: Endpoint): KernelObject[] {
  const link = bridgeOf(membership);
  return sidesOf(membership).flatMap(({ family, subnet }): KernelObject[] => {
    const text = textIn(endpoint, family);
    if (text === undefined) return [];
    const bits = addressBits(family);
    const ip = parseInterface(text).address.toString();
    const address: KernelObject = { kind: 'address', link, address: `${ip}/${bits}` };
    if (subnet.length >= bits) return [address];
    const upper = subnet.at(subnet.size / 2n);
    return [
      address,
      ...[subnet.base, upper].map((base): KernelObject => {
        return { kind: 'route', to: `${base.toString()}/${subnet.length + 1}`, link, src: ip };
      }),
    ];
  });
}

function compileEndpoint(membership: OverlayMembership, endpoint: Endpoint): CompiledEndpoint {
  if (isHost(endpoint)) return { host: compileHostEndpoint(membership, endpoint), container: [] };
  const { network } = membership;
  const mtu = overlay.mtu(membership);
  const bridge = bridgeOf(membership);
  const link = endpoint.ifname;
  const isInside = endpoint.sandbox.cookie !== '';
  const host: KernelObject[] = [
    {
      kind: 'link',
      type: 'veth',
      name: endpoint.hostIfname,
      alias: endpointAlias(network.name, endpoint.name),
      mtu,
      master: bridge,
      // A container that connects to its own published port: with br_netfilter, as Docker and Kubernetes set it, the packet
      // is translated while the bridge handles it, which drops packets that would leave by the port they came from.
      ...(endpoint.publish.length === 0 ? {} : { hairpin: true }),
      peer: isInside
        ? { name: link, mac: endpoint.mac }
        : { name: transitIfname(endpoint.id), mac: endpoint.mac, onNode: true },
    },
    ...knownPort(network, endpoint, bridge),
  ];
  const container: KernelObject[] = [
    { kind: 'link', type: 'loopback', name: 'lo' },
    { kind: 'link', type: 'peer', name: link, mac: endpoint.mac, mtu },
  ];
  for (const { family, subnet } of sidesOf(membership)) {
    const text = textIn(endpoint, family);
    const whole = subnetIn(network, family);
    if (text === undefined || whole === undefined) continue;
    const { address, length } = parseInterface(text);
    const via = gatewayOf(subnet).toString();
    if (family === 6) container.push(ipv6Enabled(link));
    container.push({ kind: 'address', link, address: text });
    host.push(...knownNeighbour(network, endpoint, bridge, address));
    if (length === addressBits(family)) {
      // No prefix of its own link contains the gateway, so the gateway's route comes first.
      container.push({ kind: 'route', to: `${via}/${addressBits(family)}`, link });
      host.push({ kind: 'route', to: `${address.toString()}/${addressBits(family)}`, link: bridge });
    }
    if (!whole.equals(subnet)) container.push({ kind: 'route', to: whole.toString(), link, via });
    if (endpoint.defaultRoute)
      container.push({ kind: 'route', to: family === 4 ? '0.0.0.0/0' : '::/0', link, via });
  }
  return { host, container: isInside ? container : [] };
}
