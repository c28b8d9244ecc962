// Prefixes of both families as ranges of numbers.
export interface Range {
  from: bigint;
  size: bigint;
}

/** @returns undefined for what is no prefix; an address alone is one of its whole length */
export function rangeOf(text: string): Range | undefined {
  const [address = '', length] = text.split('/');
  const bits = address.includes(':') ? 128 : 32;
  const value = bits === 128 ? parse6(address) : parse4(address);
  const prefix = length === undefined ? bits : Number(length);
  if (value === undefined || !Number.isInteger(prefix) || prefix < 0 || prefix > bits) return undefined;
  const size = 1n << BigInt(bits - prefix);
  return { from: value - (value % size), size };
}

function parse4(text: string): bigint | undefined {
  const parts = text.split('.').map(Number);
  if (parts.length !== 4 || !parts.every((it) => Number.isInteger(it) && it >= 0 && it < 256))
    return undefined;
  return parts.reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

// The services write addresses in the form of RFC 5952: no IPv4 at the end, at most one ::.
function parse6(text: string): bigint | undefined {
  const [head = '', tail, ...more] = text.split('::');
  if (more.length > 0) return undefined;
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const first = groups(head);
  const last = groups(tail ?? '');
  const missing = 8 - first.length - last.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const all = [...first, ...Array.from({ length: missing }, () => '0'), ...last];
  if (!all.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return all.reduce((sum, group) => sum * 65_536n + BigInt(`0x${group}`), 0n);
}

export const contains = (outer: Range, inner: Range): boolean =>
  inner.from >= outer.from && inner.from + inner.size <= outer.from + outer.size;

export const overlaps = (a: Range, b: Range): boolean => a.from < b.from + b.size && b.from < a.from + a.size;

/** Part of a whole, 0 to 1. */
export const share = (part: bigint, whole: bigint): number => Number((part * 1_000_000n) / whole) / 1_000_000;
