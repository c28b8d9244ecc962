// Elements of nftables sets as netlink messages (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h).
//
// Before each change libnftables reads the tables of the whole host, and parses text: a millisecond, which every attach would wait
// for. These messages need neither. The kernel takes them only at the generation that is known, so that no other program has
// written in between.
import { endianness } from 'node:os';

import { IpAddress, IpNetwork } from '../../../core/address.js';
import { attr, be32Attr, nested, NLM_F, textAttr, type Request } from '../netlink-message.js';
import type { NetlinkSocket } from '../netlink-socket.js';
import type { ElementChange, Ruleset, SetSpec, TableName } from './rules.js';

const SUBSYSTEM = 10;
const BATCH = { BEGIN: 0x10, END: 0x11 } as const;
const BATCH_GENERATION = 1;
const MESSAGE = { add: (SUBSYSTEM << 8) | 12, delete: (SUBSYSTEM << 8) | 14 } as const;
const LIST = { TABLE: 1, SET: 2, ELEMENTS: 3 } as const;
const LIST_ELEMENT = 1;
const ELEMENT = { KEY: 1, DATA: 2, KEY_END: 10 } as const;
const DATA_VALUE = 1;
const DATA_VERDICT = 2;
const VERDICT_CODE = 1;
const NFT_RETURN = -5;
const FAMILIES: Readonly<Record<string, number>> = { inet: 1, bridge: 7 };
/** An attribute has at most 64 KiB, and an element of two IPv6 prefixes 160 bytes. */
const MOST_IN_MESSAGE = 256;

/** Changes of one table. */
export interface TableChange {
  table: TableName;
  ruleset: Ruleset;
  changes: readonly ElementChange[];
}

/**
 * Applies changes to sets that exist, deletions first, as one transaction.
 * @param generation of the ruleset
 * @throws Error with the kernel's reason; then nothing has changed. So it is where another program has written (ERESTART)
 */
export function changeElements(
  socket: NetlinkSocket,
  generation: number,
  tables: readonly TableChange[],
): void {
  const messages = (verb: 'delete' | 'add'): Request[] =>
    tables.flatMap((one) =>
      one.changes.flatMap(({ set, add, remove }) =>
        chunks(verb === 'add' ? add : remove).map((elements) => message(verb, one, set, elements)),
      ),
    );
  const failure = socket.transaction(
    boundary(BATCH.BEGIN, be32Attr(BATCH_GENERATION, generation)),
    [...messages('delete'), ...messages('add')],
    boundary(BATCH.END),
  );
  if (failure !== undefined) throw new Error(failure.message);
}

const chunks = (elements: readonly string[]): string[][] =>
  Array.from({ length: Math.ceil(elements.length / MOST_IN_MESSAGE) }, (_, n) =>
    elements.slice(n * MOST_IN_MESSAGE, (n + 1) * MOST_IN_MESSAGE),
  );

/** struct nfgenmsg: family, version, and in network byte order a number. */
const general = (family: number, number = 0): Buffer => Buffer.from([family, 0, number >> 8, number & 0xff]);

const boundary = (type: number, ...attrs: Buffer[]): Request => ({
  type,
  flags: 0,
  body: Buffer.concat([general(0, SUBSYSTEM), ...attrs]),
});

function message(
  verb: 'delete' | 'add',
  { table, ruleset }: TableChange,
  set: string,
  elements: readonly string[],
): Request {
  const spec = ruleset.sets.get(set);
  if (spec === undefined) throw new Error(`table ${table} has no set ${set}`);
  return {
    type: MESSAGE[verb],
    flags: verb === 'add' ? NLM_F.CREATE : 0,
    body: Buffer.concat([
      headOf(table, set),
      nested(LIST.ELEMENTS, ...elements.map((text) => nested(LIST_ELEMENT, ...elementAttrs(spec, text)))),
    ]),
  };
}

/** The same in every message about a set. */
const heads = new Map<string, Buffer>();

function headOf(table: TableName, set: string): Buffer {
  const key = `${table} ${set}`;
  let head = heads.get(key);
  if (head === undefined) {
    const [family = '', name = ''] = table.split(' ');
    const named = [textAttr(LIST.TABLE, name), textAttr(LIST.SET, set)];
    heads.set(key, (head = Buffer.concat([general(FAMILIES[family] ?? 0), ...named])));
  }
  return head;
}

const value = (type: number, bytes: Buffer): Buffer => nested(type, attr(DATA_VALUE, bytes));

/** @param text as rules.ts has it. @throws Error for a set that only libnftables writes */
export function elementAttrs(spec: SetSpec, text: string): Buffer[] {
  const [key = '', data] = text.split(' : ');
  const attrs = [value(ELEMENT.KEY, concatenation(keyParts(spec), key, 0))];
  if (spec.interval) {
    // An interval of a single value is two elements, each an end of its own.
    if (spec.type.length === 1) throw new Error('intervals of one value are written by libnftables');
    attrs.push(value(ELEMENT.KEY_END, concatenation(keyParts(spec), key, 1)));
  }
  if (data === 'return')
    attrs.push(nested(ELEMENT.DATA, nested(DATA_VERDICT, be32Attr(VERDICT_CODE, NFT_RETURN >>> 0))));
  else if (data !== undefined)
    attrs.push(value(ELEMENT.DATA, concatenation((spec.data ?? []).map(inHostOrder), data, 0)));
  return attrs;
}

/** Bytes of a text's first and last value. */
type Ends = readonly [Buffer, Buffer];
type Part = (text: string) => Ends;

/** In a concatenation each part is padded to whole registers of four bytes. */
function concatenation(parts: readonly Part[], text: string, end: 0 | 1): Buffer {
  const texts = text.split(' . ');
  if (texts.length !== parts.length) throw new Error(`${text} has not ${parts.length} parts`);
  const all = parts.map((part, n) => part(texts[n] ?? '')[end]);
  return all.length === 1 && all[0] !== undefined ? all[0] : Buffer.concat(all.flatMap(padded));
}

const padded = (bytes: Buffer): Buffer[] => [bytes, Buffer.alloc(-bytes.length & 3)];

const same = (bytes: Buffer): Ends => [bytes, bytes];
const number = (text: string, size: number): Buffer =>
  Buffer.from(
    BigInt(text)
      .toString(16)
      .padStart(size * 2, '0'),
    'hex',
  );
const address: Part = (text) => {
  if (!text.includes('/')) return same(Buffer.from(IpAddress.parse(text).toBytes()));
  const { base, last } = IpNetwork.parse(text);
  return [Buffer.from(base.toBytes()), Buffer.from(last.toBytes())];
};

const between =
  (part: (text: string) => Buffer): Part =>
  (text) => {
    const [from = '', to = from] = text.split('-');
    return [part(from), part(to)];
  };

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17 };
const IFNAMSIZ = 16;

const PARTS: Readonly<Record<string, Part>> = {
  ifname: (text) => {
    const bytes = Buffer.alloc(IFNAMSIZ);
    bytes.write(text.slice(1, -1));
    return same(bytes);
  },
  ether_addr: (text) => same(Buffer.from(text.replaceAll(':', ''), 'hex')),
  ipv4_addr: address,
  ipv6_addr: address,
  inet_proto: between((text) => Buffer.of(PROTOCOLS[text] ?? Number(text))),
  inet_service: between((text) => number(text, 2)),
  mark: (text) => same(number(text, 4)),
  classid: (text) => same(number(classNumber(text), 4)),
};

/** What the kernel itself counts with: in the byte order of the host, but in network byte order where intervals are compared. */
function inHostOrder(type: string): Part {
  const part = partOf(type);
  if (endianness() === 'BE' || (type !== 'mark' && type !== 'classid')) return part;
  return (text) => same(Buffer.from(part(text)[0]).reverse());
}

const classNumber = (text: string): string => {
  const [high = '', low = ''] = text.split(':');
  return `0x${high}${low.padStart(4, '0')}`;
};

function partOf(type: string): Part {
  const part = PARTS[type];
  if (part === undefined) throw new Error(`elements of type ${type} are written by libnftables`);
  return part;
}

/** Raw bytes of a packet have the size that the set's expression names: `@th,96,24` is 24 bits. */
function keyParts({ type, typeOf = '', interval }: SetSpec): Part[] {
  const expressions = typeOf.split(' . ');
  return type.map((one, n) => {
    if (one !== 'integer') return interval ? partOf(one) : inHostOrder(one);
    const size = Number(expressions[n]?.split(',')[2]) / 8;
    return (text) => {
      const [from = '', to = from] = text.split('-');
      return [number(from, size), number(to, size)];
    };
  });
}
