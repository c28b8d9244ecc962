// Judges a trace: whether its packet and the answer arrived, where it stops, and why.
//
// What was seen comes first: a rule that the kernel itself names, then what routes and neighbours say of the next point, then ICMP
// errors. Where nothing says why, the two points are named between which it was lost, and no cause.
import type { ProbeDrop, ProbeObstacle, ProbeSighting } from '../../proto/gen/weft/v1/trace.js';
import {
  expectedHops,
  markSeen,
  type BlindEnd,
  type Direction,
  type EndNames,
  type Hop,
  type NodeView,
} from './hops.js';
import {
  countedReason,
  dropReason,
  errorReason,
  isPortUnreachable,
  isTooBig,
  recordReason,
  refusedReason,
  type Reason,
  type RecordFacts,
} from './reasons.js';

export interface Evidence {
  family: 4 | 6;
  protocol: 'icmp' | 'tcp' | 'udp';
  port: number;
  size: number;
  names: EndNames;
  /** The node that sends. */
  near: NodeView;
  /** The other node, or the end that nobody looks on at; absent: both ends are on one node. */
  far?: NodeView | BlindEnd;
  /** Name of the errno by which the sender's kernel refused the packet; empty: it did not. */
  refused: string;
  facts: RecordFacts;
}

export interface Verdict {
  verdict: 'reached' | 'stopped' | 'unknown';
  node?: string;
  reason?: string;
  why: string;
  fix: string;
  hops: Hop[];
  back: Hop[];
  /** No rule, route or error says why it stops. */
  isLost: boolean;
}

export function judge(evidence: Evidence): Verdict {
  const { near, names, far = near } = evidence;
  const views = 'view' in far && far !== near ? [near, far] : [near];
  const all = views.flatMap(({ view }) => view.sightings);
  const isBack = ({ kind, about }: ProbeSighting): boolean =>
    kind === 'back' || (kind === 'error' && about === 'back');
  const answered = all.some(isBack);
  const toPlace = toPlaceOf(far);
  const delivered = all.some(({ kind, link, place }) => kind === 'there' && link === '' && place === toPlace);
  const arrived = answered || delivered;
  const returned = near.view.sightings.some(
    ({ kind, link, place }) => kind === 'back' && link === '' && place === fromPlaceOf(near),
  );
  const hopsOf = (direction: Direction, isThere: boolean): Hop[] =>
    markSeen(expectedHops(direction, near, far, names), views, direction, names, isThere);
  const hops = hopsOf('there', arrived);
  const back = hopsOf('back', returned);
  const ended = { hops, back, isLost: false };
  const closed = closedReason(evidence, all);
  if (closed !== undefined && arrived)
    return { ...ended, ...closed, verdict: 'stopped', ...nodeOf(far, near) };
  if (closed?.isSure === true) return { ...ended, ...closed, verdict: 'stopped', ...nodeOf(far, near) };
  if (returned) {
    // Somebody else may have the address: its container would have seen the packet.
    const isOther = toPlace === 'to' && !delivered;
    if (!isOther) return { ...ended, verdict: 'reached', why: '', fix: '' };
    return {
      ...ended,
      ...nodeOf(far, near),
      verdict: 'stopped',
      ...otherReason(expectedHops('there', near, far, names), names),
    };
  }
  const direction = arrived ? 'back' : 'there';
  return { hops, back, ...stopOf(evidence, views, direction, direction === 'there' ? hops : back) };
}

function otherReason(hops: readonly Hop[], { to }: EndNames): Reason {
  const obstacle = hops.find(({ point }) => point?.obstacle !== undefined)?.point?.obstacle;
  return obstacle === undefined
    ? {
        reason: `another than ${to} has answered`,
        why: `the answer came, and the packet was not seen in ${to}: somebody else has its address, too`,
        fix: 'See who answers there: ip neigh; and give one of the two another address.',
      }
    : textOf(obstacle);
}

const fromPlaceOf = ({ view }: NodeView): string =>
  view.from?.in.find(({ what }) => what === 'end')?.place ?? 'from';

const toPlaceOf = (far: NodeView | BlindEnd): string | undefined =>
  'view' in far ? far.view.to?.in.find(({ what }) => what === 'end')?.place : undefined;

const nodeOf = (far: NodeView | BlindEnd, near: NodeView): { node?: string } => {
  const node = 'view' in far ? far.node : (far.node ?? undefined);
  return node === undefined ? (far === near ? { node: near.node } : {}) : { node };
};

/** Nobody listens: the answer itself says so, or the sockets of the place do. */
function closedReason(
  { family, near, far = near, protocol, port, names }: Evidence,
  all: readonly ProbeSighting[],
): (Reason & { isSure: boolean }) | undefined {
  const told = all.some(
    (one) =>
      (one.kind === 'back' && one.refused) ||
      (one.kind === 'error' && one.about === 'there' && protocol === 'udp' && isPortUnreachable(one, family)),
  );
  const view = 'view' in far ? far.view.to : undefined;
  const looked = view?.closed;
  if (looked !== undefined) return { ...textOf(looked), isSure: told };
  if (!told) return undefined;
  return {
    reason: `nobody listens on ${protocol.toUpperCase()} port ${port} at ${names.to}, or a rule there refuses it`,
    why: protocol === 'tcp' ? 'a reset has come back' : 'an ICMP error says that the port is unreachable',
    fix: 'See which process has that port there: ss -ltnu.',
    isSure: true,
  };
}

const textOf = ({ reason, why, fix }: ProbeObstacle): Reason => ({ reason, why, fix });

interface Stop {
  verdict: 'stopped' | 'unknown';
  node?: string;
  reason?: string;
  why: string;
  fix: string;
  isLost: boolean;
}

function stopOf(
  evidence: Evidence,
  views: readonly NodeView[],
  direction: Direction,
  hops: readonly Hop[],
): Stop {
  const { near, refused, family, names, facts } = evidence;
  const last = hops.findLastIndex(({ seen }) => seen === true);
  const next = hops[last + 1];
  const before = hops[last];
  const at = (node: string | undefined): { node?: string } => (node === undefined ? {} : { node });
  const stopped = (reason: Reason, node: string | undefined): Stop => ({
    ...{ verdict: 'stopped', ...at(node), ...reason, isLost: false },
  });

  const drops = views.flatMap(({ node, view }) => view.drops.map((drop) => ({ node, drop })));
  const told = drops.find(({ drop }) => drop.table !== '');
  if (told !== undefined)
    return stopped(dropReason(told.drop, placeName(told.node, told.drop, names), facts), told.node);
  const counted = drops.filter(({ node }) => node === next?.node || node === before?.node);
  const [one] = counted;
  if (one !== undefined && counted.length === 1)
    return stopped(dropReason(one.drop, placeName(one.node, one.drop, names), facts), one.node);

  // Where it stops inside of one node, the next obstacle on that node is what stopped it.
  const rest = hops.slice(last + 1);
  const stopping =
    before?.node === next?.node ? rest.filter(({ node }) => node === next?.node) : rest.slice(0, 1);
  const obstacle = stopping.find(({ point }) => point?.obstacle !== undefined)?.point?.obstacle;
  const byRecords = direction === 'there' ? recordReason(facts) : undefined;
  // The container has no route where its networks do not lead.
  if (obstacle !== undefined && byRecords !== undefined && next?.point?.what === 'container')
    return stopped({ ...byRecords, why: obstacle.reason }, next.node);
  if (obstacle !== undefined) return stopped(textOf(obstacle), next?.node);
  const error = views
    .flatMap(({ view }) => view.sightings)
    .find(({ kind, about }) => kind === 'error' && about === direction);
  if (error !== undefined)
    return stopped(errorReason(error, family), isTooBig(error, family) ? next?.node : before?.node);
  if (refused !== '' && direction === 'there') return stopped(refusedReason(refused, names.from), near.node);
  if (one !== undefined)
    return stopped(
      countedReason(
        counted.map(({ drop }) => drop),
        placeName(one.node, one.drop, names),
      ),
      one.node,
    );
  if (byRecords !== undefined) return stopped(byRecords, before?.node ?? next?.node);
  return lost(evidence, views, direction, { before, next, rest });
}

const placeName = (node: string, { place }: ProbeDrop, names: EndNames): string =>
  place === 'from' || place === 'to' ? `${names[place]} (node ${node})` : `node ${node}`;

function lost(
  { near, names }: Evidence,
  views: readonly NodeView[],
  direction: Direction,
  { before, next, rest }: { before: Hop | undefined; next: Hop | undefined; rest: readonly Hop[] },
): Stop {
  const what = direction === 'there' ? 'the packet' : 'the answer';
  const blind = views.flatMap(({ view }) => view.blind);
  const unseen = blind.length === 0 ? '' : `; not seen were ${blind.join('; ')}`;
  if (before === undefined && direction === 'back')
    return {
      ...{
        verdict: 'stopped',
        ...(next?.node !== undefined && { node: next.node }),
        isLost: false,
      },
      reason: `${names.to} has the packet, and does not answer`,
      why: `it was delivered there, and no answer left it${unseen}`,
      fix: `See what ${names.to} does with it: its own rules, net.ipv4.icmp_echo_ignore_all, a process that hangs.`,
    };
  const [from, to] = [placeOf(before) ?? `the interface of ${names.from}`, placeOf(next) ?? 'the other end'];
  const visible = rest.some(({ seen }) => seen === false);
  if (next?.seen === undefined && !visible)
    return {
      ...{ verdict: 'unknown', isLost: false },
      reason: `${what} was last seen at ${from}, and nobody can look on behind that`,
      why: next?.detail ?? 'the other end tells nothing',
      fix: 'Look there by hand: tcpdump -ni any.',
    };
  const between = before?.node !== undefined && next?.node !== undefined && before.node !== next.node;
  const wrong = between ? wrongMac(before, next, views) : undefined;
  if (wrong !== undefined)
    return { verdict: 'stopped', node: before?.node ?? near.node, ...wrong, isLost: false };
  return {
    ...{ verdict: 'stopped', isLost: true },
    ...(!between && { node: next?.node ?? before?.node ?? near.node }),
    reason: `${what} is lost between ${from} and ${to}`,
    why: between
      ? `it left the one node and did not arrive at the other${unseen}`
      : `no rule, route or error that can be seen says why${unseen}`,
    fix: between
      ? before.point?.advice ||
        'See the network between the nodes: its firewalls and security groups, and which switch or router is on the way.'
      : 'See what else takes packets there: tc filter show, BPF programs, sysctls such as rp_filter.',
  };
}

const placeOf = (hop: Hop | undefined): string | undefined =>
  hop === undefined ? undefined : hop.node === undefined ? hop.text : `${hop.text} on ${hop.node}`;

/** The frame went to a MAC address that the other node does not have, although it was addressed to the node itself. */
function wrongMac(before: Hop, next: Hop, views: readonly NodeView[]): Reason | undefined {
  const { nextIp = '', nextMac = '' } = before.point ?? {};
  const other = views.find(({ node }) => node === next.node);
  if (nextMac === '' || other === undefined || !before.detail.startsWith(`to ${nextIp} `)) return undefined;
  if (other.view.macs.includes(nextMac)) return undefined;
  return {
    reason: `node ${before.node} sends to a wrong MAC address: ${nextMac} for ${nextIp}`,
    why: `node ${next.node} has that address, and none of its interfaces has that MAC address: another host answers for ${nextIp}, or an entry was made by hand`,
    fix: `See ip neigh show ${nextIp} on ${before.node}: delete a permanent entry (ip neigh del), or find the host that has the address, too.`,
  };
}
