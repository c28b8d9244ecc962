// Routes of a cloud's tables: which of them are a network's, and how they change.
//
// A cloud's tables carry no mark of weft's. A route belongs to a network if its destination is a node's subnet or one address
// in the network's prefix, and its next hop a machine; every other route is somebody else's, and stays.
import { addressBits, IpNetwork, type IpAddress } from './address.js';
import { backendIn } from './backends/index.js';
import type { CloudName } from './backends/types.js';
import { isBridged } from './drivers/index.js';
import { addressIn, hostPrefixIn, subnetIn } from './families.js';
import type { Membership, Underlay } from './membership.js';
import type { Network, OverlayNetwork } from './network.js';

/** A network whose packets a cloud routes. */
export interface CloudNetwork {
  cloud: CloudName;
  name: string;
  /** Clouds route a network's IPv4 alone. */
  prefix: IpNetwork;
  /** Prefix length of a node's subnet. */
  hostPrefix: number;
  /** Ids of the route tables; none: they are found. */
  tables: readonly string[];
}

/** The same with what this node has in it. */
export interface CloudMember extends CloudNetwork {
  /** This node's underlay address, which the cloud knows its interface by. */
  ip: IpAddress;
  /** What leads to this node: its subnet, and addresses of other subnets that it uses. */
  routes: readonly IpNetwork[];
}

export interface CloudRoute {
  table: string;
  to: IpNetwork;
  /** The next hop as the cloud names it. */
  hop: string;
  /** Whether the next hop is a machine of the cloud, and no gateway or peering. */
  isMachine: boolean;
  /** The route's own name, where the cloud has one. */
  name?: string;
}

export interface CloudTable {
  id: string;
  routes: readonly CloudRoute[];
}

export type CloudStep =
  | { do: 'create'; table: string; to: IpNetwork; hop: string }
  | { do: 'replace'; route: CloudRoute; hop: string }
  | { do: 'delete'; route: CloudRoute };

/** The networks of an overlay that a cloud routes: itself, and the one beside while it moves. */
export const cloudNetworksOf = (network: Network): CloudNetwork[] =>
  isBridged(network)
    ? []
    : [network, ...(network.beside === undefined ? [] : [network.beside])].flatMap(
        (one) => cloudNetworkOf(one) ?? [],
      );

function cloudNetworkOf(network: OverlayNetwork): CloudNetwork | undefined {
  const { cloud } = backendIn(network);
  const prefix = subnetIn(network, 4);
  const hostPrefix = hostPrefixIn(network, 4);
  if (cloud === undefined || prefix === undefined || hostPrefix === undefined) return undefined;
  return { cloud: cloud.name, name: network.name, prefix, hostPrefix, tables: cloud.tables(network) };
}

/** What the routes of a membership depend on. */
export type CloudMembership = Pick<Membership, 'network' | 'lease'> & {
  underlay: Pick<Underlay, 'ip' | 'ip6'>;
};

/** What this node has in the clouds. @param claimed addresses outside of its subnet that it uses in a network */
export const compileCloud = (
  memberships: Iterable<CloudMembership>,
  claimed: (network: string) => Iterable<IpAddress>,
): CloudMember[] =>
  [...memberships].flatMap(({ network, lease, underlay }) => {
    const ip = addressIn(underlay, 4);
    const subnet = subnetIn(lease, 4);
    if (ip === undefined || subnet === undefined) return [];
    const single = [...claimed(network.name)].map((address) =>
      IpNetwork.of(address, addressBits(address.family)),
    );
    return cloudNetworksOf(network).map((one) => ({
      ...one,
      ip,
      routes: [subnet, ...single.filter((to) => one.prefix.contains(to))],
    }));
  });

/** Whether a route is the network's, whichever node it leads to. */
export const isOfNetwork = ({ prefix, hostPrefix }: CloudNetwork, { to, isMachine }: CloudRoute): boolean =>
  isMachine && prefix.contains(to) && (to.length === hostPrefix || to.length === addressBits(prefix.family));

export interface CloudPlan {
  steps: CloudStep[];
  /** What is in the way and not the network's. */
  conflicts: CloudRoute[];
}

/**
 * The changes by which the tables lead to this node.
 * @param hop this node as a next hop @param prune whether `member` is complete: what else leads to this node is deleted
 */
export function planCloud(
  tables: readonly CloudTable[],
  member: CloudMember,
  hop: string,
  prune: boolean,
): CloudPlan {
  const plan: CloudPlan = { steps: [], conflicts: [] };
  for (const { id, routes } of tables) {
    for (const to of member.routes) {
      const there = routes.find((route) => route.to.equals(to));
      if (there === undefined) plan.steps.push({ do: 'create', table: id, to, hop });
      else if (!there.isMachine) plan.conflicts.push(there);
      else if (there.hop !== hop) plan.steps.push({ do: 'replace', route: there, hop });
    }
    const isObsolete = (route: CloudRoute): boolean =>
      route.hop === hop && isOfNetwork(member, route) && !member.routes.some((to) => to.equals(route.to));
    if (prune)
      plan.steps.push(...routes.filter(isObsolete).map((route) => ({ do: 'delete', route }) as const));
  }
  return plan;
}

/** The network's routes to what nobody has any more. @param isKept whether a node has this subnet, or uses this address */
export const endedRoutes = (
  tables: readonly CloudTable[],
  network: CloudNetwork,
  isKept: (to: IpNetwork) => boolean,
): CloudRoute[] =>
  tables.flatMap(({ routes }) => routes.filter((route) => isOfNetwork(network, route) && !isKept(route.to)));

/** For people. */
export function describeCloudStep(step: CloudStep): { verb: CloudStep['do']; what: string } {
  if (step.do === 'create')
    return { verb: 'create', what: `route ${step.to.toString()} to ${step.hop} in ${step.table}` };
  const { to, table, hop } = step.route;
  const by = step.do === 'replace' ? ` by ${step.hop}` : '';
  return { verb: step.do, what: `route ${to.toString()} to ${hop}${by} in ${table}` };
}
