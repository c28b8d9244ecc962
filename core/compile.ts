// Records become kernel objects here, by pure functions, one record at a time and IPv4 and IPv6 alike. The union over all
// records is what a node should have; one changed record costs its own objects and nothing else.
import { addressBits, parseInterface, type Family, type IpAddress, type IpNetwork } from './address.js';
import {
  compileBridgedEndpoint,
  compileBridgedNetwork,
  gatewayLinkOf,
  isBridgedMembership,
} from './compile-bridged.js';
import type { Firewall, FirewallNetwork, FirewallPort } from './firewall.js';
import {
  containerMtu,
  isOverlay,
  prefixIn,
  tunnelMtu,
  type Membership,
  type OverlayMembership,
} from './membership.js';
import {
  BRIDGE_LINK_LOCAL,
  bridgeName,
  endpointAlias,
  gatewayOf,
  macOf,
  networkAlias,
  transitIfname,
  vxlanName,
} from './link-names.js';
import { areRouted, hasOwnGateway, prefixesOf, type Network } from './network.js';
import type { KernelObject, VxlanLink } from './objects/index.js';
import { ANY_HOST_IP, ANY_HOST_IP6, familiesOf } from './publish.js';
import type { Claim, Endpoint, Lease, PublishedPort } from './records.js';

export * from './membership.js';
export * from './link-names.js';

/** The two families of a membership as one list, so that no code is written twice for them. */
interface Side {
  family: Family;
  vxlan: string;
  /** This node's subnet. */
  subnet: IpNetwork;
  gateway: IpAddress;
  local: IpAddress;
  mac: string;
}

function sidesOf({ lease, underlay, network }: OverlayMembership): Side[] {
  const side = (family: Family, subnet?: IpNetwork, local?: IpAddress, mac?: string): Side[] =>
    subnet === undefined || local === undefined || mac === undefined
      ? []
      : [{ family, vxlan: vxlanName(network.vni, family), subnet, gateway: gatewayOf(subnet), local, mac }];
  return [
    ...side(4, lease.subnet, underlay.ip, lease.vtep?.mac),
    ...side(6, lease.subnet6, underlay.ip6, lease.vtep6?.mac),
  ];
}

/** Tunnels, bridge, gateway addresses and forwarding of one network. */
export function compileNetwork(membership: Membership): KernelObject[] {
  if (isBridgedMembership(membership)) return compileBridgedNetwork(membership);
  return isOverlay(membership) ? compileOverlay(membership) : [];
}

function compileOverlay(membership: OverlayMembership): KernelObject[] {
  const { network } = membership;
  const alias = networkAlias(network.name);
  const bridge = bridgeName(network.vni);
  const sides = sidesOf(membership);
  const objects: KernelObject[] = [
    {
      kind: 'link',
      type: 'bridge',
      name: bridge,
      alias,
      mac: macOf(gatewayOf(membership.lease.subnet)),
      mtu: containerMtu(membership),
    },
  ];
  for (const { family, vxlan, subnet, gateway, local, mac } of sides) {
    const link: VxlanLink = {
      kind: 'link',
      type: 'vxlan',
      name: vxlan,
      alias,
      mac,
      mtu: tunnelMtu(membership, family),
      vni: network.vni,
      local: local.toString(),
      port: network.port,
    };
    const conf = `net/ipv${family}/conf`;
    objects.push(
      link,
      { kind: 'address', link: vxlan, address: `${subnet.base.toString()}/${addressBits(family)}` },
      { kind: 'address', link: bridge, address: `${gateway.toString()}/${subnet.length}` },
      { kind: 'sysctl', path: `${conf}/${vxlan}/forwarding`, value: '1' },
      { kind: 'sysctl', path: `${conf}/${bridge}/forwarding`, value: '1' },
    );
    if (family === 4) {
      objects.push({ kind: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' });
      for (const name of [vxlan, bridge]) {
        objects.push(
          // 127.0.0.1:PORT of the host leads to a container only where packets of that source may leave by the link
          // (net/ipv4/route.c, __mkroute_output); the firewall keeps containers from the other direction.
          { kind: 'sysctl', path: `${conf}/${name}/route_localnet`, value: '1' },
          // Answers may come by another network's link than questions left by. 2: the highest of all and this counts,
          // so that a host that is strict elsewhere is not here.
          { kind: 'sysctl', path: `${conf}/${name}/rp_filter`, value: '2' },
        );
      }
    } else {
      objects.push(
        { kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' },
        // Neighbours are asked for from a link-local address (RFC 4861 §7.2.2). The kernel's own would be checked for
        // duplicates first, and for a second or two no container could be reached.
        { kind: 'address', link: bridge, address: `${BRIDGE_LINK_LOCAL}/64` },
        // Proxy entries of IPv6 answer only where this is on (net/ipv6/ndisc.c, ndisc_recv_ns).
        { kind: 'sysctl', path: `net/ipv6/conf/${bridge}/proxy_ndp`, value: '1' },
      );
    }
  }
  return objects;
}

/**
 * How this node reaches the subnets of another. Nothing where the lease is not one that VXLAN of this network reaches, or
 * where it would draw other traffic away: a subnet outside the network, or one that overlaps this node's own.
 */
export function compilePeer(membership: Membership, peer: Lease): KernelObject[] {
  // On one layer 2 everybody is next to everybody.
  if (!isOverlay(membership)) return [];
  return remoteSides(membership, peer).flatMap(({ family, vxlan, subnet, mac, dst }): KernelObject[] => [
    { kind: 'fdb', link: vxlan, mac, dst: dst.toString() },
    { kind: 'neighbour', link: vxlan, ip: subnet.base.toString(), mac },
    {
      kind: 'route',
      to: subnet.toString(),
      link: vxlan,
      via: subnet.base.toString(),
      onlink: true,
      ...hostSource(membership, family),
    },
  ]);
}

function hostSource({ exposed }: Membership, family: Family): { src?: string } {
  const src = family === 4 ? exposed?.ip : exposed?.ip6;
  return src === undefined ? {} : { src };
}

function remoteSides(
  membership: OverlayMembership,
  peer: Lease,
): { family: Family; vxlan: string; subnet: IpNetwork; mac: string; dst: IpAddress }[] {
  const { network } = membership;
  if (peer.backendType !== network.backend) return [];
  return sidesOf(membership).flatMap(({ family, vxlan, subnet: own }) => {
    const whole = family === 4 ? network.subnet : network.subnet6;
    const subnet = family === 4 ? peer.subnet : peer.subnet6;
    const dst = family === 4 ? peer.publicIp : peer.publicIp6;
    const vtep = family === 4 ? peer.vtep : peer.vtep6;
    if (subnet === undefined || whole?.contains(subnet) !== true || own.overlaps(subnet)) return [];
    return dst === undefined || vtep === undefined || vtep.vni !== network.vni
      ? []
      : [{ family, vxlan, subnet, mac: vtep.mac, dst }];
  });
}

/**
 * An address that is used outside its subnet. Where a peer uses it: a route of its own to that peer, and for an address
 * of this node's subnet an answer to the containers that ask for it on their own link. This node's own claims are part
 * of their endpoints.
 */
export function compileClaim(membership: Membership, claim: Claim, user: Lease | undefined): KernelObject[] {
  if (claim.state !== 'granted' || user === undefined || user.node === membership.lease.node) return [];
  if (!isOverlay(membership)) return [];
  const { family } = claim.ip;
  const ip = claim.ip.toString();
  const own = family === 4 ? membership.lease.subnet : membership.lease.subnet6;
  return remoteSides(membership, user)
    .filter((side) => side.family === family)
    .flatMap(({ vxlan, subnet }): KernelObject[] => [
      {
        kind: 'route',
        to: `${ip}/${addressBits(family)}`,
        link: vxlan,
        via: subnet.base.toString(),
        onlink: true,
        ...hostSource(membership, family),
      },
      ...(own?.contains(claim.ip) === true
        ? [{ kind: 'proxy', link: bridgeName(membership.network.vni), ip } as const]
        : []),
    ]);
}

/** The target of the endpoint by which the host itself is on a network. */
export const HOST_TARGET = 'host';

export const isHost = (endpoint: Pick<Endpoint, 'target'>): boolean => endpoint.target === HOST_TARGET;

/** What the endpoint of the host itself has in the place of a veth pair: the bridge, which the host stands on already. */
export const hostLinkOf = ({ network, lease }: OverlayMembership): { name: string; mac: string } => ({
  name: bridgeName(network.vni),
  mac: macOf(gatewayOf(lease.subnet)),
});

/**
 * The host as a member of the network: addresses on its bridge. The kernel's own route to the subnet prefers the gateway's
 * address as the source; two routes to the halves come before it, and from peers' routes the source is known as well.
 */
function compileHostEndpoint(membership: OverlayMembership, endpoint: Endpoint): KernelObject[] {
  const link = bridgeName(membership.network.vni);
  return sidesOf(membership).flatMap(({ family, subnet }): KernelObject[] => {
    const text = family === 4 ? endpoint.ip : endpoint.ip6;
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

export interface CompiledEndpoint {
  /** In the node's namespace. */
  host: KernelObject[];
  /** In the container's. */
  container: KernelObject[];
}

export function compileEndpoint(membership: Membership, endpoint: Endpoint): CompiledEndpoint {
  if (isBridgedMembership(membership)) return compileBridgedEndpoint(membership, endpoint);
  if (!isOverlay(membership)) return { host: [], container: [] };
  if (isHost(endpoint)) return { host: compileHostEndpoint(membership, endpoint), container: [] };
  const { network } = membership;
  const mtu = containerMtu(membership);
  const bridge = bridgeName(network.vni);
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
      // A container that asks for its own published port: where br_netfilter is on, as Docker and Kubernetes have it, the
      // packet is translated while it is still the bridge's, which drops what would leave by the port that it came from.
      ...(endpoint.publish.length === 0 ? {} : { hairpin: true }),
      peer: isInside
        ? { name: link, mac: endpoint.mac }
        : { name: transitIfname(endpoint.id), mac: endpoint.mac, onNode: true },
    },
  ];
  const container: KernelObject[] = [
    { kind: 'link', type: 'loopback', name: 'lo' },
    { kind: 'link', type: 'peer', name: link, mac: endpoint.mac, mtu },
  ];
  for (const { family, subnet, gateway } of sidesOf(membership)) {
    const text = family === 4 ? endpoint.ip : endpoint.ip6;
    const whole = family === 4 ? network.subnet : network.subnet6;
    if (text === undefined || whole === undefined) continue;
    const { address, length } = parseInterface(text);
    const via = gateway.toString();
    container.push({ kind: 'address', link, address: text });
    if (length === addressBits(family)) {
      // Its own link has no prefix that holds the gateway, so the way to it is said first.
      container.push({ kind: 'route', to: `${via}/${addressBits(family)}`, link });
      host.push({ kind: 'route', to: `${address.toString()}/${addressBits(family)}`, link: bridge });
    }
    if (!whole.equals(subnet)) container.push({ kind: 'route', to: whole.toString(), link, via });
    if (endpoint.defaultRoute)
      container.push({ kind: 'route', to: family === 4 ? '0.0.0.0/0' : '::/0', link, via });
  }
  return { host, container: isInside ? container : [] };
}

/**
 * What the firewall has to know of the networks that this node is on.
 * @param known every network of the cluster, as far as it is known
 */
export function compileFirewall(memberships: Iterable<Membership>, known: Iterable<Network> = []): Firewall {
  const mine = [...memberships];
  const networks = mine.flatMap((membership): FirewallNetwork[] => {
    const { network } = membership;
    const links = linksOf(membership);
    // What the node only bridges is in no rule, and what it forwards for others is theirs to judge.
    if (links.length === 0) return [];
    // Only those that this node is on: what it cannot carry there must not leave by its default route.
    const routed = mine.filter((other) => areRouted(network, other.network));
    return [
      {
        name: network.name,
        links,
        tunnels: isOverlay(membership) ? sidesOf(membership).map((side) => side.vxlan) : [],
        prefixes: prefixesOf(network),
        reaches: routed.flatMap((other) => prefixesOf(other.network)),
        local: ([4, 6] as const).flatMap((family) => prefixIn(membership, family) ?? []),
        internal: network.internal,
        masquerade: network.masquerade && !network.internal,
      },
    ];
  });
  // What no host has a way into of its own is a place like any other outside.
  const others = [...known].filter(
    (other) => hasOwnGateway(other) && !mine.some(({ network }) => network.name === other.name),
  );
  return {
    networks: networks.sort((a, b) => (a.name < b.name ? -1 : 1)),
    others: others.toSorted((a, b) => (a.name < b.name ? -1 : 1)).flatMap(prefixesOf),
    tunnelPorts: [...new Set(mine.flatMap(({ network }) => network.port ?? []))].toSorted((a, b) => a - b),
    bridged: mine.some((membership) => linksOf(membership).length === 0) ? [4, 6] : [],
  };
}

/** A published port, once for each family that the container has. */
export function compilePort(
  membership: Membership,
  endpoint: Endpoint,
  published: PublishedPort,
): FirewallPort[] {
  const { hostIp, hostPort, port, protocol } = published;
  const addresses = ([4, 6] as const).flatMap((family) => {
    const subnet = prefixIn(membership, family);
    if (subnet === undefined) return [];
    const text = family === 4 ? endpoint.ip : endpoint.ip6;
    return text === undefined ? [] : [{ family, subnet, ip: parseInterface(text).address }];
  });
  const families = familiesOf(
    hostIp,
    addresses.map(({ family }) => family),
  );
  return addresses
    .filter(({ family }) => families.includes(family))
    .map(({ subnet, ip }): FirewallPort => {
      const away = endpoint.node !== membership.lease.node;
      return {
        ...(hostIp === ANY_HOST_IP || hostIp === ANY_HOST_IP6 ? {} : { hostIp }),
        hostPort,
        protocol,
        ip: ip.toString(),
        port,
        // The way to another node's container shows the client as this node anyway.
        clients: away
          ? 'themselves'
          : !endpoint.defaultRoute
            ? 'gateway'
            : subnet.contains(ip)
              ? 'themselves'
              : 'itself',
      };
    });
}

/** The links of the node through which the network's packets come. */
function linksOf(membership: Membership): string[] {
  if (isOverlay(membership))
    return [bridgeName(membership.network.vni), ...sidesOf(membership).map((side) => side.vxlan)];
  const link = isBridgedMembership(membership) ? gatewayLinkOf(membership) : undefined;
  return link === undefined ? [] : [link];
}
