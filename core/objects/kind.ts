// What plan, kernel and fakes ask of a kind of kernel object. Each kind answers in a file of its own; registry.ts lists them.

declare const KEY: unique symbol;

/** What two objects share when they cannot both be there. Only the kinds make one, and nothing takes one apart. */
export type ObjectKey = string & { readonly [KEY]: true };

/** For the files of this folder alone. */
export const asKey = (text: string): ObjectKey => text as ObjectKey;

/** When an object is made; removal goes the other way round. */
export const PHASE = {
  bridge: 0,
  tunnel: 1,
  // The host itself is on the VLAN of its own traffic before the NIC, with its addresses, comes to the bridge.
  vlan: 2,
  port: 3,
  // A VLAN of a port, after it became one.
  portVlan: 4,
  veth: 5,
  inside: 6,
  sysctl: 7,
  address: 8,
  proxy: 9,
  fdb: 10,
  // The neighbour entry after the FDB entry that its MAC address leads to: a peer that was replaced is switched in one go.
  neighbour: 11,
  // Last: the kernel would ask for a gateway that has no neighbour entry yet.
  route: 12,
} as const;

/** Methods, not function properties: the registry hands out a kind for whatever object it was found by. */
export interface ObjectKind<O> {
  key(object: O): ObjectKey;
  /** As people write it, close to what `ip` and `bridge` print. */
  describe(object: O): string;
  /** One of PHASE. */
  order(object: O): number;
  /** Whether two objects of one key are the same. */
  same(a: O, b: O): boolean;
  /** The link that it lies on, and goes with. */
  link?(object: O): string | undefined;
  /** The bridge that it belongs to, although it does not lie on it. */
  bridge?(object: O): string;
  /** Links that must be weft's, where they are there, for a step to touch the object. */
  guards(object: O, step: 'create' | 'change' | 'delete'): readonly string[];
}

/** A kind whose objects are no links. */
export interface ItemKind<O> extends ObjectKind<O> {
  /** One that weft did not make is replaced; otherwise it is a conflict. */
  adopts?: true;
  /** Whether it may lie on a link that weft did not make. */
  onAnyLink?(object: O): boolean;
  /** The kernel forgets it when its link gets another MAC address. */
  lostWithMac?: true;
  /** It is removed by a step of its own also where its bridge goes. */
  released?: true;
  /** Why one that weft did not make is in the way, where that says more than the usual. */
  whyTaken?(object: O): string;
}

/** A type of link. Every link that is described is also up. */
export interface LinkKind<L> extends ObjectKind<L> {
  /** Whether the kernel cannot change the link into the wanted one of this type, so that it must be made anew. */
  remade(current: L, wanted: L): boolean;
  /** Every namespace has it by itself: it is brought up, and otherwise left alone. */
  builtin?: true;
}
