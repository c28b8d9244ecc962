// Whether rules of other programs are for a packet of weft's, and what becomes of it.
//
// Three answers: yes, no, and maybe for what the rules alone do not show.
import { IpNetwork, type Family } from '../../../core/address.js';
import type { Condition, PacketRule, PacketTable } from './packet-rules.js';

/** As rules write them. */
const PROTOCOLS = {
  tcp: ['tcp', '6', 'all'],
  udp: ['udp', '17', 'all'],
  ipip: ['ipencap', 'ipv4', 'ipip', '4', 'all'],
  icmp: ['icmp', '1', 'all'],
  icmpv6: ['icmpv6', 'ipv6-icmp', '58', 'all'],
} as const;

/** ICMP types by number (RFC 792, RFC 4443, RFC 4861), as iptables and nft name them. */
export const ICMP_TYPES: Readonly<Record<number, { iptables: string; nft: string }>> = {
  8: { iptables: 'echo-request', nft: 'echo-request' },
  128: { iptables: 'echo-request', nft: 'echo-request' },
  135: { iptables: 'neighbour-solicitation', nft: 'nd-neighbor-solicit' },
  136: { iptables: 'neighbour-advertisement', nft: 'nd-neighbor-advert' },
};

/** A packet of weft's, as far as rules ask for it. */
export interface Packet {
  family: Family;
  /** The links of which one is meant; undefined: any that is neither weft's nor the loopback. */
  in?: readonly string[] | undefined;
  /** Undefined on arrival. */
  out?: readonly string[] | 'any' | undefined;
  protocol: keyof typeof PROTOCOLS;
  /** Undefined: any, so that a rule for one port is not for it. */
  port?: number;
  /** Of ICMP. */
  type?: number;
  states: readonly string[];
  /** Undefined: any. */
  sources?: readonly IpNetwork[];
}

export type Matches = 'yes' | 'no' | 'maybe';

/** Whether a rule is for the packet. */
export function matches(rule: PacketRule, packet: Packet): Matches {
  const all = [
    rule.in && linkMatches(rule.in, packet.in),
    rule.out && linkMatches(rule.out, packet.out === 'any' ? undefined : (packet.out ?? [])),
    rule.family && among(rule.family, [String(packet.family)]),
    rule.protocol && among(rule.protocol, PROTOCOLS[packet.protocol]),
    rule.port && portMatches(rule.port, packet.port),
    rule.type && typeMatches(rule.type, packet.type),
    rule.state && among(rule.state, packet.states),
    rule.source && sourceMatches(rule.source, packet.sources),
    rule.vague ? 'maybe' : undefined,
  ];
  if (all.includes('no')) return 'no';
  return all.includes('maybe') ? 'maybe' : 'yes';
}

const turned = (not: boolean, found: Matches): Matches =>
  !not || found === 'maybe' ? found : found === 'yes' ? 'no' : 'yes';

const among = ({ not, values }: Condition, candidates: readonly string[]): Matches =>
  turned(not, values.some((value) => candidates.includes(value)) ? 'yes' : 'no');

function linkMatches({ not, values }: Condition, links: readonly string[] | undefined): Matches {
  const fits = (pattern: string, name: string): boolean =>
    /[+*]$/.test(pattern) ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
  if (links === undefined) {
    const known = values.every((pattern) => pattern === 'lo' || pattern.startsWith('wf'));
    return turned(not, known ? 'no' : values.some((pattern) => fits(pattern, '')) ? 'yes' : 'maybe');
  }
  const count = links.filter((name) => values.some((pattern) => fits(pattern, name))).length;
  return turned(not, count === 0 ? 'no' : count === links.length ? 'yes' : 'maybe');
}

function portMatches({ not, values }: Condition, port: number | undefined): Matches {
  const found = values.some((range) => {
    const [first = 0, last = first] = range.split(':').map(Number);
    return port !== undefined && port >= first && port <= last;
  });
  return turned(not, found ? 'yes' : 'no');
}

/** A rule may name a code behind the type, which is 0 in all packets here. */
function typeMatches({ not, values }: Condition, type: number | undefined): Matches {
  const known = type === undefined ? [] : [`${type}`, `${type}/0`, ICMP_TYPES[type]?.nft, 'any'];
  const isRange = values.some((value) => value.includes(':'));
  if (values.some((value) => known.includes(value))) return turned(not, 'yes');
  return isRange ? 'maybe' : turned(not, 'no');
}

function sourceMatches({ not, values }: Condition, sources: readonly IpNetwork[] | undefined): Matches {
  const nets = values.map((value) =>
    IpNetwork.tryParse(value.includes('/') ? value : `${value}/${value.includes(':') ? 128 : 32}`),
  );
  if (sources === undefined || nets.includes(undefined)) return 'maybe';
  if (!nets.some((net) => sources.some((source) => net?.overlaps(source) === true))) return turned(not, 'no');
  return sources.every((source) => nets.some((net) => net?.contains(source) === true))
    ? turned(not, 'yes')
    : 'maybe';
}

/** What drops a packet: a rule, or the policy of the base chain. */
export interface Closing {
  chain: string;
  /** Absent: the policy. */
  rule?: PacketRule;
  /** Of the rule in its chain, from 1. */
  position: number;
}

interface Passage {
  /** Some rule may accept it. */
  accepts: boolean;
  /** It may come to the end. */
  falls: boolean;
  closing?: Closing;
}

/** What drops the packet whatever the vague rules say; undefined where it may be accepted. */
export function closedBy(table: PacketTable, base: string, packet: Packet): Closing | undefined {
  const { accepts, falls, closing } = passageOf(table, base, packet, new Map());
  if (accepts) return undefined;
  if (!falls) return closing;
  return table.get(base)?.policy === 'DROP' ? { chain: base, position: 0 } : undefined;
}

function passageOf(table: PacketTable, chain: string, packet: Packet, known: Map<string, Passage>): Passage {
  const before = known.get(chain);
  if (before !== undefined) return before;
  const passage: Passage = { accepts: false, falls: false };
  known.set(chain, passage);
  for (const [index, rule] of (table.get(chain)?.rules ?? []).entries()) {
    const found = matches(rule, packet);
    if (found === 'no') continue;
    const sure = found === 'yes';
    if (rule.target === 'ACCEPT') {
      passage.accepts = true;
      if (sure) return passage;
    } else if (rule.target === 'DROP' || rule.target === 'REJECT') {
      if (!sure) continue;
      passage.closing = { chain, rule, position: index + 1 };
      return passage;
    } else if (rule.target === 'RETURN') {
      passage.falls = true;
      if (sure) return passage;
    } else if (table.has(rule.target)) {
      const inner = passageOf(table, rule.target, packet, known);
      passage.accepts ||= inner.accepts;
      if (rule.goto) passage.falls ||= inner.falls;
      if (!sure || (inner.falls && !rule.goto)) continue;
      if (inner.closing !== undefined) passage.closing = inner.closing;
      return passage;
    }
  }
  passage.falls = true;
  return passage;
}
