// Whether this node can be on a network: on one that it is to join, beside those that it is on already; and on one that it
// is on, after the network's config has changed.
import { allowsVlan, checkParent } from '../../core/bridged.js';
import type { Membership, Parent, Underlay } from '../../core/compile.js';
import { alreadyExists, failedPrecondition, notFound, unavailable } from '../../core/errors.js';
import { checkOverlap, prefixesOf, type Network } from '../../core/network.js';
import type { Lease } from '../../core/records.js';
import type { Store } from '../../store/store.js';
import { notServed, unservedConfig } from '../../store/unserved.js';
import { ownSubnets } from './address-claims.js';

/** @throws WeftError NOT_FOUND, UNAVAILABLE where etcd would have to be asked, FAILED_PRECONDITION where nobody can read it */
export function knownNetwork(store: Store, name: string): Network {
  const network = store.view.networks.get(name);
  if (network !== undefined) return network;
  const bad = unservedConfig(store.view, name);
  if (bad !== undefined) throw notServed(name, bad);
  if (!store.isSynced) {
    throw unavailable(
      `network ${name} is not known on this node, and etcd does not answer`,
      'Try again when etcd is back.',
    );
  }
  throw notFound(
    `there is no network ${name}`,
    'See `weft network ls`, or make it with `weft network create`.',
  );
}

/** @throws WeftError FAILED_PRECONDITION, INVALID_ARGUMENT, ALREADY_EXISTS with what is in the way */
export function checkJoinable(
  network: Network,
  others: readonly Network[],
  { ip, ip6 }: Underlay,
  node: string,
): void {
  const { name } = network;
  if (network.driver === 'overlay' && network.subnet6 !== undefined && ip6 === undefined) {
    throw failedPrecondition(
      `network ${name} is dual stack, and this node has no IPv6 address on the underlay`,
      'Give the underlay interface an IPv6 address, or name both with --underlay-ip IP,IP6.',
    );
  }
  const mine = [ip, ...(ip6 === undefined ? [] : [ip6])].map((address) => ({ node, ip: address }));
  checkOverlap(network, others, mine);
  checkParent(network, others);
  const sameVni = others.find((other) => other.vni !== undefined && other.vni === network.vni);
  if (sameVni !== undefined) {
    throw alreadyExists(
      `network ${name} has VNI ${network.vni}, and so has network ${sameVni.name}, which this node is on`,
      'Give one of them another VNI.',
    );
  }
}

/**
 * The parent as the networks on it have it already: which VLAN there stands for the host's own frames is theirs to say.
 * @throws WeftError FAILED_PRECONDITION where the network wants that VLAN
 */
export function sharedParent(
  network: Network,
  parent: Parent | undefined,
  others: readonly Membership[],
): Parent | undefined {
  if (parent?.native === undefined || network.driver !== 'vlan') return parent;
  const there = others.find((other) => other.parent?.name === parent.name)?.parent;
  if (there?.native === undefined) return parent;
  if (allowsVlan(network, there.native)) {
    throw failedPrecondition(
      `network ${network.name}: on this node VLAN ${there.native} of ${parent.name} stands for its frames without a tag`,
      'Choose another VLAN, or detach what is on the other networks of that parent first.',
    );
  }
  return there;
}

/** Whether a node can stay on a network whose config was changed, with the subnet that it has. */
export function canStay(before: Network, after: Network, lease: Lease): boolean {
  const fits = ownSubnets(lease).every((subnet) => prefixesOf(after).some((whole) => whole.contains(subnet)));
  return (
    fits &&
    after.hostPrefix === before.hostPrefix &&
    sameKind(after, before) &&
    (after.subnet6 === undefined) === (before.subnet6 === undefined)
  );
}

/** What is made of links cannot become something else while containers are on it. */
function sameKind(a: Network, b: Network): boolean {
  if (a.driver === 'overlay' || b.driver === 'overlay') return a.driver === b.driver;
  const vlan = (network: Network): number | undefined =>
    network.driver === 'vlan' ? network.vlan : undefined;
  return a.driver === b.driver && a.parent === b.parent && vlan(a) === vlan(b);
}
