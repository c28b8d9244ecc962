// weft's nftables table as the kernel has it, and its differences.
import { IpNetwork } from '../../../core/address.js';
import { ITEM_SETS } from './elements.js';
import { classText } from './policy-rules.js';
import type { NftMap, NftObject, NftSet } from './libnftables.js';
import type { ChainSpec, ElementChange, Ruleset, TableName } from './rules.js';

/** weft's table as the kernel has it. */
export interface Listing {
  /** Everything but set elements, in this library's form: equal texts mean an unchanged structure. */
  structure: string;
  chains: ReadonlyMap<string, { base: string; comments: string[] }>;
  sets: ReadonlyMap<string, { type: string; elements: ReadonlySet<string> }>;
  counters: ReadonlySet<string>;
  /** Descriptions of what weft never puts into its table. */
  odd: string[];
}

/** What a table was after it was written. */
export interface AsWritten {
  structure: string;
  chains: Ruleset['chains'];
}

export interface Difference {
  /** For people; empty where nothing differs. */
  words: string[];
  /** Whether it takes more than adding and deleting elements. */
  structural: boolean;
  elements: ElementChange[];
}

/** @param objects output of `list table …` */
export function parseListing(table: TableName, objects: readonly NftObject[]): Listing {
  const chains = new Map<string, { base: string; comments: string[] }>();
  const sets = new Map<string, { type: string; elements: ReadonlySet<string> }>();
  const counters = new Set<string>();
  const odd: string[] = [];
  const structure: unknown[] = [];
  for (const object of objects) {
    const [kind = '', value] = Object.entries(object)[0] ?? [];
    if (kind === 'metainfo') continue;
    // What changes with every packet is no part of it.
    const volatile = { handle: undefined, elem: undefined, packets: undefined, bytes: undefined };
    structure.push([kind, { ...(value as object), ...volatile }]);
    if (object.table !== undefined) continue;
    if (object.counter !== undefined) counters.add(object.counter.name);
    else if (object.chain !== undefined) {
      const { name, type, hook, prio, policy } = object.chain;
      chains.set(name, { base: baseOf(type, hook, prio, policy), comments: [] });
    } else if (object.rule !== undefined) {
      chains.get(object.rule.chain)?.comments.push(object.rule.comment ?? '');
    } else if (object.set !== undefined) {
      const elements = new Set<string>();
      for (const element of isDynamic(object.set) ? [] : (object.set.elem ?? [])) {
        const text = elementText(object.set, element);
        if (text === undefined) odd.push(`set ${object.set.name}: an element that weft does not write`);
        else elements.add(text);
      }
      sets.set(object.set.name, { type: typesOf(object.set).join(' . '), elements });
    } else if (object.map !== undefined) {
      const { map } = object;
      const elements = new Set<string>();
      for (const element of map.elem ?? []) {
        const text = mappingText(map, element);
        if (text === undefined) odd.push(`map ${map.name}: an element that weft does not write`);
        else elements.add(text);
      }
      sets.set(map.name, { type: `${typesOf(map).join(' . ')} : ${dataOf(map).join(' . ')}`, elements });
    } else {
      odd.push(`table ${table}: a ${kind} that weft did not make`);
    }
  }
  return { structure: JSON.stringify(structure), chains, sets, counters, odd };
}

const baseOf = (type = '', hook = '', prio = 0, policy = ''): string => `${type} ${hook} ${prio} ${policy}`;

const typesOf = ({ type }: NftSet): string[] => (Array.isArray(type) ? type : [type]).flatMap(typeOf);

/** A part of a set's type: nft before 1.1.2 prints its name, later ones the expression that it is the type of. */
function typeOf(part: unknown): string[] {
  if (!isRecord(part)) return [String(part)];
  if (part['typeof'] !== undefined) return typeOf(part['typeof']);
  if (Array.isArray(part['concat'])) return (part['concat'] as unknown[]).flatMap(typeOf);
  const { payload, meta } = part as { payload?: { protocol?: string; base?: string }; meta?: unknown };
  if (meta !== undefined) return ['ifname'];
  if (payload?.base !== undefined) return ['integer'];
  const known: Record<string, string> = { udp: 'inet_service', ip: 'ipv4_addr', ip6: 'ipv6_addr' };
  return [known[payload?.protocol ?? ''] ?? 'unknown'];
}

/** The kernel fills it: weft's own elements have no statements. */
const isDynamic = ({ stmt, size, timeout }: NftSet): boolean =>
  stmt !== undefined || size !== undefined || timeout !== undefined;

/** A map's value type: nft 1.0.6 prints it as text, later ones as a list. */
const dataOf = ({ map }: NftMap): string[] =>
  Array.isArray(map) ? map.map(String) : String(map).split(' . ');

function mappingText(map: NftMap, element: unknown): string | undefined {
  if (!Array.isArray(element) || element.length !== 2) return undefined;
  const key = concatenation(typesOf(map), element[0], isInterval(map));
  const data = concatenation(dataOf(map), element[1], false);
  return key === undefined || data === undefined ? undefined : `${key} : ${data}`;
}

/** An element in nft's syntax. Undefined for one with a timeout, a comment or a form that weft does not use. */
function elementText(set: NftSet, element: unknown): string | undefined {
  return concatenation(typesOf(set), element, isInterval(set));
}

const isInterval = ({ flags }: NftSet): boolean => Array.isArray(flags) && flags.includes('interval');

function concatenation(types: readonly string[], element: unknown, interval: boolean): string | undefined {
  const parts =
    isRecord(element) && Array.isArray(element['concat']) ? (element['concat'] as unknown[]) : [element];
  if (parts.length !== types.length) return undefined;
  const texts = parts.map((part, i) => partText(types[i] ?? '', part, interval));
  return texts.includes(undefined) ? undefined : texts.join(' . ');
}

function partText(type: string, part: unknown, interval: boolean): string | undefined {
  if (type === 'integer') return integerText(part);
  if (type === 'inet_service' || type === 'mark')
    return typeof part === 'number' ? `${part}` : isRecord(part) ? rangeText(part) : undefined;
  if (type === 'verdict') return isRecord(part) ? Object.keys(part).join(' ') : undefined;
  if (typeof part === 'string') {
    if (type === 'ifname') return `"${part}"`;
    if (['inet_proto', 'classid', 'ether_addr'].includes(type)) return part;
    // The library omits the length of a whole address.
    const text = prefixText(part, type === 'ipv4_addr' ? 32 : 128);
    return interval ? text : text.slice(0, text.indexOf('/'));
  }
  if (!isRecord(part)) return undefined;
  if (isRecord(part['prefix']))
    return prefixText(String(part['prefix']['addr']), Number(part['prefix']['len']));
  return rangeText(part);
}

const rangeText = ({ range }: Record<string, unknown>): string | undefined =>
  Array.isArray(range) ? range.map(String).join('-') : undefined;

/** Raw bytes of a packet: a number where it fits one, else in hexadecimal digits. */
function integerText(part: unknown): string | undefined {
  if (isRecord(part) && Array.isArray(part['range'])) {
    const ends = part['range'].map(integerText);
    return ends.includes(undefined) ? undefined : ends.join('-');
  }
  if (typeof part !== 'number' && typeof part !== 'string') return undefined;
  try {
    return `0x${BigInt(part).toString(16)}`;
  } catch {
    return undefined;
  }
}

function prefixText(address: string, length: number): string {
  const text = `${address}/${length}`;
  // inet_ntop(3) formats as RFC 5952 does, except that it shows IPv4 addresses inside IPv6 ones with dots.
  return address.includes(':') && address.includes('.')
    ? (IpNetwork.tryParse(text)?.toString() ?? text)
    : text;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * The changes from the listing to the wanted table.
 * @param asWritten where known, the structure as read back after weft wrote the rules, and what it wrote
 */
export function compare(
  table: TableName,
  listing: Listing | undefined,
  wanted: Ruleset | undefined,
  asWritten: AsWritten | undefined,
): Difference {
  if (listing === undefined || wanted === undefined) {
    if (listing === wanted) return { words: [], structural: false, elements: [] };
    const words = [`table ${table} ${listing === undefined ? 'was missing' : 'is not wanted'}`];
    return { words, structural: true, elements: [] };
  }
  const isAsWritten = listing.structure === asWritten?.structure;
  const structural =
    isAsWritten && asWritten.chains === wanted.chains ? [...listing.odd] : structuralWords(listing, wanted);
  if (structural.length === 0 && asWritten !== undefined && !isAsWritten) {
    structural.push(`table ${table}: a rule, chain or set was changed`);
  }
  const elements: Difference['elements'] = [];
  const words = [...structural];
  for (const [set, { elements: want, dynamic }] of wanted.sets) {
    if (dynamic !== undefined) continue;
    const there = listing.sets.get(set);
    if (there === undefined) continue;
    const have = inHostOrder(there, want);
    const add = [...want].filter((element) => !have.has(element));
    const remove = [...have].filter((element) => !want.has(element));
    if (add.length > 0) words.push(`set ${set}: ${listed(add)} missing`);
    if (remove.length > 0) words.push(`set ${set}: ${listed(remove)} not wanted`);
    if (add.length + remove.length > 0) elements.push({ set, add, remove });
  }
  return { words, structural: structural.length > 0, elements };
}

/**
 * The elements as they are. nft 1.0.6 shows the first element of each further netlink message of an interval map, one in a
 * thousand, with marks and classes in the other byte order.
 */
function inHostOrder(
  { type, elements }: { type: string; elements: ReadonlySet<string> },
  want: ReadonlySet<string>,
): ReadonlySet<string> {
  if (!type.startsWith('mark . classid')) return elements;
  return new Set(
    [...elements].map((element) => {
      if (want.has(element)) return element;
      const [mark = '', number = '', ...rest] = element.split(' . ');
      const [high = 0, low = 0] = number.split(':').map((half) => parseInt(half, 16));
      const turned = [swapped(Number(mark)), classText(swapped(high * 0x1_0000 + low)), ...rest].join(' . ');
      return want.has(turned) && !elements.has(turned) ? turned : element;
    }),
  );
}

/** The four bytes of a number, the other way round. */
function swapped(number: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number >>> 0);
  return bytes.readUInt32BE();
}

/** The wanted table with further items: their records may still be arriving. */
export function keepingItems(wanted: Ruleset, listing: Listing): Ruleset {
  const sets = new Map(wanted.sets);
  for (const name of ITEM_SETS) {
    const set = wanted.sets.get(name);
    const have = listing.sets.get(name)?.elements;
    if (set === undefined || have === undefined) continue;
    const keys = new Set([...set.elements].map(keyOf));
    const kept = [...have].filter((element) => !keys.has(keyOf(element)));
    sets.set(name, { ...set, elements: new Set([...set.elements, ...kept]) });
  }
  return { ...wanted, sets };
}

/** The key of a map's element, without its value. */
const keyOf = (element: string): string => element.split(' : ')[0] ?? element;

const baseText = (base: ChainSpec['base']): string =>
  base === undefined ? baseOf() : baseOf(base.type, base.hook, base.prio, 'accept');

function structuralWords(listing: Listing, wanted: Ruleset): string[] {
  const words = [...listing.odd];
  for (const [name, { base, rules }] of wanted.chains) {
    const have = listing.chains.get(name);
    const wantComments = rules.map(({ comment }) => comment);
    if (have === undefined) words.push(`chain ${name} was missing`);
    else if (have.base !== baseText(base)) words.push(`chain ${name}: hook or policy was changed`);
    else if (have.comments.join('\n') !== wantComments.join('\n')) {
      const missing = wantComments.filter((comment) => !have.comments.includes(comment));
      words.push(
        missing.length > 0
          ? `chain ${name}: ${missing.map((comment) => `rule "${comment}"`).join(', ')} missing`
          : `chain ${name}: rules that weft did not add, or in another order`,
      );
    }
  }
  for (const [name, { type, data }] of wanted.sets) {
    const have = listing.sets.get(name);
    const types = type.join(' . ') + (data === undefined ? '' : ` : ${data.join(' . ')}`);
    if (have === undefined) words.push(`set ${name} was missing`);
    else if (have.type !== types) words.push(`set ${name}: type was changed`);
  }
  for (const name of wanted.counters)
    if (!listing.counters.has(name)) words.push(`counter ${name} was missing`);
  for (const name of listing.counters)
    if (!wanted.counters.includes(name)) words.push(`counter ${name} is not wanted`);
  for (const name of listing.chains.keys())
    if (!wanted.chains.has(name)) words.push(`chain ${name} is not wanted`);
  for (const name of listing.sets.keys()) if (!wanted.sets.has(name)) words.push(`set ${name} is not wanted`);
  return words;
}

/** Names only the first few: 500 networks would fill a page. */
function listed(elements: readonly string[]): string {
  const shown = elements.slice(0, 3).map((element) => element.replaceAll('"', ''));
  return elements.length > shown.length
    ? `${shown.join(', ')} and ${elements.length - shown.length} more`
    : shown.join(', ');
}
