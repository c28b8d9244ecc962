// This node's part in a trace: it looks on at its ends of the way, sends the packet where that begins, and tells what was seen.
//
// A trace has three steps, so that both nodes look on before one sends: watch, send, collect. One that is not collected ends by
// itself.
import { setTimeout as delay } from 'node:timers/promises';

import { IpAddress } from '../../core/address.js';
import { failedPrecondition, invalidArgument, notFound, resourceExhausted } from '../../core/errors.js';
import { bareIn } from '../../core/families.js';
import { isHost, type Endpoint } from '../../core/records.js';
import {
  ProbeReply,
  type Probe,
  type ProbeEnd,
  type ProbeSighting,
  type ProbeView,
} from '../../proto/gen/weft/v1/trace.js';
import type {
  Kernel,
  KernelNamespace,
  NamespaceTrace,
  TraceFilter,
  TracePacket,
  TraceSighting,
} from '../kernel/index.js';
import { sameSandbox } from '../reconcile/index.js';
import type { TracePeers } from './peers.js';
import { lookAt, wayOf, type End, type WayOptions } from './way.js';

/** When the packet is sent, in milliseconds: a first one may be lost while addresses are resolved. */
const SENT_AT = [0, 350, 750] as const;
/** How long an answer may take after the first packet, in milliseconds. */
const ANSWER_MS = 1100;
const LOOK_EVERY_MS = 20;
/** What follows an answer or an error: rules that drop it, a second one. */
const SETTLE_MS = 60;
/** A trace that is not collected ends, in milliseconds. */
const LASTS_MS = 6000;
const MOST_TRACES = 8;

export interface TracerOptions {
  node: string;
  kernel: Pick<Kernel, 'node' | 'openNamespace'>;
  endpoints: { get(id: string): Endpoint | undefined };
  peers: TracePeers;
}

type PlaceName = 'from' | 'to' | 'host';

interface OpenPlace {
  name: PlaceName;
  namespace: KernelNamespace;
  trace: NamespaceTrace;
}

interface OpenTrace {
  probe: Probe;
  filter: TraceFilter;
  places: OpenPlace[];
  seen: { place: PlaceName; sighting: TraceSighting }[];
  ends: { name: 'from' | 'to'; endpoints: readonly Endpoint[]; at: OpenPlace; port: number }[];
  answered: boolean;
  looking: NodeJS.Timeout;
  end: NodeJS.Timeout;
}

export class Tracer {
  readonly #open = new Map<number, OpenTrace>();

  constructor(private readonly options: TracerOptions) {}

  /** @throws WeftError, SystemError */
  async handle(probe: Probe): Promise<ProbeReply> {
    switch (probe.step) {
      case 'watch':
        return this.#watch(probe);
      case 'send':
        return this.#send(this.#found(probe.tag));
      case 'collect':
        return this.#collect(this.#found(probe.tag));
      default:
        throw invalidArgument(`trace: "${probe.step}" is not a step`, 'It is watch, send or collect.');
    }
  }

  close(): void {
    for (const tag of this.#open.keys()) this.#end(tag);
  }

  #found(tag: number): OpenTrace {
    const found = this.#open.get(tag);
    if (found === undefined) throw notFound('trace: this node does not know it', 'Start it again.');
    return found;
  }

  async #watch(probe: Probe): Promise<ProbeReply> {
    const { tag } = probe;
    if (this.#open.has(tag)) throw failedPrecondition('trace: its tag is in use', 'Start it again.');
    if (this.#open.size >= MOST_TRACES)
      throw resourceExhausted(`node ${this.options.node}: ${MOST_TRACES} traces at once`, 'Try again later.');
    const { family } = IpAddress.parse(probe.destination, 'destination');
    const filter: TraceFilter = { family, protocol: protocolOf(probe), tag, size: probe.size };
    const open: OpenTrace = {
      ...{ probe, filter, places: [], seen: [], ends: [], answered: false },
      looking: setInterval(() => this.#look(open), LOOK_EVERY_MS),
      end: setTimeout(() => this.#end(tag), LASTS_MS),
    };
    this.#open.set(tag, open);
    try {
      const { node } = this.options.kernel;
      const host = await this.#place(open, 'host', node);
      for (const name of ['from', 'to'] as const) {
        const end = probe[name];
        if (end !== undefined) open.ends.push(await this.#endAt(open, name, end, host));
      }
      const source = probe.source === '' ? this.#sourceOf(open) : probe.source;
      open.probe = { ...probe, source };
      const from = open.ends.find(({ name }) => name === 'from')?.at;
      return reply({ source, sourcePort: from?.trace.takePort(source) ?? 0 });
    } catch (error) {
      this.#end(tag);
      throw error;
    }
  }

  async #place(open: OpenTrace, name: PlaceName, namespace: KernelNamespace): Promise<OpenPlace> {
    const place = { name, namespace, trace: await namespace.trace(open.filter) };
    open.places.push(place);
    return place;
  }

  async #endAt(
    open: OpenTrace,
    name: 'from' | 'to',
    end: ProbeEnd,
    host: OpenPlace,
  ): Promise<OpenTrace['ends'][number]> {
    const found = end.endpoints.map((id) => {
      const endpoint = this.options.endpoints.get(id);
      if (endpoint !== undefined) return endpoint;
      throw notFound(`endpoint ${id}: it is not on this node any more`, 'See weft endpoint ls.');
    });
    const endpoints = found.filter((endpoint) => !isHost(endpoint));
    const [first] = endpoints;
    if (first === undefined) return { name, endpoints, at: host, port: end.port };
    const { namespace, sandbox } = await this.options.kernel.openNamespace(first.sandbox.path);
    if (!sameSandbox(sandbox, first.sandbox)) {
      namespace.close();
      throw failedPrecondition(
        `endpoint ${first.name}: its container has ended`,
        'weft removes it within seconds; see weft endpoint ls.',
      );
    }
    try {
      return { name, endpoints, at: await this.#place(open, name, namespace), port: end.port };
    } catch (error) {
      namespace.close();
      throw error;
    }
  }

  /** As the sender's own routes choose it. @throws WeftError FAILED_PRECONDITION where it has no address of the family */
  #sourceOf({ probe, filter, ends }: OpenTrace): string {
    const from = ends.find(({ name }) => name === 'from');
    const route = from?.at.trace.route(probe.destination);
    const own = from?.endpoints.flatMap((endpoint) => bareIn(endpoint, filter.family) ?? []) ?? [];
    const source = (route?.errno === undefined ? route?.source : undefined) ?? own[0];
    if (source !== undefined) return source;
    throw failedPrecondition(
      `${from?.endpoints[0]?.name ?? `node ${this.options.node}`} has no IPv${filter.family} address and no route to ${probe.destination}`,
      'Name another address of the other end.',
    );
  }

  #look(open: OpenTrace): void {
    for (const { name, trace } of open.places)
      for (const sighting of trace.sightings()) {
        open.seen.push({ place: name, sighting });
        this.#answer(open, name, trace, sighting);
      }
  }

  /** What UDP port the packet was delivered to answers nothing that is known again: weft does in its place. */
  #answer(open: OpenTrace, place: PlaceName, trace: NamespaceTrace, sighting: TraceSighting): void {
    const { filter, probe, ends } = open;
    const to = ends.find(({ name }) => name === 'to');
    if (filter.protocol !== 'udp' || to?.at.name !== place || open.answered) return;
    if (sighting.link !== '' || sighting.kind !== 'there') return;
    open.answered = true;
    const { source, sourcePort, port } = sighting;
    // A raw socket of IPv6 does not show where the packet was sent to.
    const own =
      sighting.destination === '::' ? ownAddress(to.endpoints, probe.destination) : sighting.destination;
    trace.answer({
      ...{ ...filter, source: own, destination: source },
      ...{ sourcePort: port, port: sourcePort },
    });
  }

  async #send(open: OpenTrace): Promise<ProbeReply> {
    const { probe, filter, ends } = open;
    const from = ends.find(({ name }) => name === 'from');
    if (from === undefined) throw failedPrecondition('trace: it does not begin on this node');
    const { trace } = from.at;
    const packet: TracePacket = {
      ...filter,
      ...{ source: probe.source, destination: probe.destination },
      ...{ sourcePort: trace.takePort(probe.source), port: probe.port },
    };
    const began = performance.now();
    let refused = '';
    let sent = 0;
    while (performance.now() - began < ANSWER_MS) {
      if (performance.now() - began >= (SENT_AT[sent] ?? Infinity)) {
        refused = trace.send(packet) ?? '';
        sent++;
      }
      this.#look(open);
      if (isAnswered(open, from.at.name)) break;
      await delay(LOOK_EVERY_MS);
    }
    await delay(SETTLE_MS);
    this.#look(open);
    return reply({ refused, answered: isAnswered(open, from.at.name) });
  }

  async #collect(open: OpenTrace): Promise<ProbeReply> {
    try {
      this.#look(open);
      return reply({ view: await this.#viewOf(open) });
    } finally {
      this.#end(open.probe.tag);
    }
  }

  async #viewOf(open: OpenTrace): Promise<ProbeView> {
    const { places, filter, probe, ends } = open;
    const drops = await Promise.all(
      places.map(async ({ name: place, trace }) => [
        ...(await trace.drops()).map(({ table, chain, rule = '' }) => ({ place, table, chain, rule })),
        ...(await trace.countedDrops()).map((rule) => ({ place, table: '', chain: '', rule })),
      ]),
    );
    const [hostPlace] = places;
    if (hostPlace === undefined) throw failedPrecondition('trace: it has ended');
    const host = lookAt(hostPlace.trace);
    const way = (name: 'from' | 'to'): ReturnType<typeof wayOf> | undefined => {
      const end = ends.find((one) => one.name === name);
      if (end === undefined) return undefined;
      const { endpoints, at, port } = end;
      const other = ends.find((one) => one.name !== name);
      const [here, there] =
        name === 'from' ? [probe.source, probe.destination] : [probe.destination, probe.source];
      const described: End = {
        place: name,
        own: ownAddress(endpoints, here),
        ...{ other: there, endpoints, port },
        inside: at.name === 'host' ? host : lookAt(at.trace),
        listeners: at.namespace.listeners(),
      };
      const options: WayOptions = {
        ...{ node: this.options.node, host, peers: this.options.peers, filter, size: probe.size },
        otherHere: other?.endpoints,
      };
      return wayOf(described, options);
    };
    return {
      sightings: open.seen.map(({ place, sighting }) => sightingMessage(place, sighting)),
      drops: drops.flat(),
      from: way('from'),
      to: way('to'),
      blind: [...new Set(places.flatMap(({ trace }) => trace.blind))],
      macs: [...host.links.values()].map(({ mac }) => mac),
    };
  }

  #end(tag: number): void {
    const open = this.#open.get(tag);
    if (open === undefined) return;
    this.#open.delete(tag);
    clearInterval(open.looking);
    clearTimeout(open.end);
    for (const { name, trace, namespace } of open.places) {
      trace.close();
      if (name !== 'host') namespace.close();
    }
  }
}

/** A published port leads to another address than the packet was sent to. */
function ownAddress(endpoints: readonly Endpoint[], sentTo: string): string {
  const own = endpoints.flatMap((endpoint) => bareIn(endpoint, IpAddress.parse(sentTo).family) ?? []);
  return own.includes(sentTo) ? sentTo : (own[0] ?? sentTo);
}

const reply = (fields: Partial<ProbeReply>): ProbeReply => ({ ...ProbeReply.fromPartial({}), ...fields });

function protocolOf({ protocol }: Probe): TraceFilter['protocol'] {
  if (protocol === 'icmp' || protocol === 'tcp' || protocol === 'udp') return protocol;
  throw invalidArgument(`trace: "${protocol}" is not a protocol`, 'It is icmp, tcp or udp.');
}

/** The answer was delivered, or an error has come. */
const isAnswered = ({ seen }: OpenTrace, from: PlaceName): boolean =>
  seen.some(
    ({ place, sighting: { kind, link } }) =>
      place === from && ((kind === 'back' && link === '') || kind === 'error'),
  );

const sightingMessage = (place: PlaceName, sighting: TraceSighting): ProbeSighting => ({
  ...{ place, link: sighting.link, out: sighting.out, kind: sighting.kind },
  ...{ source: sighting.source, destination: sighting.destination, refused: sighting.refused },
  ...{ type: sighting.error?.type ?? 0, code: sighting.error?.code ?? 0, mtu: sighting.error?.mtu ?? 0 },
  about: sighting.error?.about ?? '',
});
