// Host interfaces of pipework: an existing or new bridge, or a NIC.
//
// Checks whether containers may be attached to it, before anything is changed.
import { failedPrecondition, notFound } from '../../core/errors.js';
import type { Membership, Underlay } from '../../core/membership.js';
import { lanBridgeName } from '../../core/link-names.js';
import { isLanBridge, LINK_PREFIX } from '../../core/objects/index.js';
import type { HostInterface } from '../../core/attachment.js';
import type { Capability, Kernel, ParentLink } from '../kernel/index.js';

export interface HostInterfaceSources {
  kernel: Pick<Kernel, 'parentLink' | 'capabilities'>;
  underlay: () => Underlay;
  /** Networks of this node: one of them may use the NIC. */
  memberships: () => readonly Membership[];
  /** Interfaces with attachments. */
  known: ReadonlyMap<string, HostInterface>;
}

/** VLAN id of untagged frames inside a NIC's bridge, never sent out: the highest valid id (IEEE 802.1Q). */
const NATIVE = 4094;

/** @throws WeftError FAILED_PRECONDITION, NOT_FOUND with the reason */
export async function findHostInterface(
  { kernel, underlay, memberships, known }: HostInterfaceSources,
  request: { host: string; vlan?: number; force?: boolean },
): Promise<HostInterface> {
  const { host: name } = request;
  const there = known.get(name);
  if (there !== undefined) return there;
  const link = await kernel.parentLink(name);
  const vlans = kernel.capabilities().find((one) => one.name === 'bridge-vlan-filtering');
  if (link === undefined) return bridgeToMake(request, underlay().mtu, vlans);
  if (name.startsWith(LINK_PREFIX)) throw refuse(name, "is a link of weft's own", 'Give a link of the host.');
  if (link.isBridge) return { kind: 'bridge', name, mtu: link.mtu, vlans: link.filtersVlans, made: false };
  checkNic(link, underlay(), request);
  const { mac, mtu } = link;
  const sharing = memberships().find(({ parent }) => parent?.name === name);
  const native =
    sharing === undefined ? (vlans?.available === true ? NATIVE : undefined) : sharing.parent?.native;
  if (request.vlan !== undefined && native === undefined && sharing === undefined) needVlans(name, vlans);
  return { kind: 'nic', name, mac, mtu, ...(native === undefined ? {} : { native }) };
}

function bridgeToMake(
  { host: name, vlan }: { host: string; vlan?: number },
  mtu: number,
  vlans: Capability | undefined,
): HostInterface {
  const ovs = name.startsWith('ovs');
  if (!ovs && !name.startsWith('br')) {
    throw notFound(
      `pipework: this host has no interface ${name}, and weft makes no bridge of that name`,
      'See `ip link`; weft makes a bridge if the name begins with br or ovs.',
    );
  }
  const aware = ovs || vlan !== undefined;
  if (aware) needVlans(name, vlans);
  return { kind: 'bridge', name, mtu, vlans: aware, made: true };
}

function needVlans(name: string, capability: Capability | undefined): void {
  if (capability?.available === true) return;
  throw failedPrecondition(
    `pipework: ${name} cannot have VLANs on this host: ${capability?.why ?? 'its kernel has none'}`,
    'Use a host whose kernel has it (see `weft status` there), or leave the VLAN out.',
  );
}

function checkNic(
  link: ParentLink,
  underlay: Underlay,
  { vlan, force }: { vlan?: number; force?: boolean },
): void {
  const { name, master } = link;
  if (!link.isEthernet)
    throw refuse(name, 'is no Ethernet interface', 'Give one whose frames a bridge can carry.');
  if (!link.up) throw refuse(name, 'is down', `Bring it up first: ip link set ${name} up`);
  if (master !== undefined && !isLanBridge(master))
    throw refuse(name, `is itself a port of ${master}`, `Give ${master} instead.`);
  const bridge = lanBridgeName(name);
  if ((underlay.link === name || underlay.link === bridge) && force !== true) {
    throw refuse(
      name,
      'carries the underlay, over which this node reaches the others',
      `Confirm with weft pipework --force ${name} …; its addresses then move to a bridge, and stay reachable.`,
    );
  }
  const clash = link.vlans.find((one) => one.vlan === vlan);
  if (clash !== undefined) {
    throw refuse(
      name,
      `has a link of its own for VLAN ${clash.vlan}, ${clash.name}, which would take its frames`,
      `Give ${clash.name} instead, without the VLAN.`,
    );
  }
}

const refuse = (name: string, why: string, next: string): Error =>
  failedPrecondition(`pipework: ${name} ${why}`, next);
