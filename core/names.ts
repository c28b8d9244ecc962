// DNS names: validity, record types, and reverse names of addresses.
import { IpAddress } from './address.js';
import { invalidArgument } from './errors.js';

/** RFC 1035 §2.3.4: octets of a label. */
const MAX_LABEL = 63;
/** So that NAME.NETWORK.weft fits into the 255 octets of a name. */
const MAX_NAME = 128;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$/i;

/** Record types that can be looked up. */
export const RECORD_TYPES = ['A', 'AAAA', 'PTR', 'ANY', 'SOA', 'NS', 'CNAME', 'MX', 'TXT', 'SRV'] as const;
export type RecordType = (typeof RECORD_TYPES)[number];

/** In upper or lower case. @throws WeftError INVALID_ARGUMENT */
export function parseRecordType(text: string): RecordType {
  const found = RECORD_TYPES.find((type) => type === text.toUpperCase());
  if (found !== undefined) return found;
  throw invalidArgument(`type: "${text}" is not known`, `Give one of: ${RECORD_TYPES.join(', ')}.`);
}

/** Whether DNS can express it. Docker's grammar allows names that DNS cannot, such as `a..b`. */
export function isDnsName(name: string): boolean {
  return name.length <= MAX_NAME && name.split('.').every((label) => /^[^.]{1,63}$/.test(label));
}

/** Parses a user-defined name; returns it in lower case. @throws WeftError INVALID_ARGUMENT */
export function parseDnsName(text: string, field = 'name'): string {
  const labels = text.split('.');
  if (text.length > MAX_NAME || !labels.every((label) => label.length <= MAX_LABEL && LABEL.test(label))) {
    throw invalidArgument(
      `${field}: "${text}" is not a name that can be asked for`,
      `Use letters, digits, _ and -, in parts of at most ${MAX_LABEL} characters with dots between them, at most ${MAX_NAME} in all.`,
    );
  }
  return text.toLowerCase();
}

/** Parses the address of a user-defined name. @throws WeftError INVALID_ARGUMENT */
export function parseNameAddress(text: string): IpAddress {
  const ip = IpAddress.parse(text, 'ip');
  const multicast = ip.family === 4 ? ip.value >> 28n === 0xen : ip.value >> 120n === 0xffn;
  if (ip.value === 0n || multicast) {
    throw invalidArgument(
      `ip: ${text} is not the address of one host`,
      'Give the unicast address that the name resolves to.',
    );
  }
  return ip;
}

/**
 * The address of a name below in-addr.arpa or ip6.arpa (RFC 1035 §3.5, RFC 3596 §2.5); undefined for every other name, and for
 * the names of whole zones.
 * @param name in lower case, without the last dot
 */
export function addressOfReverseName(name: string): IpAddress | undefined {
  if (name.endsWith('.in-addr.arpa')) {
    const labels = name.slice(0, -'.in-addr.arpa'.length).split('.');
    return labels.length === 4 ? IpAddress.tryParse(labels.reverse().join('.')) : undefined;
  }
  if (!name.endsWith('.ip6.arpa')) return undefined;
  const digits = name.slice(0, -'.ip6.arpa'.length);
  if (!/^[0-9a-f](?:\.[0-9a-f]){31}$/.test(digits)) return undefined;
  return IpAddress.of(6, BigInt(`0x${digits.split('.').reverse().join('')}`));
}
