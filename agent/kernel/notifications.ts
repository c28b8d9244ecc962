// Kernel notifications of the node's namespace.
//
// Links, addresses, routes, neighbours, FDB entries, forwarding, and that some nf_tables rule changed. They are reported in
// batches, as they arrive, and so is a loss of messages.
import {
  isLanBridge,
  linkKey,
  objectKey,
  portKey,
  type ActualObject,
  type ObjectKey,
} from '../../core/objects/index.js';
import type { KernelEvent } from './kernel.js';
import type { LinuxNamespace } from './namespace.js';
import { decodeMessages, RTM } from './netlink-message.js';
import {
  addressObject,
  decodeAddress,
  decodeAnyRoute,
  decodeLink,
  isOfMain,
  isOwnRoute,
  portObject,
  routeMatters,
  itemEvents,
  type KernelLink,
  type LinkLookup,
} from './objects/index.js';
import { Subscription } from './subscription.js';

const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
// include/uapi/linux/rtnetlink.h, nfnetlink.h
const ROUTE_GROUPS = {
  LINK: 1,
  NEIGH: 3,
  IPV4_IFADDR: 5,
  IPV4_ROUTE: 7,
  IPV4_RULE: 8,
  IPV6_IFADDR: 9,
  IPV6_ROUTE: 11,
  IPV6_RULE: 19,
  IPV4_NETCONF: 24,
  IPV6_NETCONF: 25,
} as const;
const NFNLGRP_NFTABLES = 7;
const ROUTERS_MS = 1000;

export function watchKernel(node: LinuxNamespace, listener: (event: KernelEvent) => void): () => void {
  const emit = (event: KernelEvent): void => {
    try {
      listener(event);
    } catch (error) {
      // No caller could catch it: an uncaught exception would end the process.
      process.emitWarning(error instanceof Error ? error : String(error));
    }
  };
  const events = new RouteEvents(node, emit);
  const route = new Subscription({
    protocol: NETLINK_ROUTE,
    groups: Object.values(ROUTE_GROUPS),
    receive: (bytes) => events.receive(bytes),
    lost: () => events.lost(),
  });
  // From here on no change is missed.
  events.relist();
  const firewall = watchFirewall(() => emit({ kind: 'firewall' }));
  return () => {
    route.close();
    events.stop();
    firewall?.();
  };
}

/** Undefined where the kernel has no nf_tables. */
function watchFirewall(changed: () => void): (() => void) | undefined {
  let soon: NodeJS.Immediate | undefined;
  const tellSoon = (): void => {
    soon ??= setImmediate(() => {
      soon = undefined;
      changed();
    });
  };
  try {
    const options = { protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES] };
    const subscription = new Subscription({ ...options, receive: tellSoon, lost: tellSoon });
    return () => {
      clearImmediate(soon);
      subscription.close();
    };
  } catch {
    return undefined;
  }
}

/** Whether the underlay may depend on the link, once it has an address. */
const mayCarry = (link: KernelLink): boolean => !link.loopback && (!link.owned || isLanBridge(link.name));

class RouteEvents {
  #links = new Map<number, KernelLink>();
  /** Indices of links that have, or had, an address by which other hosts may reach this one. */
  readonly #addressed = new Set<number>();
  #objects = new Map<ObjectKey, ActualObject>();
  #gone = new Set<ObjectKey>();
  #linksGone = new Set<string>();
  #underlay = false;
  #routes = false;
  #soon: NodeJS.Immediate | undefined;
  #routers: NodeJS.Timeout | undefined;

  constructor(
    private readonly node: LinuxNamespace,
    private readonly emit: (event: KernelEvent) => void,
  ) {}

  relist(): void {
    this.#links = this.node.links();
    for (const { link, global } of this.node.addresses(this.#links))
      if (global) this.#addressed.add(link.index);
  }

  /** The known links may be outdated, and any object may have changed. */
  lost(): void {
    try {
      this.relist();
    } catch {
      // The old list serves until the next loss; this event causes a full comparison anyway.
    }
    this.emit({ kind: 'lost' });
    this.emit({ kind: 'underlay' });
    this.emit({ kind: 'routes' });
  }

  stop(): void {
    clearImmediate(this.#soon);
    clearTimeout(this.#routers);
  }

  receive(bytes: Buffer): void {
    try {
      for (const incoming of decodeMessages(bytes)) {
        if (incoming.kind === 'message') this.#one(incoming.type, incoming.body);
      }
    } catch {
      // An unreadable message counts as lost: everything is compared.
      this.emit({ kind: 'unknown' });
    }
    this.#soon ??= setImmediate(() => this.#emitAll());
  }

  #one(type: number, body: Buffer): void {
    const lookup: LinkLookup = {
      byIndex: (index) => this.#links.get(index),
      marksAddresses: this.node.marksAddresses,
      role: 'node',
    };
    switch (type) {
      case RTM.NEWLINK:
      case RTM.DELLINK:
        this.#link(type, body);
        return this.#items(type, body, lookup);
      case RTM.NEWADDR:
      case RTM.DELADDR: {
        const address = decodeAddress(body, lookup);
        if (address === undefined) return;
        if (address.global) this.#addressed.add(address.link.index);
        if (mayCarry(address.link) && address.global) this.#underlay = true;
        return this.#object(addressObject(address, lookup), type === RTM.NEWADDR);
      }
      case RTM.NEWROUTE:
      case RTM.DELROUTE: {
        const route = decodeAnyRoute(body, lookup);
        if (route === undefined) return;
        if (!route.isDefault && !isOwnRoute(route)) this.#routes = true;
        if (!isOfMain(route)) return this.#items(type, body, lookup);
        if (route.isDefault) this.#underlay = true;
        else if (!isOwnRoute(route)) {
          const { object } = route.actual;
          if (object.kind === 'route' && object.via !== undefined) this.#routerChanged();
        }
        if (routeMatters(route, 'node')) this.#object(route.actual, type === RTM.NEWROUTE);
        return;
      }
      case RTM.NEWRULE:
      case RTM.DELRULE:
        this.#routes = true;
        return;
      default:
        this.#items(type, body, lookup);
    }
  }

  #items(type: number, body: Buffer, lookup: LinkLookup): void {
    for (const { actual, there } of itemEvents(type, body, lookup)) this.#object(actual, there);
  }

  /** A router of the host's own. A routing daemon changes many at a time: they are one event. */
  #routerChanged(): void {
    this.#routers ??= setTimeout(() => {
      this.#routers = undefined;
      this.emit({ kind: 'underlay' });
    }, ROUTERS_MS);
  }

  #link(type: number, body: Buffer): void {
    const link = decodeLink(body, 'node', (index) => this.#links.get(index)?.name ?? '');
    // A bridge reports added and removed ports in its own family (AF_BRIDGE); the port itself reports them, too.
    if (body.readUInt8(0) !== 0) return;
    const before = this.#links.get(link.index);
    this.#port(link, before, type);
    if (type === RTM.DELLINK) {
      this.#links.delete(link.index);
      this.#linksGone.add(link.name);
      this.#gone.add(linkKey(link.name));
    } else {
      this.#links.set(link.index, link);
      if (before !== undefined && before.name !== link.name) this.#linksGone.add(before.name);
      if (link.object !== undefined) {
        if (link.up) this.#object({ object: link.object, owned: link.owned }, true);
        else this.#gone.add(objectKey(link.object));
      }
    }
    const same =
      type === RTM.NEWLINK &&
      before?.name === link.name &&
      before.mtu === link.mtu &&
      before.up === link.up &&
      before.running === link.running;
    // Unowned containers start and stop with links that have no such address.
    // The parent of a network may have no address, and its MTU counts, too.
    const resized = before !== undefined && before.mtu !== link.mtu;
    if (mayCarry(link) && !same && (resized || this.#addressed.has(link.index))) this.#underlay = true;
    if (type === RTM.DELLINK) this.#addressed.delete(link.index);
  }

  /** The master of a link that weft did not make. */
  #port(link: KernelLink, before: KernelLink | undefined, type: number): void {
    const byIndex = (index: number): KernelLink | undefined => this.#links.get(index);
    const now = type === RTM.DELLINK ? undefined : portObject(link, byIndex);
    if (now !== undefined) this.#object(now, true);
    else if (before !== undefined && before.masterIndex !== 0 && !link.owned)
      this.#gone.add(portKey(link.name));
  }

  #object(actual: ActualObject | undefined, there: boolean): void {
    if (actual === undefined) return;
    const key = objectKey(actual.object);
    if (there) {
      this.#objects.set(key, actual);
      this.#gone.delete(key);
    } else {
      this.#objects.delete(key);
      this.#gone.add(key);
    }
  }

  #emitAll(): void {
    this.#soon = undefined;
    const event = {
      kind: 'changed',
      objects: this.#objects,
      gone: this.#gone,
      linksGone: this.#linksGone,
    } as const;
    const underlay = this.#underlay;
    const routes = this.#routes;
    this.#objects = new Map();
    this.#gone = new Set();
    this.#linksGone = new Set();
    this.#underlay = false;
    this.#routes = false;
    if (event.objects.size + event.gone.size + event.linksGone.size > 0) this.emit(event);
    if (underlay) this.emit({ kind: 'underlay' });
    if (routes) this.emit({ kind: 'routes' });
  }
}
