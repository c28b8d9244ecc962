// What the kernel layer asks of a kind of kernel object: how it is written and read.
//
// Each kind answers in a file of its own; links.ts and items.ts list them, total over core's kinds.
import type { ActualObject, ItemObject, LinkObject } from '../../../core/objects/index.js';
import type { NamespaceRole } from '../kernel.js';
import type { Attrs, Request } from '../netlink-message.js';
import type { Refusal } from '../netlink-socket.js';
import type { BridgeVlanEntry, KernelLink, LinkLookup, View } from './readings.js';

/** A step that cannot be carried out as things are. */
export class StepRefused extends Error implements Refusal {
  constructor(
    readonly errno: string,
    why: string,
  ) {
    super(`${errno}, ${why}`);
  }
}

export interface LinkContext {
  /** @throws StepRefused ENODEV */
  bridgeIndex: (name: string) => number;
  /** The open namespace that the other end of this link is made in. */
  peerFd: (link: string) => number | undefined;
}

/** Methods, not function properties: the list hands out a codec for whatever object it was found by. */
export interface LinkCodec<L extends LinkObject> {
  /** IFLA_INFO_KIND, by which it is recognised; empty: a device without. */
  infoKind: string;
  /** Where such a link is one of weft's objects. */
  roles: readonly NamespaceRole[];
  /** The attributes of a new one beside its name and mark. Absent: it is not made from the namespace that it is seen in. */
  create?(link: L, context: LinkContext): Buffer[];
  /** All that differs and can be changed while the link is there, and then: up. */
  change(link: L, current: KernelLink, context: LinkContext & { created: boolean }): Request[];
  /** @param data IFLA_INFO_DATA. @param nameOf the name of a bridge by its index */
  decode(
    link: Omit<KernelLink, 'object'>,
    alias: string,
    data: Attrs,
    nameOf: (index: number) => string,
  ): L | undefined;
  /** Of a port of a bridge that tells VLANs apart. */
  withVlans?(link: L, entries: readonly BridgeVlanEntry[]): L;
}

/** What NICs of the host become ports by, and are released by (bridge-ports.ts). */
export interface PortMover {
  take(link: KernelLink, bridge: KernelLink): Refusal | undefined;
  release(link: KernelLink | undefined, bridge: KernelLink | undefined, name: string): Refusal | undefined;
  /** The bridge that the link was made a port of. */
  bridgeOf(link: string): string;
}

export interface DirectContext {
  /** Absent in containers. */
  ports: PortMover | undefined;
  link: (name: string) => KernelLink | undefined;
  /** What is known of the link is out of date. */
  forget: (name: string) => void;
  inside: <T>(work: () => T) => T;
}

export interface Told {
  actual: ActualObject;
  /** False: it is gone, or is not as weft makes it any more. */
  there: boolean;
}

/** How an item is read. */
interface ItemReader {
  /** Every one in a namespace that is weft's, or could be in the way of weft's. */
  observe(view: View): Iterable<ActualObject>;
  /** Types of rtnetlink messages that tell of changes; addresses and routes are told by notifications.ts itself. */
  toldBy?: readonly number[];
  told?(type: number, body: Buffer, lookup: LinkLookup): Iterable<Told>;
}

/** An item on a link that one rtnetlink request makes or removes. */
interface RequestItem<O> {
  request(object: O, index: number, how: 'create' | 'replace' | 'delete'): Request;
}

/** An item that is made and removed by other means, after what was sent before is through. */
interface DirectItem<O> {
  carryOut(object: O, how: 'put' | 'delete', context: DirectContext): Refusal | undefined;
}

export type ItemCodec<O extends ItemObject> = ItemReader & (RequestItem<O> | DirectItem<O>);
