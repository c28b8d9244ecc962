// The parent link of a network on this node, checked before it is used.
//
// Also whether this node's kernel can carry the network at all.
import type { Parent, Underlay } from '../../core/compile.js';
import { driverOf, needsOf, vlansOf } from '../../core/drivers/index.js';
import { formatVlans } from '../../core/drivers/vlan-ids.js';
import { failedPrecondition, notFound } from '../../core/errors.js';
import type { Network } from '../../core/network.js';
import { isLanBridge, LINK_PREFIX } from '../../core/objects/index.js';
import type { Kernel, ParentLink } from '../kernel/index.js';

/**
 * Checks that this node can be on the network.
 * @throws WeftError FAILED_PRECONDITION, NOT_FOUND that names what is missing or in conflict
 */
export async function findParent(
  kernel: Kernel,
  network: Network,
  underlay: Underlay,
  node: string,
): Promise<Parent | undefined> {
  checkCapabilities(network, kernel, node);
  const name = driverOf(network).parent(network);
  if (name === undefined) return undefined;
  const link = await kernel.parentLink(name);
  return chooseParent(network, link, underlay);
}

function checkCapabilities(network: Network, kernel: Pick<Kernel, 'capabilities'>, node: string): void {
  const needed = needsOf(network, node);
  // Capabilities are found out by trying, which costs a namespace.
  const capabilities = needed.length === 0 ? [] : kernel.capabilities();
  const missing = capabilities.filter(({ name, available }) => needed.includes(name) && !available);
  if (missing.length === 0) return;
  throw failedPrecondition(
    `network ${network.name} cannot be on this node: ${missing.map(({ why }) => why).join('; ')}`,
    'Attach on a node whose kernel has it (see `weft status` there), or use a network of another driver.',
  );
}

/** Pure: every refusal is a row of a test. */
export function chooseParent(
  network: Network,
  link: ParentLink | undefined,
  underlay: Pick<Underlay, 'link'>,
): Parent {
  const driver = driverOf(network);
  const name = driver.parent(network) ?? '';
  const carried = vlansOf(network);
  const refuse = (why: string, next: string): Error =>
    failedPrecondition(`network ${network.name}: its parent ${name} ${why}`, next);
  if (link === undefined) {
    throw notFound(
      `network ${network.name}: this node has no interface ${name}, which is its parent`,
      'See `ip link`; attach on a node that has it, or create a network with another --parent.',
    );
  }
  if (name.startsWith(LINK_PREFIX))
    throw refuse("is a link of weft's own", 'Choose an interface of the host.');
  if (!link.isEthernet)
    throw refuse('is no Ethernet interface', 'Choose one whose frames a bridge can carry.');
  if (!link.up) throw refuse('is down', `Bring it up first: ip link set ${name} up`);
  const { mac, mtu } = link;
  if (link.isBridge) {
    if (carried.length > 0 && !link.filtersVlans) {
      throw refuse(
        'is a bridge that does not tell VLANs apart, and weft does not change bridges of others',
        `Switch it on yourself (ip link set ${name} type bridge vlan_filtering 1), or choose another parent.`,
      );
    }
    return { name, isBridge: true, mac, mtu };
  }
  if (link.master !== undefined && !isLanBridge(link.master)) {
    throw refuse(
      `is itself a port of ${link.master}`,
      `Give ${link.master} as the parent, or take ${name} out of it.`,
    );
  }
  const onUnderlay = underlay.link === name || (link.master !== undefined && underlay.link === link.master);
  if (onUnderlay && !driver.takesUnderlay(network)) {
    throw refuse(
      'carries the underlay, over which this node reaches the others',
      'Choose another interface, or create the network with --force: the addresses of the interface then move to a bridge.',
    );
  }
  if (carried.length === 0) return { name, isBridge: false, mac, mtu };
  const clash = link.vlans.find(({ vlan }) =>
    carried.some(({ first, last }) => first <= vlan && vlan <= last),
  );
  if (clash !== undefined) {
    throw refuse(
      `has a link of its own for VLAN ${clash.vlan}, ${clash.name}, which would take its frames`,
      `Delete ${clash.name}, or choose VLANs other than ${formatVlans(carried)}.`,
    );
  }
  return { name, isBridge: false, mac, mtu, native: nativeFor(carried) };
}

/** The VLAN of untagged frames on the bridge: the last id that the network leaves free. It never leaves the host. */
function nativeFor(carried: readonly { first: number; last: number }[]): number {
  for (let id = 4094; id > 1; id--)
    if (!carried.some(({ first, last }) => first <= id && id <= last)) return id;
  return 1;
}
