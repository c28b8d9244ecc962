// A trace in one network namespace: its packets, the rules that drop them, and what the kernel says of their way.
import { messageOf } from '../../../core/errors.js';
import { type Readable, readTraceLinks, readTraceNeighbours, readTraceRoute } from './facts.js';
import { readDropCounters, risenSince, type DropCounters } from './legacy-drops.js';
import { type RuleDrop, RuleTrace } from './rule-trace.js';
import { sendAnswer, sendProbe, takePort } from './send.js';
import type { TraceFilter, TracePacket } from './probe.js';
import { Taps } from './taps.js';
import type { NamespaceTrace, TraceLink, TraceNeighbour, TraceRoute, TraceSighting } from './types.js';

export class LinuxNamespaceTrace implements NamespaceTrace {
  readonly blind: string[] = [];
  readonly #taps: Taps;
  readonly #rules: RuleTrace | undefined;
  #counters: DropCounters = new Map();
  readonly #links = new Map<number, TraceLink>();
  #port: { port: number; release: () => void } | undefined;

  private constructor(
    private readonly namespace: Readable,
    private readonly filter: TraceFilter,
    private readonly inside: <T>(work: () => T) => T,
  ) {
    this.#taps = inside(() => new Taps(filter));
    try {
      this.#rules = inside(() => new RuleTrace(filter, namespace.role === 'node'));
    } catch (error) {
      this.blind.push(`rules of nftables: ${messageOf(error)}`);
    }
  }

  /** @throws SystemError where its packets cannot be seen */
  static async open(
    namespace: Readable,
    filter: TraceFilter,
    inside: <T>(work: () => T) => T,
  ): Promise<LinuxNamespaceTrace> {
    const opened = new LinuxNamespaceTrace(namespace, filter, inside);
    try {
      opened.#counters = await readDropCounters(filter.family, inside);
    } catch (error) {
      opened.blind.push(`rules of iptables-legacy: ${messageOf(error)}`);
    }
    return opened;
  }

  sightings(): TraceSighting[] {
    return this.#taps.read().flatMap(({ link: index, passing, ...seen }): TraceSighting[] => {
      if (index === 0) return [{ ...seen, link: '' }];
      const link = this.#linkAt(index);
      // What a switch sends to every host the link does not take; a port of a bridge takes all.
      if (passing && link?.master === undefined) return [];
      return [{ ...seen, link: link?.name ?? `link ${index}` }];
    });
  }

  #linkAt(index: number): TraceLink | undefined {
    if (!this.#links.has(index)) for (const link of this.links()) this.#links.set(link.index, link);
    return this.#links.get(index);
  }

  async drops(): Promise<RuleDrop[]> {
    return (await this.#rules?.drops()) ?? [];
  }

  async countedDrops(): Promise<string[]> {
    try {
      return risenSince(this.#counters, await readDropCounters(this.filter.family, this.inside));
    } catch (error) {
      this.blind.push(`rules of iptables-legacy: ${messageOf(error)}`);
      return [];
    }
  }

  links(): TraceLink[] {
    return readTraceLinks(this.namespace);
  }

  route(to: string, received?: { link: string; from: string }): TraceRoute {
    return readTraceRoute(this.namespace, to, received);
  }

  neighbours(): TraceNeighbour[] {
    return readTraceNeighbours(this.namespace);
  }

  takePort(source: string): number {
    const { protocol } = this.filter;
    if (protocol === 'icmp') return 0;
    this.#port ??= this.inside(() => takePort(protocol, source));
    return this.#port.port;
  }

  send(packet: TracePacket): string | undefined {
    return this.inside(() => sendProbe(packet));
  }

  answer(packet: TracePacket): string | undefined {
    return this.inside(() => sendAnswer(packet));
  }

  close(): void {
    this.#port?.release();
    this.#rules?.close();
    this.#taps.close();
  }
}
