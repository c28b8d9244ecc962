// Interface of a kind of kernel object, for plan, kernel and fakes.
//
// Each kind implements it in a file of its own; registry.ts lists them.

declare const KEY: unique symbol;

/** Identity: two objects of one key cannot both exist. Only the kinds create keys, and nothing parses one. */
export type ObjectKey = string & { readonly [KEY]: true };

/** Only for the files of this folder. */
export const asKey = (text: string): ObjectKey => text as ObjectKey;

/** Order of creation; deletion is in reverse. */
export const PHASE = {
  bridge: 0,
  tunnel: 1,
  // The host itself joins the VLAN of its own traffic before the NIC, with its addresses, becomes a port of the bridge.
  vlan: 2,
  port: 3,
  // A port's VLAN, after the link became a port.
  portVlan: 4,
  veth: 5,
  inside: 6,
  sysctl: 7,
  address: 8,
  proxy: 9,
  tunnelKey: 10,
  tunnelPeer: 11,
  // A prefix moves to a new peer before the old one goes.
  tunnelPrefix: 12,
  fdb: 13,
  // Neighbour entries after the FDB entry of their MAC address: a replaced peer is switched at once.
  neighbour: 14,
  // Last: the kernel would send ARP requests for a gateway without a neighbour entry.
  route: 15,
} as const;

/** Methods, not function properties: the registry hands out a kind for whatever object it was looked up by. */
export interface ObjectKind<O> {
  key(object: O): ObjectKey;
  /** Text for people, close to the output of `ip` and `bridge`. */
  describe(object: O): string;
  /** One of PHASE. */
  order(object: O): number;
  /** Whether two objects of one key are the same. */
  same(a: O, b: O): boolean;
  /** The link that it lies on, and is deleted with. */
  link?(object: O): string | undefined;
  /** The bridge that it belongs to without lying on it. */
  bridge?(object: O): string;
  /** Links that must be weft's, where they exist, for a step to touch the object. */
  guards(object: O, step: 'create' | 'change' | 'delete'): readonly string[];
}

/** A kind of object that is not a link. */
export interface ItemKind<O> extends ObjectKind<O> {
  /** An unowned one is replaced; otherwise it is a conflict. */
  adopts?: true;
  /** Whether it may lie on an unowned link. */
  onAnyLink?(object: O): boolean;
  /** The kernel deletes it when its link gets another MAC address. */
  lostWithMac?: true;
  /** It needs a deletion step of its own also where its bridge is deleted. */
  released?: true;
  /** Why an unowned one is a conflict, where there is more to say than the usual text. */
  whyTaken?(object: O): string;
}

/** A type of link. Every described link is also up. */
export interface LinkKind<L> extends ObjectKind<L> {
  /** Whether the kernel cannot change the link into the desired one of this type, so that it must be recreated. */
  remade(current: L, wanted: L): boolean;
  /**
   * Why the kernel makes no such link while `other`, of the same type, is there, and what helps where the other one stays;
   * undefined: it makes both.
   */
  excludedBy?(wanted: L, other: L): { why: string; otherwise: string } | undefined;
  /** It exists in every namespace: it is brought up, and otherwise left alone. */
  builtin?: true;
}
