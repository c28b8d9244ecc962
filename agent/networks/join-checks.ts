// Join checks: whether this node can be, or stay, on a network.
import type { Membership, Parent, Underlay } from '../../core/compile.js';
import { allowsVlan, driverOf } from '../../core/drivers/index.js';
import { failedPrecondition, type WeftError } from '../../core/errors.js';
import { prefixesOf, type Network } from '../../core/network.js';
import { describeStep } from '../../core/plan.js';
import { checkOverlap } from '../../core/overlap.js';
import type { Lease } from '../../core/records.js';
import { unknownName } from '../../daemon/unknown.js';
import type { Store } from '../../store/store.js';
import { notServed, unservedConfig } from '../../store/unserved.js';
import type { StepFailure } from '../kernel/index.js';
import { ownSubnets } from './address-claims.js';

/**
 * One that was made a moment ago may be on its way.
 * @throws WeftError NOT_FOUND, UNAVAILABLE where etcd does not answer, FAILED_PRECONDITION where its config is not served
 */
export async function knownNetwork(store: Store, name: string): Promise<Network> {
  const { networks } = store.view;
  if (!networks.has(name)) await store.seeNetwork(name);
  const network = networks.get(name);
  if (network !== undefined) return network;
  const bad = unservedConfig(store.view, name);
  if (bad !== undefined) throw notServed(name, bad);
  throw unknownName('network', name, networks.keys());
}

/** @throws WeftError FAILED_PRECONDITION, INVALID_ARGUMENT, ALREADY_EXISTS that names the conflict */
export function checkJoinable(
  network: Network,
  others: readonly Network[],
  underlay: Underlay,
  node: string,
): void {
  const driver = driverOf(network);
  const { ip, ip6 } = underlay;
  driver.checkUnderlay(network, underlay);
  const mine = [ip, ...(ip6 === undefined ? [] : [ip6])].map((address) => ({ node, ip: address }));
  checkOverlap(network, others, mine);
  driver.checkBeside(network, others);
}

/**
 * The parent as earlier networks on it use it: they decide which VLAN carries the host's untagged frames.
 * @throws WeftError FAILED_PRECONDITION where the network wants that VLAN
 */
export function sharedParent(
  network: Network,
  parent: Parent | undefined,
  others: readonly Membership[],
): Parent | undefined {
  if (parent?.native === undefined) return parent;
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
    driverOf(after).isSameKind(after, before) &&
    after.subnet.family === before.subnet.family &&
    (after.subnet6 === undefined) === (before.subnet6 === undefined)
  );
}

export function expelled(node: string): WeftError {
  return failedPrecondition(
    `node ${node} was removed from the cluster with \`weft node rm --force\``,
    'Restart its agent to join again.',
  );
}

export function noBridge(network: string): WeftError {
  return failedPrecondition(
    `network ${network}: the agent of this node has --subnet-only ${network}, so its bridge is another program's`,
    'Let that program attach the container, attach on another node, or start the agent without --subnet-only.',
  );
}

export function refusedByKernel(network: string, { step, message }: StepFailure): WeftError {
  return failedPrecondition(
    `network ${network} cannot be made on this node: the kernel refused ${describeStep(step).what}: ${message}`,
    'Nothing was left behind; see `weft status` for what else is wrong on this node.',
  );
}
