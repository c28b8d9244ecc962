// What the kernel tells by itself of the node's namespace: links, addresses, routes, neighbours, FDB entries, and that
// some nf_tables rule changed. Told in batches, as they come in; a message that is lost is found by the next comparison.
import { closeSync, openSync } from 'node:fs';

import { RawNetlinkSocket } from 'netlink';

import { objectKey, type ActualObject } from '../../core/objects.js';
import { addressObject, decodeAddress, decodeLink, decodeNeighbour, decodeRoute, routeMatters, type KernelLink, type LinkLookup } from './decode.js';
import type { KernelEvent } from './kernel.js';
import { setOption, setSocketOption } from './libc.js';
import type { LinuxNamespace } from './namespace.js';
import { decodeMessages, RTM } from './wire.js';

const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
// include/uapi/linux/rtnetlink.h, nfnetlink.h
const ROUTE_GROUPS = { LINK: 1, NEIGH: 3, IPV4_IFADDR: 5, IPV4_ROUTE: 7, IPV6_IFADDR: 9, IPV6_ROUTE: 11 } as const;
const NFNLGRP_NFTABLES = 7;
const SOL_NETLINK = 270;
const NETLINK_NO_ENOBUFS = 5;
const SO_RCVBUFFORCE = 33;
const RECEIVE_BUFFER = 8 * 1024 * 1024;

export function watchKernel(node: LinuxNamespace, listener: (event: KernelEvent) => void): () => void {
  const route = new RouteEvents(node, listener);
  const socket = subscribe(NETLINK_ROUTE, Object.values(ROUTE_GROUPS), (bytes) => route.receive(bytes));
  let firewallSoon: NodeJS.Immediate | undefined;
  const firewall = subscribe(NETLINK_NETFILTER, [NFNLGRP_NFTABLES], () => {
    firewallSoon ??= setImmediate(() => {
      firewallSoon = undefined;
      listener({ kind: 'firewall' });
    });
  });
  return () => {
    clearImmediate(firewallSoon);
    route.stop();
    for (const open of [socket, firewall]) open?.close();
  };
}

/** Undefined where the kernel has no such family of messages. */
function subscribe(protocol: number, groups: readonly number[], receive: (bytes: Buffer) => void): RawNetlinkSocket | undefined {
  let socket: RawNetlinkSocket;
  // The lowest free descriptor is the one that the socket will get: the package does not tell it.
  const fd = openSync('/dev/null', 'r');
  closeSync(fd);
  try {
    socket = new RawNetlinkSocket(protocol);
  } catch {
    return undefined;
  }
  // Without this a full buffer would end the process: the package throws where nobody can catch it.
  setOption(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
  setSocketOption(fd, SO_RCVBUFFORCE, RECEIVE_BUFFER);
  socket.on('message', receive);
  socket.on('error', () => undefined);
  for (const group of groups) socket.addMembership(group);
  return socket;
}

class RouteEvents {
  readonly #links: Map<number, KernelLink>;
  #objects = new Map<string, ActualObject>();
  #gone = new Set<string>();
  #linksGone = new Set<string>();
  #underlay = false;
  #soon: NodeJS.Immediate | undefined;

  constructor(
    node: LinuxNamespace,
    private readonly listener: (event: KernelEvent) => void,
  ) {
    this.#links = node.links();
  }

  stop(): void {
    clearImmediate(this.#soon);
  }

  receive(bytes: Buffer): void {
    try {
      for (const incoming of decodeMessages(bytes)) {
        if (incoming.kind === 'message') this.#one(incoming.type, incoming.body);
      }
    } catch {
      // What cannot be read is as good as lost: everything is compared.
      this.listener({ kind: 'unknown' });
    }
    this.#soon ??= setImmediate(() => this.#tell());
  }

  #one(type: number, body: Buffer): void {
    const lookup: LinkLookup = { byIndex: (index) => this.#links.get(index), marksAddresses: true, role: 'node' };
    switch (type) {
      case RTM.NEWLINK:
      case RTM.DELLINK:
        return this.#link(type, body);
      case RTM.NEWADDR:
      case RTM.DELADDR: {
        const address = decodeAddress(body, lookup);
        if (address === undefined) return;
        if (!address.link.owned) this.#underlay = true;
        return this.#object(addressObject(address, lookup), type === RTM.NEWADDR);
      }
      case RTM.NEWROUTE:
      case RTM.DELROUTE: {
        const route = decodeRoute(body, lookup);
        if (route === undefined) return;
        if (route.isDefault) this.#underlay = true;
        if (routeMatters(route, 'node')) this.#object(route.actual, type === RTM.NEWROUTE);
        return;
      }
      case RTM.NEWNEIGH:
      case RTM.DELNEIGH: {
        const entry = decodeNeighbour(body, lookup);
        if (entry !== undefined) this.#object(entry.actual, type === RTM.NEWNEIGH && entry.permanent);
      }
    }
  }

  #link(type: number, body: Buffer): void {
    const link = decodeLink(body, 'node', (index) => this.#links.get(index)?.name ?? '');
    // A bridge tells in its own family (AF_BRIDGE) of ports that come and go; the port itself tells, too.
    if (body.readUInt8(0) !== 0) return;
    const before = this.#links.get(link.index);
    if (type === RTM.DELLINK) {
      this.#links.delete(link.index);
      this.#linksGone.add(link.name);
      this.#gone.add(`link ${link.name}`);
    } else {
      this.#links.set(link.index, link);
      if (before !== undefined && before.name !== link.name) this.#linksGone.add(before.name);
      if (link.object !== undefined) {
        if (link.up) this.#object({ object: link.object, owned: link.owned }, true);
        else this.#gone.add(objectKey(link.object));
      }
    }
    if (!link.owned && !link.loopback) this.#underlay = true;
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

  #tell(): void {
    this.#soon = undefined;
    const event = { kind: 'changed', objects: this.#objects, gone: this.#gone, linksGone: this.#linksGone } as const;
    const underlay = this.#underlay;
    this.#objects = new Map();
    this.#gone = new Set();
    this.#linksGone = new Set();
    this.#underlay = false;
    if (event.objects.size + event.gone.size + event.linksGone.size > 0) this.listener(event);
    if (underlay) this.listener({ kind: 'underlay' });
  }
}
