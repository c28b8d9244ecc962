// The hops of a trace: the points that its packet should pass, with those where it was seen.
import type { ProbePoint, ProbeSighting, ProbeView } from '../../proto/gen/weft/v1/trace.js';

/** A node's part, as its agent told it. */
export interface NodeView {
  node: string;
  view: ProbeView;
}

/** A point on the way. */
export interface Hop {
  /** Absent: of no node of weft's. */
  node?: string;
  /** Absent where nobody looks on. */
  point?: ProbePoint;
  /** In words. */
  text: string;
  seen: boolean | undefined;
  detail: string;
}

/** Names of the containers at both ends. */
export interface EndNames {
  from: string;
  to: string;
}

export type Direction = 'there' | 'back';

/** The end that nobody can look on at. */
export interface BlindEnd {
  node?: string;
  text: string;
  detail: string;
}

/** The points of the nodes that look on, in the order of the packet. */
export function expectedHops(
  direction: Direction,
  near: NodeView,
  far: NodeView | BlindEnd,
  names: EndNames,
): Hop[] {
  const hop =
    (node: string) =>
    (point: ProbePoint): Hop => ({
      node,
      point,
      text: textOf(point, names),
      seen: false,
      detail: point.detail,
    });
  const [from, to] = [near.view.from, 'view' in far ? far.view.to : undefined];
  const own = hop(near.node);
  const blind: Hop[] = 'view' in far ? [] : [{ ...far, seen: undefined }];
  const other = 'view' in far ? hop(far.node) : own;
  return direction === 'there'
    ? [...(from?.out.map(own) ?? []), ...(to?.in.map(other) ?? []), ...blind]
    : [...blind, ...(to?.out.map(other) ?? []), ...(from?.in.map(own) ?? [])];
}

function textOf({ place, link, what }: ProbePoint, names: EndNames): string {
  const inside = place === 'from' || place === 'to' ? ` in ${names[place]}` : '';
  if (what === 'end') return place === 'host' ? 'the node itself' : names[place as keyof EndNames];
  return link === '' ? what : `${what === 'container' ? '' : `${what} `}${link}${inside}`;
}

const isAt = (point: ProbePoint, sighting: ProbeSighting): boolean =>
  point.place === sighting.place && point.link === sighting.link && point.out === sighting.out;

/**
 * Marks where the packet was seen, and adds the points that nobody expected. Where it was seen behind a point, and not there, it
 * took another way: the point is left out, unless packets are encrypted there.
 * @param arrived it was delivered, or answered
 */
export function markSeen(
  expected: readonly Hop[],
  views: readonly NodeView[],
  direction: Direction,
  names: EndNames,
  arrived: boolean,
): Hop[] {
  const hops = [...expected];
  for (const { node, view } of views) {
    const sightings = view.sightings.filter(({ kind }) => kind === direction);
    for (const [i, sighting] of sightings.entries()) {
      const found = hops.findIndex((hop) => hop.node === node && hop.point && isAt(hop.point, sighting));
      const hop = hops[found];
      if (hop === undefined)
        hops.splice(placeOf(hops, node, sightings.slice(0, i)), 0, strange(node, sighting, names));
      else if (hop.seen !== true) hops[found] = { ...hop, seen: true };
    }
  }
  const last = arrived ? hops.length : hops.findLastIndex(({ seen }) => seen === true);
  return hops.flatMap((hop, i): Hop[] => {
    if (hop.seen !== false || (i > last && hop.point?.hidden !== true)) return [hop];
    if (hop.point?.hidden !== true) return [];
    const why = 'encrypted: it cannot be told from others';
    return [{ ...hop, seen: undefined, detail: [hop.detail, why].filter(Boolean).join('; ') }];
  });
}

/** Behind what was seen there before it; else behind the node's first points. */
function placeOf(hops: readonly Hop[], node: string, before: readonly ProbeSighting[]): number {
  const last = hops.findLastIndex(
    (hop) => hop.node === node && before.some((one) => hop.point !== undefined && isAt(hop.point, one)),
  );
  return last >= 0 ? last + 1 : Math.max(0, hops.findIndex((hop) => hop.node === node) + 1);
}

function strange(
  node: string,
  { place, link, out, source, destination }: ProbeSighting,
  names: EndNames,
): Hop {
  const point: ProbePoint = {
    ...{ place, link, out, what: link === '' ? 'end' : place === 'host' ? 'link' : 'container' },
    ...{
      detail: `${source} to ${destination}`,
      obstacle: undefined,
      hidden: false,
      nextIp: '',
      nextMac: '',
      advice: '',
    },
  };
  return { node, point, text: textOf(point, names), seen: true, detail: point.detail };
}
