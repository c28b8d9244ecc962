// Compiles records to kernel objects: pure functions, one record at a time.
//
// IPv4 and IPv6 are handled alike. The union over all records is the desired state of a node; one changed record costs its
// own objects and nothing else. A network's records compile through its driver (drivers/) and an overlay's backend
// (backends/).
import { IpAddress, parseInterface, type IpNetwork } from './address.js';
import {
  driverOf,
  gatewayFor,
  gatewayIn,
  hasOwnGateway,
  isGateway,
  ownGateways,
  prefixIn,
  type CompiledEndpoint,
} from './drivers/index.js';
import { FAMILIES, textIn } from './families.js';
import type { Firewall, FirewallNetwork, FirewallPort } from './firewall.js';
import { BRIDGE_LINK_LOCAL, RESOLVER_IP } from './link-names.js';
import type { Membership } from './membership.js';
import { areRouted, hasDirectAccess, isEncrypted, prefixesOf, type Network } from './network.js';
import type { KernelObject } from './objects/index.js';
import { ANY_HOST_IP, ANY_HOST_IP6, familiesOf } from './publish.js';
import { isHost, type Claim, type Endpoint, type Lease, type PublishedPort } from './records.js';

export {
  containerMtu,
  gatewayFor,
  gatewayIn,
  isGateway,
  ownGateways,
  prefixIn,
  type CompiledEndpoint,
} from './drivers/index.js';
export * from './membership.js';
export * from './link-names.js';
export { HOST_TARGET, isHost } from './records.js';

/** Tunnels, bridge, gateway addresses and forwarding of one network. */
export function compileNetwork(membership: Membership): KernelObject[] {
  const objects = driverOf(membership.network).compileNetwork(membership);
  for (const link of resolverLinks(membership))
    objects.push({ kind: 'address', link, address: `${RESOLVER_IP}/32` });
  return objects;
}

/** The links on which this node answers at RESOLVER_IP: those on which it is the network's IPv4 gateway. */
function resolverLinks(membership: Membership): string[] {
  const { network } = membership;
  const driver = driverOf(network);
  if (!isGateway(membership) || gatewayIn(membership) === undefined) return [];
  // A LAN or trunk has other hosts on it, and the address may be one of theirs.
  if (driver.parent(network) !== undefined) return [];
  const tunnels = driver.tunnels(membership);
  return driver.links(membership).filter((link) => !tunnels.includes(link));
}

/** Whether this node answers at RESOLVER_IP in the network. */
export const hasResolver = (membership: Membership): boolean => resolverLinks(membership).length > 0;

/** Whether this node answers an endpoint's container at RESOLVER_IP. */
export const canResolve = (membership: Membership, endpoint: Endpoint): boolean =>
  !isHost(endpoint) && hasResolver(membership) && gatewayFor(membership, endpoint, 4) !== undefined;

/** The objects through which this node reaches the subnets of another. */
export const compilePeer = (membership: Membership, peer: Lease): KernelObject[] =>
  driverOf(membership.network).compilePeer(membership, peer);

/** A claimed address, as another node sees it. This node's own claims are part of their endpoints. */
export function compileClaim(membership: Membership, claim: Claim, user: Lease | undefined): KernelObject[] {
  if (claim.state !== 'granted' || user === undefined || user.node === membership.lease.node) return [];
  return driverOf(membership.network).compileClaim(membership, claim, user);
}

/**
 * @param resolver whether its container reaches RESOLVER_IP by it
 * @param shared addresses that other containers of the node may have, too: the node asks who has them
 */
export function compileEndpoint(
  membership: Membership,
  endpoint: Endpoint,
  resolver = false,
  shared: readonly IpNetwork[] = [],
): CompiledEndpoint {
  const compiled = driverOf(membership.network).compileEndpoint(membership, endpoint);
  const isShared = (object: KernelObject): boolean =>
    object.kind === 'neighbour' && shared.some((prefix) => prefix.contains(IpAddress.parse(object.ip)));
  const host = compiled.host.filter((object) => !isShared(object));
  // Plugins that are chained after weft may give the link an address of their own (CNI's `tuning`).
  const container = endpoint.manager === 'cni' ? compiled.container.map(withFreeMac) : compiled.container;
  if (!resolver || container.length === 0) return { host, container };
  return {
    host,
    container: [...container, { kind: 'route', to: `${RESOLVER_IP}/32`, link: endpoint.ifname }],
  };
}

const withFreeMac = (object: KernelObject): KernelObject =>
  object.kind === 'link' && object.type === 'peer' ? { ...object, freeMac: true } : object;

/**
 * The desired firewall of the networks that this node is on.
 * @param known every known network of the cluster
 */
export function compileFirewall(memberships: Iterable<Membership>, known: Iterable<Network> = []): Firewall {
  const mine = [...memberships];
  const networks = mine.flatMap((membership): FirewallNetwork[] => {
    const { network } = membership;
    const driver = driverOf(network);
    const [shared] = driver.sharedTunnels(membership);
    const isOwn = (link: string): boolean => link !== shared;
    const links = driver.links(membership).filter(isOwn);
    // A network that the node only bridges has no rule; what the node forwards for others is filtered by their own rules.
    if (links.length === 0 && membership.subnetOnly !== true) return [];
    // Only networks that this node is on: packets to another would leave by its default route.
    const routed = mine.filter((other) => areRouted(network, other.network));
    return [
      {
        name: network.name,
        links,
        tunnels: driver.tunnels(membership).filter(isOwn),
        ...(shared !== undefined && {
          shared: { link: shared, source: membership.lease.subnet.base.toString() },
        }),
        prefixes: prefixesOf(network),
        reaches: routed.flatMap((other) => prefixesOf(other.network)),
        local: FAMILIES.flatMap((family) => prefixIn(membership, family) ?? []),
        internal: network.internal,
        masquerade: network.masquerade && !network.internal,
        ...(isEncrypted(network) && { sealed: true }),
        ...(hasDirectAccess(network) && { directAccess: true }),
      },
    ];
  });
  const all = [...known];
  // A network without a gateway of the nodes counts as outside, like any other destination.
  const others = all.filter(
    (other) => hasOwnGateway(other) && !mine.some(({ network }) => network.name === other.name),
  );
  return {
    networks: networks.sort((a, b) => (a.name < b.name ? -1 : 1)),
    others: others.toSorted((a, b) => (a.name < b.name ? -1 : 1)).flatMap(prefixesOf),
    tunnelPorts: [...new Set(mine.flatMap(({ network }) => driverOf(network).udpPorts(network)))].toSorted(
      (a, b) => a - b,
    ),
    ...([...all, ...mine.map(({ network }) => network)].some((one) => driverOf(one).inIp(one)) && {
      inIp: true,
    }),
    backendPorts: [
      ...new Set(
        [...all, ...mine.map(({ network }) => network)].flatMap((one) => driverOf(one).udpPorts(one)),
      ),
    ].toSorted((a, b) => a - b),
    ...fouOf(mine),
    vnis: mine.flatMap(({ network }) => driverOf(network).vnis(network)),
    own: [
      ...new Set([RESOLVER_IP, BRIDGE_LINK_LOCAL, ...mine.flatMap((one) => ownGateways(one).map(String))]),
    ],
    ...(mine[0] !== undefined && { underlay: mine[0].underlay.link }),
    bridged: mine.some(
      (membership) =>
        membership.subnetOnly !== true && driverOf(membership.network).links(membership).length === 0,
    )
      ? [4, 6]
      : [],
  };
}

function fouOf(mine: readonly Membership[]): Pick<Firewall, 'fou'> {
  const [found] = mine.flatMap(({ network, fou }) => {
    const device = fou === true ? driverOf(network).fou(network) : undefined;
    return device === undefined ? [] : [{ ...device, prefixes: prefixesOf(network) }];
  });
  return found === undefined ? {} : { fou: found };
}

/** A published port, once for each family that the container has. */
export function compilePort(
  membership: Membership,
  endpoint: Endpoint,
  published: PublishedPort,
): FirewallPort[] {
  const { hostIp, hostPort, port, protocol } = published;
  const { network } = membership;
  // With a tunnel the client appears as this node; with a plain route it does not, and the replies would not come back here.
  const isPlain = driverOf(network).isPlain(network);
  const addresses = FAMILIES.flatMap((family) => {
    const subnet = prefixIn(membership, family);
    if (subnet === undefined) return [];
    const text = textIn(endpoint, family);
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
        clients: away
          ? isPlain
            ? 'gateway'
            : 'themselves'
          : !endpoint.defaultRoute
            ? 'gateway'
            : subnet.contains(ip)
              ? 'themselves'
              : 'itself',
      };
    });
}
