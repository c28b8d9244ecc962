// The points that a packet passes on this node between one end and the outside, by routes, neighbours and records.
//
// The way in is the way out, reversed: what a node sends by a tunnel it receives by it. Where that is not so, the points that were
// seen tell.
import { IpAddress } from '../../core/address.js';
import { bareIn } from '../../core/families.js';
import type { Endpoint } from '../../core/records.js';
import { ProbePoint, type ProbeObstacle, type ProbeWay } from '../../proto/gen/weft/v1/trace.js';
import type { Listener, NamespaceTrace, TraceFilter, TraceLink, TraceNeighbour } from '../kernel/index.js';
import {
  closedPort,
  hasItself,
  linkObstacle,
  neighbourObstacle,
  nobodyHas,
  noRoute,
  noTunnel,
  notThere,
  strangeRoute,
  wrongNeighbour,
} from './obstacles.js';
import type { TracePeers } from './peers.js';

/** A namespace, as it is now. */
export interface Place {
  trace: NamespaceTrace;
  links: ReadonlyMap<string, TraceLink>;
  neighbours: readonly TraceNeighbour[];
}

export const lookAt = (trace: NamespaceTrace): Place => ({
  trace,
  links: new Map(trace.links().map((link) => [link.name, link])),
  neighbours: trace.neighbours(),
});

export interface End {
  place: 'from' | 'to';
  /** Its address, and that of the other end. */
  own: string;
  other: string;
  /** Of its container; none: the node itself. */
  endpoints: readonly Endpoint[];
  inside: Place;
  listeners: readonly Listener[];
  /** The port that the packet is to reach here. */
  port: number;
}

export interface WayOptions {
  node: string;
  host: Place;
  peers: TracePeers;
  filter: TraceFilter;
  size: number;
  /** The endpoints of the other end, if it is on this node. */
  otherHere: readonly Endpoint[] | undefined;
}

export function wayOf(end: End, options: WayOptions): ProbeWay {
  const out = new WayOut(end, options).points();
  return { out, in: wayIn(end, out, options), closed: closedAt(end, options) };
}

const nameOf = ({ endpoints: [first] }: End, node: string): string => first?.name ?? `node ${node}`;

const hostName = (node: string): string => `node ${node}`;

class WayOut {
  readonly #points: ProbePoint[] = [];

  constructor(
    private readonly end: End,
    private readonly options: WayOptions,
  ) {}

  points(): ProbePoint[] {
    if (this.end.endpoints.length === 0) this.#hostItself();
    else this.#container();
    return this.#points;
  }

  #add(point: Partial<ProbePoint> & { obstacle?: ProbeObstacle | undefined }): void {
    this.#points.push({ ...ProbePoint.fromPartial({}), place: 'host', ...point });
  }

  #hostItself(): void {
    const { own, other } = this.end;
    const { host, otherHere } = this.options;
    const route = host.trace.route(own);
    // The end is an address that nobody has: packets to it leave by this link, and nothing comes from it.
    if (route.errno === undefined && !route.isLocal && otherHere === undefined)
      this.#add({ link: route.link, out: false, what: 'bridge' });
    this.#onwards(host.trace.route(other));
  }

  #container(): void {
    const { end, options } = this;
    const { other, inside, place, endpoints } = end;
    const name = nameOf(end, options.node);
    const route = inside.trace.route(other);
    const isOwn = route.errno === undefined && route.isLocal;
    const link = route.errno === undefined && !isOwn ? route.link : undefined;
    const own = endpoints.find((one) => bareIn(one, options.filter.family) === end.own) ?? endpoints[0];
    const endpoint = endpoints.find(({ ifname }) => ifname === link) ?? own;
    if (endpoint === undefined) return;
    const ifname = link ?? endpoint.ifname;
    const next = (route.errno === undefined ? route.via : undefined) ?? other;
    const entry = inside.neighbours.find((one) => one.link === ifname && one.ip === next);
    const isStrange = link !== undefined && link !== endpoint.ifname;
    this.#add({
      ...{ place, link: ifname, out: true, what: 'container', detail: detailOf(next, other, entry) },
      obstacle: isOwn
        ? hasItself(name, other)
        : isStrange
          ? strangeRoute(name, other, link)
          : (linkObstacle(inside.links.get(ifname), ifname, name, options.size) ??
            (route.errno === undefined
              ? neighbourObstacle(entry, next, ifname, name)
              : noRoute(name, other, route.errno))),
    });
    const port = endpoint.hostIfname;
    this.#add({
      ...{ link: port, out: false, what: 'port' },
      obstacle: isStrange
        ? strangeRoute(name, other, link)
        : linkObstacle(options.host.links.get(port), port, hostName(options.node), 0),
    });
    this.#fromPort(endpoint, entry);
  }

  /** Behind the port: the bridge takes what is addressed to the node itself, and passes on the rest. */
  #fromPort(endpoint: Endpoint, entry: TraceNeighbour | undefined): void {
    const { host, peers, otherHere, node } = this.options;
    const { other, own } = this.end;
    const bridge = host.links.get(endpoint.hostIfname)?.master;
    const bridgeMac = bridge === undefined ? undefined : host.links.get(bridge)?.mac;
    const toNode =
      entry?.mac === undefined ? peers.ofLink(bridge ?? '') !== undefined : entry.mac === bridgeMac;
    const neighbour = otherHere?.find((one) => bareIn(one, IpAddress.parse(other).family) === other);
    if (!toNode || bridge === undefined) {
      if (otherHere !== undefined) {
        if (neighbour !== undefined && entry?.mac !== undefined && entry.mac !== neighbour.mac)
          this.#add({
            ...{ link: neighbour.hostIfname, out: true, what: 'port' },
            obstacle: wrongNeighbour(entry, neighbour.name, neighbour.mac, nameOf(this.end, node)),
          });
        return;
      }
      const parent = peers.parentOf(endpoint.network);
      if (parent !== undefined) this.#add({ link: parent, out: true, what: 'underlay' });
      return;
    }
    this.#add({ link: bridge, out: false, what: 'bridge' });
    this.#onwards(host.trace.route(other, { link: bridge, from: own }));
  }

  /** From the node's routing on. */
  #onwards(route: ReturnType<NamespaceTrace['route']>): void {
    const { host, peers, node, otherHere, size } = this.options;
    const { other } = this.end;
    if (route.errno !== undefined) {
      this.#add({ what: 'route', out: true, obstacle: noRoute(hostName(node), other, route.errno) });
      return;
    }
    if (route.isLocal) return;
    const { link, via = other } = route;
    if (!peers.isTunnel(link)) {
      if (otherHere !== undefined) return;
      const isBridge = peers.ofLink(link) !== undefined;
      const entry = this.#neighbour(link, via);
      const missing = isBridge && entry?.isKnown !== true ? nobodyHas(other, link, node) : undefined;
      this.#add(this.#sending(link, via, isBridge ? 'bridge' : 'underlay', size, missing));
      return;
    }
    const entry = this.#neighbour(link, via);
    const peer = peers.at(other);
    const to = entry?.tunnel ?? (peer && 'ip' in peer.underlay ? peer.underlay.ip : undefined);
    this.#add({
      ...{ link, out: true, what: 'tunnel', detail: to === undefined ? '' : `to ${to}` },
      obstacle:
        linkObstacle(host.links.get(link), link, hostName(node), size) ??
        (peer !== undefined && 'why' in peer.underlay
          ? noTunnel(peer.network, peer.underlay.why)
          : undefined) ??
        neighbourObstacle(entry, via, link, hostName(node)),
    });
    if (to === undefined) return;
    const carrier = host.trace.route(to);
    if (carrier.errno !== undefined) {
      this.#add({ what: 'underlay', out: true, obstacle: noRoute(hostName(node), to, carrier.errno) });
      return;
    }
    const hidden = peers.isEncrypted(link);
    const advice = peer !== undefined && 'ip' in peer.underlay ? peer.underlay.advice : '';
    this.#add({
      ...this.#sending(carrier.link, carrier.via ?? to, 'underlay', 0, undefined, to),
      hidden,
      advice,
    });
  }

  #neighbour(link: string, ip: string): TraceNeighbour | undefined {
    return this.options.host.neighbours.find((one) => one.link === link && one.ip === ip);
  }

  #sending(
    link: string,
    next: string,
    what: string,
    size: number,
    obstacle?: ProbeObstacle,
    to = this.end.other,
  ): Partial<ProbePoint> & { obstacle: ProbeObstacle | undefined } {
    const { host, node } = this.options;
    const entry = this.#neighbour(link, next);
    return {
      ...{ link, out: true, what, nextIp: next, nextMac: entry?.mac ?? '' },
      detail: detailOf(next, to, entry),
      obstacle:
        linkObstacle(host.links.get(link), link, hostName(node), size) ??
        obstacle ??
        neighbourObstacle(entry, next, link, hostName(node)),
    };
  }
}

function detailOf(next: string, to: string, entry: TraceNeighbour | undefined): string {
  const mac = entry?.mac === undefined ? '' : ` (${entry.mac})`;
  return next === to ? `to ${to}${mac}` : `to ${to} by ${next}${mac}`;
}

function wayIn(end: End, out: readonly ProbePoint[], options: WayOptions): ProbePoint[] {
  const { host, node } = options;
  const { own, inside, place, endpoints } = end;
  const name = nameOf(end, node);
  const owner = endpoints.find((one) => bareIn(one, options.filter.family) === own);
  const points = out
    .filter(({ link }) => link !== '')
    .toReversed()
    .map((point): ProbePoint => {
      const { link, what } = point;
      const base = { ...point, out: !point.out, detail: '', nextIp: '', nextMac: '', obstacle: undefined };
      if (what === 'container')
        return { ...base, obstacle: linkObstacle(inside.links.get(link), link, name, 0) };
      if (what === 'port')
        return { ...base, obstacle: linkObstacle(host.links.get(link), link, hostName(node), 0) };
      if (what !== 'bridge') return base;
      const entry = host.neighbours.find((one) => one.link === link && one.ip === own);
      const detail = entry?.mac === undefined ? '' : detailOf(own, own, entry);
      if (endpoints.length === 0)
        return {
          ...base,
          detail,
          obstacle: entry?.isKnown === true ? undefined : nobodyHas(own, link, node),
        };
      const isWrong = owner !== undefined && entry?.mac !== undefined && entry.mac !== owner.mac;
      return {
        ...base,
        detail,
        obstacle: isWrong
          ? wrongNeighbour(entry, owner.name, owner.mac, hostName(node))
          : neighbourObstacle(entry, own, link, hostName(node)),
      };
    });
  const route = inside.trace.route(own);
  const isOwn = route.errno === undefined && route.isLocal;
  // Nobody has the address: it is delivered nowhere.
  if (!isOwn && endpoints.length === 0) return points;
  points.push({
    ...ProbePoint.fromPartial({}),
    ...{ place: endpoints.length === 0 ? 'host' : place, link: '', out: false, what: 'end' },
    obstacle: isOwn ? undefined : notThere(own, name),
  });
  return points;
}

/** @returns that nobody listens where the packet is delivered */
function closedAt(end: End, { filter, node }: WayOptions): ProbeObstacle | undefined {
  const { protocol, family } = filter;
  if (protocol === 'icmp' || end.place === 'from') return undefined;
  const all = end.listeners.filter((one) => one.protocol === protocol && one.port === end.port);
  // A socket of IPv6 at every address takes IPv4, too, unless it was told not to.
  const isOpen = all.some(
    ({ family: its, reach }) => reach !== 'loopback' && (its === family || (its === 6 && reach === 'any')),
  );
  if (isOpen) return undefined;
  return closedPort(protocol.toUpperCase(), end.port, nameOf(end, node), all.length > 0);
}
