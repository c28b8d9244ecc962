// Routes of a host beside a network of weft's: what a node refuses, avoids, or tells of.
//
// The main table of the host decides where its packets go, and the longest prefix wins. A route of somebody else's that equals
// a network, or lies inside it, takes the packets of its containers, or they take those of the route.
import type { IpNetwork } from './address.js';
import { describeNetwork, driverOf, hasOwnGateway } from './drivers/index.js';
import { hostPrefixIn, publicIpIn, subnetIn } from './families.js';
import { prefixesOf, type Network } from './network.js';
import type { Lease } from './records.js';

/** A route that is no default route. */
export interface HostRoute {
  to: IpNetwork;
  /** Absent for one that drops packets, and for one with several next hops. */
  link?: string;
  via?: string;
  /** Absent for the main table; `local` has the host's own addresses. */
  table?: string;
  /** The prefix of an address of the link: other hosts on the link, or the host itself, have the rest of it. */
  isLan: boolean;
  /** weft made it, or the link that it leads to. */
  isOwn: boolean;
}

/** How a route lies to a prefix; `own` and `flannel` are routes of the network itself, by weft or by a flanneld. */
export type RouteRelation = 'own' | 'flannel' | 'equals' | 'inside' | 'contains' | 'apart';

/** What routes of a host mean to a network. */
export interface NetworkRoutes {
  /** They equal a prefix of the network, or lie inside it. */
  inside: HostRoute[];
  /** They contain it, as a company's 10.0.0.0/8 does. */
  around: HostRoute[];
  /** No subnet of a node may overlap these. */
  avoid: IpNetwork[];
}

const NO_ROUTES: NetworkRoutes = { inside: [], around: [], avoid: [] };

/**
 * @param network the prefix is the network's, or of one of its subnets
 * @param leases of the network: a flanneld's routes lead to their subnets
 */
export function classifyRoute(
  route: HostRoute,
  prefix: IpNetwork,
  network: Network,
  leases: readonly Lease[],
): RouteRelation {
  if (route.isOwn) return 'own';
  // First, since it is cheap: a host may have as many routes as the internet.
  if (!route.to.overlaps(prefix)) return 'apart';
  if (isFlannels(route, network, leases)) return 'flannel';
  if (route.to.equals(prefix)) return 'equals';
  return prefix.contains(route.to) ? 'inside' : 'contains';
}

/**
 * A network with a parent is a LAN of the hosts, so that routes to it are expected; one without a gateway on the hosts has nothing
 * to do with their routes.
 */
export function routesBeside(
  network: Network,
  routes: readonly HostRoute[],
  leases: readonly Lease[],
): NetworkRoutes {
  if (driverOf(network).parent(network) !== undefined || !hasOwnGateway(network)) return NO_ROUTES;
  const beside: NetworkRoutes = { inside: [], around: [], avoid: [] };
  for (const prefix of prefixesOf(network)) {
    const hostPrefix = hostPrefixIn(network, prefix.family) ?? prefix.length;
    for (const route of routes) {
      const relation = classifyRoute(route, prefix, network, leases);
      if (relation === 'contains' && !isHalfOfAll(route.to)) beside.around.push(route);
      if (relation !== 'equals' && relation !== 'inside') continue;
      beside.inside.push(route);
      if (keepsOut(route, hostPrefix)) beside.avoid.push(route.to);
    }
  }
  return beside;
}

/**
 * Whether no subnet of this length may overlap the route. Where the route of another network contains a subnet, the subnet is the
 * longer prefix and has its packets; on a LAN it would hide the neighbours.
 */
export const keepsOut = ({ isLan, to }: HostRoute, hostPrefix: number): boolean =>
  isLan || to.length >= hostPrefix;

/** As `ip route` shows it, without what does not matter here. */
export const routeText = ({ to, via, link, table }: HostRoute): string =>
  [to.toString(), via && `via ${via}`, link && `dev ${link}`, table && `table ${table}`]
    .filter(Boolean)
    .join(' ');

/** The first few, as text. */
export function routesText(routes: readonly HostRoute[]): string {
  const most = 3;
  const rest = routes.length - most;
  const shown = routes.slice(0, most).map(routeText).join(', ');
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}

/** VPNs write a default route as two halves, which the host's own default route does not replace. */
const isHalfOfAll = ({ length }: IpNetwork): boolean => length <= 1;

/**
 * flannel's device has the network's VNI in its name (pkg/backend/vxlan); other backends of flannel's have devices that begin
 * with "flannel", and host-gw has routes through the public address of the lease.
 */
function isFlannels({ to, link = '', via }: HostRoute, network: Network, leases: readonly Lease[]): boolean {
  const { vni } = describeNetwork(network);
  if (vni !== undefined && [`flannel.${vni}`, `flannel-v6.${vni}`].includes(link)) return true;
  const isOfFlannel = link.startsWith('flannel');
  return leases.some((lease) => {
    if (subnetIn(lease, to.family)?.contains(to) !== true) return false;
    return isOfFlannel || via === publicIpIn(lease, to.family)?.toString();
  });
}
