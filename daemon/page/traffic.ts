// Traffic of the last hour: counters of all nodes, as rates by network.
//
// Agents keep no history: it begins when this does.
import { setTimeout as delay } from 'node:timers/promises';

import type { LinkTraffic } from '../../proto/gen/weft/v1/inspection.js';
import type { Source } from './source.js';
import type { TrafficPoint } from './update.js';

const INTERVAL_MS = 15_000;
const KEPT_MS = 3_600_000;
/** Nodes that are asked at once, and how long one may take. */
const AT_ONCE = 8;
const NODE_MS = 3000;

/** Counters of a network on one node. */
export type Sample = Pick<LinkTraffic, 'sentBytes' | 'droppedPackets'>;
/** By node, then by network. A node that did not answer is missing. */
export type Samples = ReadonlyMap<string, ReadonlyMap<string, Sample>>;

/** @param seconds between the two samples @param nodes how many were asked */
export function pointsOf(
  before: Samples,
  after: Samples,
  seconds: number,
  at: number,
  nodes: number,
): TrafficPoint[] {
  const points = new Map<string, TrafficPoint>();
  for (const [node, networks] of after)
    for (const [network, now] of networks) {
      const then = before.get(node)?.get(network);
      if (then === undefined) continue;
      const point = points.get(network) ?? { at, network, bytes: 0, drops: 0, missing: nodes - after.size };
      // A counter that went back is that of a new link.
      point.bytes += Math.max(0, now.sentBytes - then.sentBytes) / seconds;
      point.drops += Math.max(0, now.droppedPackets - then.droppedPackets) / seconds;
      points.set(network, point);
    }
  return [...points.values()];
}

export class TrafficHistory {
  #points: TrafficPoint[] = [];
  readonly #listeners = new Set<(points: TrafficPoint[]) => void>();

  constructor(private readonly source: Source) {}

  get points(): readonly TrafficPoint[] {
    return this.#points;
  }

  subscribe(listener: (points: TrafficPoint[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Samples until the signal's abort. While the controller is away there are no points. */
  async run(signal: AbortSignal): Promise<void> {
    let before: { at: number; samples: Samples } | undefined;
    while (!signal.aborted) {
      const began = performance.now();
      try {
        const { samples, nodes } = await this.#sample(signal);
        const now = Date.now();
        if (before !== undefined) {
          const seconds = (began - before.at) / 1000;
          this.#add(pointsOf(before.samples, samples, seconds, now, nodes), now);
        }
        before = { at: began, samples };
      } catch {
        // The status says why.
        before = undefined;
      }
      await delay(INTERVAL_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  #add(points: TrafficPoint[], now: number): void {
    this.#points = [...this.#points.filter(({ at }) => at > now - KEPT_MS), ...points];
    for (const listener of this.#listeners) listener(points);
  }

  async #sample(signal: AbortSignal): Promise<{ samples: Samples; nodes: number }> {
    const { nodes } = await this.source.ask('NodeService', (it) => it.listNodes, {});
    const up = nodes.filter(({ state }) => state === 'up').map(({ name }) => name);
    const samples = new Map<string, Map<string, Sample>>();
    const waiting = up.values();
    const work = async (): Promise<void> => {
      for (const node of waiting) {
        const networks = await this.#ask(node, signal).catch(() => undefined);
        if (networks !== undefined) samples.set(node, networks);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return { samples, nodes: up.length };
  }

  async #ask(node: string, signal: AbortSignal): Promise<Map<string, Sample>> {
    const networks = new Map<string, Sample>();
    const late = AbortSignal.timeout(NODE_MS);
    await this.source.read(
      'InspectionService',
      (it) => it.inspect({ node, query: { $case: 'traffic', value: {} } }),
      ({ answer }) => {
        if (answer?.$case === 'traffic' && answer.value.kind === 'network')
          networks.set(answer.value.network, answer.value);
      },
      AbortSignal.any([signal, late]),
    );
    // What a node that is too slow has said is not all.
    late.throwIfAborted();
    return networks;
  }
}
