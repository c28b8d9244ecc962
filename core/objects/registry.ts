// The registry of all kinds of kernel objects.
//
// A new kind is a file beside this one and a line here. The agent's codecs (agent/kernel/objects) are total over these lists, so
// that a kind without a codec does not compile.
import { address } from './address.js';
import { bridge } from './bridge.js';
import { bridgeVlan } from './bridge-vlan.js';
import { fdb } from './fdb.js';
import type { ItemKind, LinkKind, ObjectKey, ObjectKind } from './kind.js';
import { ipip } from './ipip.js';
import { loopback } from './loopback.js';
import { neighbour } from './neighbour.js';
import { peer } from './peer.js';
import { port } from './port.js';
import { portMac } from './port-mac.js';
import { proxy } from './proxy.js';
import { pump, pumpPrefix } from './pump.js';
import { route } from './route.js';
import { sysctl, type SysctlObject } from './sysctl.js';
import { tun } from './tun.js';
import { veth } from './veth.js';
import { vlan } from './vlan.js';
import { vxlan } from './vxlan.js';
import { wireguard, wireguardKey, wireguardPeer, wireguardPrefix } from './wireguard.js';

const LINKS = { vxlan, wireguard, tun, ipip, bridge, vlan, veth, peer, loopback };
const ITEMS = {
  address,
  route,
  neighbour,
  proxy,
  fdb,
  'port-mac': portMac,
  port,
  vlan: bridgeVlan,
  'wireguard-key': wireguardKey,
  'wireguard-peer': wireguardPeer,
  'wireguard-prefix': wireguardPrefix,
  pump,
  'pump-prefix': pumpPrefix,
  sysctl,
};

type ObjectOf<K> = K extends ObjectKind<infer O> ? O : never;

export type LinkObject = ObjectOf<(typeof LINKS)[keyof typeof LINKS]>;
/** Everything but links. */
export type ItemObject = ObjectOf<(typeof ITEMS)[keyof typeof ITEMS]>;
export type KernelObject = LinkObject | ItemObject;
/** Settings are not owned, so none is deleted. */
export type RemovableItem = Exclude<ItemObject, SysctlObject>;

export type LinkType = LinkObject['type'];
export type ItemName = ItemObject['kind'];
export type LinkOf<T extends LinkType> = Extract<LinkObject, { type: T }>;
export type ItemOf<K extends ItemName> = Extract<ItemObject, { kind: K }>;

/** Each under the type that its objects carry. */
export const LINK_KINDS: { readonly [T in LinkType]: LinkKind<LinkOf<T>> } = LINKS;
export const ITEM_KINDS: { readonly [K in ItemName]: ItemKind<ItemOf<K>> } = ITEMS;

// An object only reaches the kind that its own type finds, which the compiler cannot follow.
export const linkKindOf = (link: LinkObject): LinkKind<LinkObject> => LINK_KINDS[link.type];
export const itemKindOf = (item: ItemObject): ItemKind<ItemObject> => ITEM_KINDS[item.kind];
export const kindOf = (object: KernelObject): ObjectKind<KernelObject> =>
  object.kind === 'link' ? LINK_KINDS[object.type] : ITEM_KINDS[object.kind];

export const isRemovable = (item: ItemObject): item is RemovableItem => item.kind !== 'sysctl';

/** The settings among objects; those of a namespace are read only where they are asked for. */
export const sysctlPaths = (objects: Iterable<KernelObject>): string[] =>
  [...objects].flatMap((object) => (object.kind === 'sysctl' ? [object.path] : []));

export const objectKey = (object: KernelObject): ObjectKey => kindOf(object).key(object);

/** Text for people, close to the output of `ip` and `bridge`. */
export const describeObject = (object: KernelObject): string => kindOf(object).describe(object);

/** Whether the kernel cannot change a link into the desired one. */
export const mustRemake = (current: LinkObject, wanted: LinkObject): boolean =>
  current.type !== wanted.type || linkKindOf(wanted).remade(current, wanted);

/** Whether two objects of one key are the same. */
export function sameObject(a: KernelObject, b: KernelObject): boolean {
  if (a.kind !== b.kind) return false;
  if (a.kind === 'link' && b.kind === 'link' && mustRemake(a, b)) return false;
  return kindOf(a).same(a, b);
}
