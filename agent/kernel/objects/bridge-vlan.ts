// VLANs of weft's bridges and their ports.
import type { BridgeVlanObject } from '../../../core/objects/index.js';
import type { Message, Request } from '../netlink-message.js';
import { bridgeVlanRequest, decodeBridgeVlans, dumpBridgeVlans } from './bridge-vlan-messages.js';
import type { ItemCodec } from './codec.js';
import { isPortOfWefts } from './port.js';
import type { BridgeVlanEntry, KernelLink } from './readings.js';

export const bridgeVlan: ItemCodec<BridgeVlanObject> = {
  request: (object, index, how) => bridgeVlanRequest(object, index, how !== 'delete'),
  observe: ({ links, vlans, lookup }) =>
    [...links.values()].flatMap((link) =>
      vlanObjects(link, vlans.get(link.index) ?? [], (index) => lookup.byIndex(index)).map((object) => ({
        object,
        owned: true,
      })),
    ),
};

/** VLANs of a bridge, and of a port that weft made; a container port's VLAN is part of its link. */
export function vlanObjects(
  link: KernelLink,
  entries: readonly BridgeVlanEntry[],
  byIndex: (index: number) => KernelLink | undefined,
): BridgeVlanObject[] {
  if (entries.length === 0) return [];
  const bridge = link.kind === 'bridge' ? link : byIndex(link.masterIndex);
  if (bridge === undefined || !(link === bridge ? link.owned : isPortOfWefts(link.name, bridge))) return [];
  return entries.map(({ vlan, pvid, untagged }) => ({
    kind: 'vlan',
    link: link.name,
    bridge: bridge.name,
    vlan,
    ...(pvid || untagged ? { untagged: true } : {}),
  }));
}

/** By the index of each port of a VLAN-filtering bridge, and of the bridge. On the node only. */
export function readBridgeVlans(
  links: ReadonlyMap<number, KernelLink>,
  dump: (request: Request) => Message[],
): Map<number, BridgeVlanEntry[]> {
  const found = new Map<number, BridgeVlanEntry[]>();
  const aware = (link: KernelLink | undefined): boolean =>
    link?.object?.type === 'bridge' && link.object.vlans === true;
  for (const link of links.values())
    if (aware(link) || aware(links.get(link.masterIndex))) found.set(link.index, []);
  if (found.size === 0) return found;
  for (const { body } of dump(dumpBridgeVlans)) {
    const { index, entries } = decodeBridgeVlans(body);
    if (found.has(index) && entries.length > 0) found.set(index, entries);
  }
  return found;
}
