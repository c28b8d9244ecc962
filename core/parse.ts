// Parses values in etcd, which any client may have written.
//
// JSON as Go reads it, checked by zod; every error names the field, the value and what is allowed.
import * as z from 'zod';

import { IpAddress, IpNetwork, parseInterface, parseMac } from './address.js';
import { messageOf } from './errors.js';

/** A value that cannot be read. The message names field, value and what is allowed. */
export class UnreadableError extends Error {
  override readonly name = 'UnreadableError';
}

/** The result of `read`; undefined if the value cannot be read. */
export function ifReadable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof UnreadableError) return undefined;
    throw error;
  }
}

/** Characters; larger values are no record of weft's or flannel's, and are not parsed. */
const MAX_VALUE_BYTES = 64 * 1024;

/**
 * Without a byte order mark at its beginning, as an editor on Windows leaves it in a file given to etcdctl. JSON has none,
 * and a parser may ignore it (RFC 8259 §8.1).
 */
export const withoutMark = (text: string): string => text.replace(/^\ufeff/, '');

/** @throws UnreadableError */
export function parseJsonObject(text: string, maxBytes = MAX_VALUE_BYTES): Record<string, unknown> {
  if (text.length > maxBytes) {
    throw new UnreadableError(`the value is ${text.length} characters long; at most ${maxBytes} are read`);
  }
  let value: unknown;
  try {
    value = JSON.parse(withoutMark(text));
  } catch (error) {
    throw new UnreadableError(`the value ${shown(text)} is not JSON: ${messageOf(error)}`);
  }
  if (!isObject(value)) throw new UnreadableError(`the value ${shown(text)} is not a JSON object`);
  return value;
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @throws UnreadableError for the first error found */
export function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue === undefined) throw new UnreadableError('the value does not have the right form');
  const field = issue.path.map(String).join('.');
  const found = issue.path.reduce<unknown>(
    (at, key) => (isObject(at) || Array.isArray(at) ? at[key as never] : undefined),
    value,
  );
  const name = field === '' ? 'the value' : field;
  if (issue.code === 'custom' && issue.params?.secret === true)
    throw new UnreadableError(`${name}: ${lower(issue.message)}`);
  throw new UnreadableError(
    found === undefined
      ? `${name} is missing; ${lower(issue.message)}`
      : `${name}: ${shown(found)}; ${lower(issue.message)}`,
  );
}

const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** Enough of a value to recognise it. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : asJson(value);
  const short = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return typeof value === 'string' ? JSON.stringify(short) : short;
}

function asJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // JSON.parse accepts deeper nesting than the recursion of JSON.stringify.
    return 'a value that is nested too deeply';
  }
}

/**
 * An object as Go's encoding/json reads it: field names match in any case (an exact one wins), null counts as absent, and
 * unknown fields are ignored.
 */
export function goObject<Shape extends z.ZodRawShape>(shape: Shape) {
  const names = new Map(Object.keys(shape).map((name) => [name.toLowerCase(), name]));
  return z.preprocess((value) => {
    if (!isObject(value)) return value;
    const canonical: Record<string, unknown> = {};
    for (const [key, field] of Object.entries(value)) {
      const name = names.get(key.toLowerCase());
      if (name === undefined || field === null) continue;
      if (name === key || !Object.hasOwn(value, name)) canonical[name] = field;
    }
    return canonical;
  }, z.object(shape));
}

const parsed = <T>(parse: (text: string) => T, expected: string): z.ZodType<T, string> =>
  z.string({ error: `expected ${expected}` }).transform((text, context) => {
    try {
      return parse(text);
    } catch {
      context.addIssue({ code: 'custom', message: `expected ${expected}` });
      return z.NEVER;
    }
  });

const family =
  <T extends { family: 4 | 6 }>(wanted: 4 | 6, parse: (text: string) => T) =>
  (text: string): T => {
    const value = parse(text);
    if (value.family !== wanted) throw new Error(`not IPv${wanted}`);
    return value;
  };

export const ip = parsed((text) => IpAddress.parse(text), 'an IP address');
export const ip4 = parsed(
  family(4, (text) => IpAddress.parse(text)),
  'an IPv4 address',
);
export const ip6 = parsed(
  family(6, (text) => IpAddress.parse(text)),
  'an IPv6 address',
);

/** Host bits may be set and are dropped, as Go's ParseCIDR does. */
const cidr = (text: string): IpNetwork => {
  const { address, length } = parseInterface(text);
  return IpNetwork.of(address, length);
};
export const cidr4 = parsed(family(4, cidr), 'an IPv4 prefix such as 10.100.0.0/16');
export const cidr6 = parsed(family(6, cidr), 'an IPv6 prefix such as fd42:100::/48');

/** Text of an address with its prefix length. */
export const interfaceText = parsed((text) => {
  parseInterface(text);
  return text;
}, 'an address with a prefix length');
export const prefixText = parsed(
  (text) => IpNetwork.parse(text).toString(),
  'a prefix such as 10.100.7.0/28',
);
export const mac = parsed((text) => parseMac(text), 'a unicast MAC address');

/** A key of Curve25519, or another of its length: 32 bytes as base64. */
const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;
export const publicKey = z.string({ error: 'expected a key' }).regex(KEY, {
  error: 'expected a key of 32 bytes as base64',
});
/** As publicKey; empty is absent, and no error shows it. */
export const secretKey = z.unknown().transform((value, context): string | undefined => {
  if (value === '' || value === undefined) return undefined;
  if (typeof value === 'string' && KEY.test(value)) return value;
  context.addIssue({
    code: 'custom',
    message: 'expected a key of 32 bytes as base64',
    params: { secret: true },
  });
  return z.NEVER;
});

export const text = z.string({ error: 'expected text' });
export const word = text.min(1, { error: 'expected text that is not empty' });
/** Linux: at most 15 characters, without / and white space (net/core/dev.c, dev_valid_name). */
export const linkName = z
  .string({ error: 'expected the name of a link' })
  .regex(/^(?!\.{1,2}$)[^\s/:]{1,15}$/, {
    error: 'expected the name of a link, at most 15 characters without / : and blanks',
  });
export const flag = z.boolean({ error: 'expected true or false' });
export const integer = (min: number, max: number) => {
  const error = `expected a whole number from ${min} to ${max}`;
  return z
    .number({ error })
    .refine((value) => Number.isInteger(value) && value >= min && value <= max, { error });
};
