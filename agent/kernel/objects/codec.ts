// Codec interfaces: how each kind of kernel object is encoded and decoded.
//
// Each kind implements them in a file of its own; links.ts and items.ts list them, total over core's kinds.
import type { ActualObject, ItemObject, LinkObject } from '../../../core/objects/index.js';
import type { NamespaceRole } from '../kernel.js';
import type { Attrs, Request } from '../netlink-message.js';
import type { KernelError } from '../netlink-socket.js';
import type { Pumps } from '../pump/processes.js';
import type { BridgeVlanEntry, KernelLink, LinkLookup, View } from './readings.js';

/** A step that cannot be applied in the present state. */
export class StepRefused extends Error implements KernelError {
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
  /** The open namespace that the other end of this link is created in. */
  peerFd: (link: string) => number | undefined;
}

/** Methods, not function properties: the list hands out a codec for whatever object it was looked up by. */
export interface LinkCodec<L extends LinkObject> {
  /** IFLA_INFO_KIND, by which the type is recognised; empty for a device without one. */
  infoKind: string;
  /** The namespaces in which such a link is one of weft's objects. */
  roles: readonly NamespaceRole[];
  /** The attributes of a new link beside its name and mark. Absent: it is not created from the namespace that it is seen in. */
  create?(link: L, context: LinkContext): Buffer[];
  /** Makes the link where rtnetlink does not; `change` does the rest. @throws SystemError */
  make?(link: L): void;
  /** Requests for everything that differs and can be changed in place, followed by up. */
  change(link: L, current: KernelLink, context: LinkContext & { created: boolean }): Request[];
  /** @param data IFLA_INFO_DATA. @param nameOf the name of a bridge by its index */
  decode(
    link: Omit<KernelLink, 'object'>,
    alias: string,
    data: Attrs,
    nameOf: (index: number) => string,
  ): L | undefined;
  /** For a port of a VLAN-filtering bridge. */
  withVlans?(link: L, entries: readonly BridgeVlanEntry[]): L;
}

/** Makes host NICs ports of bridges, and releases them (bridge-ports.ts). */
export interface PortMover {
  take(link: KernelLink, bridge: KernelLink): KernelError | undefined;
  release(
    link: KernelLink | undefined,
    bridge: KernelLink | undefined,
    name: string,
  ): KernelError | undefined;
  /** The bridge that the link became a port of. */
  bridgeOf(link: string): string;
}

/** The private key of a public one; undefined: this node has none. */
export type PrivateKeys = (publicKey: string) => Buffer | undefined;

export interface DirectContext {
  privateKey: PrivateKeys;
  pumps: Pumps;
  /** Absent in containers. */
  ports: PortMover | undefined;
  link: (name: string) => KernelLink | undefined;
  /** Drops what is cached of the link. */
  forget: (name: string) => void;
  inside: <T>(work: () => T) => T;
}

export interface ItemEvent {
  actual: ActualObject;
  /** False: it is deleted, or differs from what weft makes. */
  there: boolean;
}

/** How an item is observed. */
interface ItemReader {
  /** Every item in a namespace that is weft's, or could be in the way of weft's. */
  observe(view: View): Iterable<ActualObject>;
  /** Types of rtnetlink messages that report changes; those of the main table's routes, and of addresses, are decoded by notifications.ts. */
  messageTypes?: readonly number[];
  events?(type: number, body: Buffer, lookup: LinkLookup): Iterable<ItemEvent>;
}

/** An item on a link that one rtnetlink request creates or deletes. */
interface RequestItem<O> {
  request(object: O, index: number, how: 'create' | 'replace' | 'delete'): Request;
}

/** An item that is created and deleted by other means, after the pending requests are sent. */
interface DirectItem<O> {
  carryOut(object: O, how: 'put' | 'delete', context: DirectContext): KernelError | undefined;
}

export type ItemCodec<O extends ItemObject> = ItemReader & (RequestItem<O> | DirectItem<O>);
