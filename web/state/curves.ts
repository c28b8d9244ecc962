// Points of traffic as curves, one a network.
import type { TrafficPoint } from '../../daemon/page/update.js';

export interface Curve {
  network: string;
  /** Seconds since 1970, as uPlot has them. */
  times: number[];
  /** A second. */
  bytes: number[];
  drops: number[];
  /** Nodes that did not answer the last time. */
  missing: number;
}

/** The busiest network first. */
export function curvesOf(points: readonly TrafficPoint[]): Curve[] {
  const curves = new Map<string, Curve>();
  for (const { at, network, bytes, drops, missing } of points) {
    const curve = curves.get(network) ?? { network, times: [], bytes: [], drops: [], missing };
    curve.times.push(at / 1000);
    curve.bytes.push(bytes);
    curve.drops.push(drops);
    curve.missing = missing;
    curves.set(network, curve);
  }
  const sum = ({ bytes }: Curve): number => bytes.reduce((all, one) => all + one, 0);
  return [...curves.values()].sort((a, b) => sum(b) - sum(a) || (a.network < b.network ? -1 : 1));
}
