// Makes host links ports of weft's bridges, and releases them.
//
// A port does not use its addresses: they and the routes move to the bridge in one stretch, with the neighbours that are known, so
// that the host loses no connection, and move back on release. The earlier state is saved before anything changes, so a process that is stopped in between finds it
// and starts over: every part may be repeated.
import { readFileSync, writeFileSync } from 'node:fs';

import type { Family } from '../../core/address.js';
import { lanBridgeName } from '../../core/link-names.js';
import { WEFT_MARK } from '../../core/objects/index.js';
import {
  addAddress,
  addressKey,
  deleteAddress,
  routeKey,
  routeOn,
  routeUses,
  withLifetimes,
} from './moved-addresses.js';
import {
  decodeLink,
  dumpAddresses,
  dumpNeighbours,
  dumpRoutes,
  getLinkAt,
  neighboursFor,
  setMaster,
  type KernelLink,
  type PortMover,
} from './objects/index.js';
import type { NetlinkSocket, KernelError } from './netlink-socket.js';
import { decodeAttrs, type Request } from './netlink-message.js';

/** What a NIC had before it became a port: rtnetlink messages, as the kernel sent them. */
export interface InterfaceLoan {
  link: string;
  /** Finds the link again under another name. Absent in loans that an earlier release saved. */
  index?: number | undefined;
  bridge: string;
  /** Everything has moved, and no release has begun. */
  done: boolean;
  /** Bodies of RTM_NEWADDR and RTM_NEWROUTE, in hexadecimal. */
  addresses: string[];
  routes: string[];
}

/** Storage of interface loans. They survive the process, not the boot. */
export interface InterfaceLoans {
  list(): InterfaceLoan[];
  get(link: string): InterfaceLoan | undefined;
  /** Returns when the loan is on disk. */
  put(loan: InterfaceLoan): void;
  delete(link: string): void;
}

/**
 * rp_filter that accepts what arrives by another link than an answer would take, on links with an address (fib_validate_source in
 * net/ipv4/fib_frontend.c). What arrives at the NIC arrives by the bridge at once, and the routes are the NIC's until they move.
 */
const LOOSE = '2';
/** Milliseconds that a bridge may take to send after its first port. A worker of the kernel's sees to it, on a busy machine later. */
const RUNS_WITHIN_MS = 100;

interface Moving {
  addresses: Buffer[];
  routes: Buffer[];
}

const AF_INET6 = 10;
const RT_SCOPE_LINK = 253;
const IFA = { FLAGS: 8, PROTO: 11 } as const;
const IFA_F_TEMPORARY = 0x01;
const RTA = { DST: 1, GATEWAY: 5, VIA: 18 } as const;
const RTN_UNICAST = 1;
const RTM_F_CLONED = 0x200;

/** Settings that change how the host's own traffic is treated, by family; copied to the bridge. */
const SETTINGS = {
  4: [
    'accept_local',
    'accept_redirects',
    'arp_announce',
    'arp_filter',
    'arp_ignore',
    'forwarding',
    'log_martians',
    'proxy_arp',
    'rp_filter',
    'secure_redirects',
    'send_redirects',
    'src_valid_mark',
  ],
  6: [
    'disable_ipv6',
    'accept_ra',
    'accept_ra_defrtr',
    'accept_redirects',
    'autoconf',
    'forwarding',
    'use_tempaddr',
  ],
} as const;

/** Addresses and routes of a link that belong to the host: neither the kernel nor weft made them. */
function movingFrom(socket: NetlinkSocket, index: number): Moving {
  const addresses = socket
    .dump(dumpAddresses)
    .map(({ body }) => body)
    .filter((body) => body.readUInt32LE(4) === index && isHosts(body));
  const routes = socket
    .dump(dumpRoutes)
    .map(({ body }) => body)
    .filter((body) => isMovable(body) && routeUses(body, index));
  // On-link routes before routes through gateways on them.
  const behind = (body: Buffer): number => {
    const attrs = decodeAttrs(body, 12);
    return attrs.has(RTA.GATEWAY) || attrs.has(RTA.VIA) ? 1 : 0;
  };
  return { addresses, routes: routes.sort((a, b) => behind(a) - behind(b)) };
}

function isHosts(body: Buffer): boolean {
  const attrs = decodeAttrs(body, 8);
  if (attrs.get(IFA.PROTO)?.[0] === WEFT_MARK) return false;
  if (body.readUInt8(0) !== AF_INET6) return true;
  const flags = attrs.get(IFA.FLAGS)?.readUInt32LE() ?? body.readUInt8(2);
  // Each link makes these by itself.
  return body.readUInt8(3) !== RT_SCOPE_LINK && (flags & IFA_F_TEMPORARY) === 0;
}

function isMovable(body: Buffer): boolean {
  if (body.readUInt8(7) !== RTN_UNICAST || (body.readUInt32LE(8) & RTM_F_CLONED) !== 0) return false;
  if (body.readUInt8(5) === WEFT_MARK) return false;
  const dst = decodeAttrs(body, 12).get(RTA.DST);
  const six = body.readUInt8(0) === AF_INET6;
  // fe80::/10 and ff00::/8: each link has its own.
  return !(
    six &&
    dst !== undefined &&
    (dst[0] === 0xff || (dst[0] === 0xfe && ((dst[1] ?? 0) & 0xc0) === 0x80))
  );
}

const hex = (bodies: readonly Buffer[]): string[] => bodies.map((body) => body.toString('hex'));
const bytes = (texts: readonly string[]): Buffer[] => texts.map((text) => Buffer.from(text, 'hex'));

/** The saved objects, in their present state where they still exist, followed by those added since. */
function merged(saved: readonly Buffer[], now: readonly Buffer[], key: (body: Buffer) => string): Buffer[] {
  const fresh = new Map(now.map((body) => [key(body), body]));
  const known = new Set(saved.map(key));
  return [
    ...saved.map((body) => fresh.get(key(body)) ?? body),
    ...now.filter((body) => !known.has(key(body))),
  ];
}

/** Returns the first error other than "exists already" or "absent already". */
function carryOut(socket: NetlinkSocket, requests: readonly Request[]): KernelError | undefined {
  const fine = new Set(['EEXIST', 'EADDRNOTAVAIL', 'ESRCH', 'ENOENT']);
  return socket.batch(requests).find((failure) => failure !== undefined && !fine.has(failure.errno));
}

export class BridgePorts implements PortMover {
  constructor(
    private readonly socket: NetlinkSocket,
    private readonly loans: InterfaceLoans,
    private readonly inside: (work: () => void) => void,
  ) {}

  /** Makes the link a port of the bridge. Returns the kernel's error. */
  take(link: KernelLink, bridge: KernelLink): KernelError | undefined {
    const now = movingFrom(this.socket, link.index);
    const saved = this.loans.get(link.name);
    const all: Moving = {
      addresses: merged(bytes(saved?.addresses ?? []), now.addresses, addressKey),
      routes: merged(bytes(saved?.routes ?? []), now.routes, routeKey),
    };
    const entry = {
      link: link.name,
      index: link.index,
      bridge: bridge.name,
      addresses: hex(all.addresses),
      routes: hex(all.routes),
    };
    this.loans.put({ ...entry, done: false });
    this.#copySettings(link.name, bridge.name);
    this.#set(4, bridge.name, 'rp_filter', LOOSE);
    const isIpv4 = (body: Buffer): boolean => body.readUInt8(0) !== AF_INET6;
    const early = all.addresses.filter(isIpv4);
    carryOut(
      this.socket,
      early.flatMap((body) => addAddress(body, bridge.index, false)),
    );
    const [refused] = this.socket.batch([setMaster(link.index, bridge.index)]);
    if (refused !== undefined) {
      // Nothing has moved.
      if (saved === undefined) {
        carryOut(
          this.socket,
          early.map((body) => deleteAddress(body, bridge.index)),
        );
        this.loans.delete(link.name);
      }
      return refused;
    }
    // Until now the host sends by the NIC; the bridge would drop what it is given too soon.
    if (link.running) this.#waitUntilRunning(bridge.index);
    const failure = carryOut(this.socket, [
      ...this.#neighbours(link.index, bridge.index),
      ...all.addresses.flatMap((body) => addAddress(body, bridge.index, false)),
      ...now.routes.map((body) => routeOn(body, link.index, link.index, false)),
      ...now.addresses.map((body) => deleteAddress(body, link.index)),
      ...all.routes.map((body) => routeOn(body, link.index, bridge.index, true)),
    ]);
    this.#copySettings(link.name, bridge.name);
    if (failure === undefined) this.loans.put({ ...entry, done: true });
    return failure;
  }

  /** Releases the link, with its earlier addresses and routes and those that the bridge has gained since. */
  release(
    known: KernelLink | undefined,
    bridge: KernelLink | undefined,
    name: string,
  ): KernelError | undefined {
    const saved = this.loans.get(name);
    const link = known ?? this.#renamed(saved, bridge);
    if (link === undefined) {
      this.loans.delete(name);
      return undefined;
    }
    if (saved !== undefined) this.loans.put({ ...saved, done: false });
    const now = bridge === undefined ? { addresses: [], routes: [] } : movingFrom(this.socket, bridge.index);
    const left = new Map(now.addresses.map((body) => [addressKey(body), body]));
    const original = bytes(saved?.addresses ?? []).map((body) =>
      withLifetimes(body, left.get(addressKey(body)) ?? body),
    );
    const was = new Set(original.map(addressKey));
    const addresses = [...original, ...now.addresses.filter((body) => !was.has(addressKey(body)))];
    const routes = merged(bytes(saved?.routes ?? []), now.routes, routeKey);
    if (bridge !== undefined) this.#set(4, bridge.name, 'rp_filter', LOOSE);
    // The host sends by the link before it is no port any more: a bridge without ports drops.
    const failure = carryOut(this.socket, [
      ...addresses.flatMap((body) => addAddress(body, link.index, was.has(addressKey(body)))),
      ...(bridge === undefined
        ? []
        : [
            ...this.#neighbours(bridge.index, link.index),
            ...now.routes.map((body) => routeOn(body, bridge.index, bridge.index, false)),
          ]),
      ...routes.map((body) => routeOn(body, bridge?.index ?? 0, link.index, true)),
      ...(link.masterIndex === (bridge?.index ?? 0) ? [setMaster(link.index, 0)] : []),
      ...(bridge === undefined ? [] : now.addresses.map((body) => deleteAddress(body, bridge.index))),
    ]);
    if (failure === undefined) this.loans.delete(name);
    return failure;
  }

  /** What the first is to know of the second: without it the host would ask anew, and wait a second for an answer that is lost. */
  #neighbours(from: number, to: number): Request[] {
    return neighboursFor(
      this.socket.dump(dumpNeighbours).map(({ body }) => body),
      from,
      to,
    );
  }

  /**
   * The kernel turns a bridge's queue on some time after its first port is up (net/core/link_watch.c), and drops packets before.
   * This blocks the process, as the whole move does.
   */
  #waitUntilRunning(bridge: number): void {
    const clock = new Int32Array(new SharedArrayBuffer(4));
    for (let ms = 0; ms < RUNS_WITHIN_MS; ms++) {
      const found = this.socket.get(getLinkAt(bridge));
      if (found === undefined || decodeLink(found.body, 'node', () => '').running) return;
      Atomics.wait(clock, 0, 0, 1);
    }
  }

  /** The link under its present name, while it is still a port of that bridge. */
  #renamed(saved: InterfaceLoan | undefined, bridge: KernelLink | undefined): KernelLink | undefined {
    if (saved?.index === undefined || bridge === undefined) return undefined;
    const found = this.socket.get(getLinkAt(saved.index));
    const link = found === undefined ? undefined : decodeLink(found.body, 'node', () => '');
    return link?.masterIndex === bridge.index ? link : undefined;
  }

  /**
   * The bridge that the link became a port of, also where its loan is lost. Nothing moves to the link from any other bridge:
   * addresses there are not the link's.
   */
  bridgeOf(link: string): string {
    return this.loans.get(link)?.bridge ?? lanBridgeName(link);
  }

  #copySettings(from: string, to: string): void {
    for (const family of [4, 6] as const)
      for (const setting of SETTINGS[family]) this.#set(family, to, setting, { of: from });
  }

  #set(family: Family, link: string, setting: string, value: string | { of: string }): void {
    const path = (link: string): string => `/proc/sys/net/ipv${family}/conf/${link}/${setting}`;
    this.inside(() => {
      try {
        const wanted = typeof value === 'string' ? value : readFileSync(path(value.of), 'utf8').trim();
        if (readFileSync(path(link), 'utf8').trim() !== wanted) writeFileSync(path(link), wanted);
      } catch {
        // Kernels differ in the settings that they have; one without IPv6 has none of that family.
      }
    });
  }
}
