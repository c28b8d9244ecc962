// The parts of weft's nftables tables: sets, chains, rules, counters; and their text.
import { createHash } from 'node:crypto';

import { QUERY_LIMIT } from '../../../core/firewall.js';

export interface SetSpec {
  /** The parts of a concatenation, by nft's names. */
  type: readonly string[];
  /** The expression whose type it has, where nft has no name for a part: raw bytes of a packet. */
  typeOf?: string;
  interval: boolean;
  /** Of a map: the parts of its values. */
  data?: readonly string[];
  /** In nft's syntax: `"wfbr1" . 10.1.0.0/16`, `tcp . 8080 : 10.1.0.2 . 80`. */
  elements: Set<string>;
  /** The kernel adds the elements, one for each key that a rule meets; further lines of the set's definition. */
  dynamic?: readonly string[];
}

export interface ChainSpec {
  /** Where packets come in; absent: by rules of other chains. */
  base?: {
    type: 'filter' | 'nat';
    hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
    prio: number;
  };
  rules: readonly Rule[];
}

/**
 * What not every node has: networks with tunnels, internal and encrypted ones, such that others do not reach, such that share a
 * tunnel, tunnels by UDP, and such that the kernel takes from UDP; and not every cluster, IP in IP
 * and policies, and such that close hosts.
 */
export type Feature =
  'tunnels' | 'internal' | 'sealed' | 'apart' | 'shared' | 'udp' | 'inIp' | 'fou' | 'policy' | 'closedHosts';

export interface Rule {
  text: string;
  comment: string;
  /** It is there only with this: most packets pass every rule. */
  only?: Feature;
}

export interface Ruleset {
  sets: ReadonlyMap<string, SetSpec>;
  chains: ReadonlyMap<string, ChainSpec>;
  /** Names of counters that rules refer to. */
  counters: readonly string[];
}

/** nft's family and name of a table of weft's. */
export type TableName = 'inet weft' | 'bridge weft';

/** A rule whose comment identifies its text: listings of different versions print the same rule differently. */
export function rule(text: string, why: string, only?: Feature): Rule {
  const comment = `${why} (${createHash('sha256').update(text).digest('hex').slice(0, 8)})`;
  return { text, comment, ...(only && { only }) };
}

/** Why packets are dropped, as in the counters. */
export type BridgeReason = 'mac' | 'arp' | 'address' | 'neighbour' | 'router' | 'dhcp' | 'frame' | 'dns';
export type HostReason = 'tunnel' | 'control' | 'direct' | 'dns' | 'connections' | 'policy';
export type DropReason = BridgeReason | HostReason;

export const BRIDGE_REASONS: readonly BridgeReason[] = [
  'mac',
  'arp',
  'address',
  'neighbour',
  'router',
  'dhcp',
  'frame',
  'dns',
];
export const HOST_REASONS: readonly HostReason[] = [
  'tunnel',
  'control',
  'direct',
  'dns',
  'connections',
  'policy',
];

export const counterName = (reason: DropReason): string => `drop_${reason}`;
/** The set that counts what was dropped of each container's port. */
export const lossSet = (reason: BridgeReason): string => `loss_${reason}`;

/** A rule that drops, and counts by reason. */
export const dropRule = (match: string, reason: HostReason, why: string, only?: Feature): Rule =>
  rule(`${match} counter name ${counterName(reason)} drop`, why, only);

/** What counts as a query: a datagram, or a connection, by which the name server itself counts the queries. */
export const QUERIES = ['udp dport 53', 'tcp dport 53 tcp flags & (syn | ack) == syn'] as const;
/** More of them than one client may send. */
export const TOO_MANY_QUERIES = `limit rate over ${QUERY_LIMIT.rate}/second burst ${QUERY_LIMIT.burst} packets`;
/** A set of clients; who is quiet is forgotten. */
export const askers = (type: string): SetSpec => dynamicSet([type], ['flags dynamic,timeout', 'timeout 1m']);

/**
 * A set that the kernel fills. It takes 65,535 elements at most (net/netfilter/nft_dynset.c), which bounds what a container can
 * make it remember. Where that size is written here, the kernel takes the memory for so many at once: 1 MB a set.
 */
export const dynamicSet = (type: readonly string[], lines: readonly string[]): SetSpec => ({
  type,
  interval: false,
  elements: new Set(),
  dynamic: [...lines],
});

/** Commands that replace any existing table with this one, in one transaction. */
export function renderReplacement(table: TableName, ruleset: Ruleset | undefined): string {
  const lines = [`table ${table}`, `delete table ${table}`];
  if (ruleset === undefined) return `${lines.join('\n')}\n`;
  lines.push(`table ${table} {`);
  for (const name of ruleset.counters) lines.push(`counter ${name} {`, '}');
  for (const [name, { type, typeOf, interval, data, elements, dynamic = [] }] of ruleset.sets) {
    if (data !== undefined) lines.push(`map ${name} {`, `type ${type.join(' . ')} : ${data.join(' . ')}`);
    else lines.push(`set ${name} {`, typeOf === undefined ? `type ${type.join(' . ')}` : `typeof ${typeOf}`);
    if (interval) lines.push('flags interval');
    lines.push(...dynamic);
    if (elements.size > 0) lines.push(`elements = { ${[...elements].join(', ')} }`);
    lines.push('}');
  }
  for (const [name, { base, rules }] of ruleset.chains) {
    lines.push(`chain ${name} {`);
    if (base !== undefined)
      lines.push(`type ${base.type} hook ${base.hook} priority ${base.prio}; policy accept`);
    for (const { text, comment } of rules) lines.push(`${text} comment "${comment}"`);
    lines.push('}');
  }
  lines.push('}');
  return `${lines.join('\n')}\n`;
}

/** Changes of one set's elements. */
export interface ElementChange {
  set: string;
  add: string[];
  remove: string[];
}

/** Commands that correct the elements, in one transaction; deletions first, to make room for additions. */
export function renderElements(table: TableName, elements: readonly ElementChange[]): string {
  const commands = (verb: 'delete' | 'add', of: (change: ElementChange) => string[]): string[] =>
    elements.flatMap((change) =>
      of(change).length === 0 ? [] : [`${verb} element ${table} ${change.set} { ${of(change).join(', ')} }`],
    );
  return `${[...commands('delete', ({ remove }) => remove), ...commands('add', ({ add }) => add)].join('\n')}\n`;
}
