// Options of `docker network create`: --ipam-opt and -o.
//
// --ipam-opt is for addresses, -o for the network. Each is accepted with weft's prefix and without it; an unknown one is an
// error that lists the known ones.
import { parseAllowed } from '../../core/allowed-address.js';
import { invalidArgument } from '../../core/errors.js';
import { parseNetworkName } from '../../core/network.js';
import { parseBackend } from '../../daemon/backend.js';
import { didYouMean } from '../../daemon/suggest.js';
import { LABEL } from './protocol.js';

export interface IpamOptions {
  network?: string;
  hostPrefix?: number;
  hostPrefix6?: number;
  force?: boolean;
}

export interface NetworkOptions {
  network?: string;
  mtu?: number;
  vni?: number;
  port?: number;
  internal?: boolean;
  masquerade?: boolean;
  backend?: string;
  encrypted?: boolean;
  directRouting?: boolean;
  portSecurity?: boolean;
  directAccess?: boolean;
}

const IPAM = ['network', 'host-prefix', 'host-prefix6', 'force'] as const;
const NETWORK = [
  ...['network', 'mtu', 'vni', 'port', 'internal', 'masquerade'],
  ...['backend', 'encrypted', 'direct-routing', 'port-security', 'direct-access'],
] as const;

/** @throws WeftError INVALID_ARGUMENT */
export function parseIpamOptions(options: Readonly<Record<string, string>>): IpamOptions {
  const given = normal(options, IPAM, '--ipam-opt', NETWORK, '-o');
  return {
    ...pick(given, 'network', (text) => ({ network: parseNetworkName(text) })),
    ...pick(given, 'host-prefix', (text) => ({ hostPrefix: whole('host-prefix', text) })),
    ...pick(given, 'host-prefix6', (text) => ({ hostPrefix6: whole('host-prefix6', text) })),
    ...pick(given, 'force', (text) => ({ force: truth('force', text) })),
  };
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseNetworkOptions(options: unknown): NetworkOptions {
  const words: Record<string, string> = {};
  for (const [key, value] of Object.entries(typeof options === 'object' && options !== null ? options : {})) {
    // Docker's own key for the MTU, which works with every driver.
    words[key === LABEL.mtu ? 'weft.mtu' : key] = wordOf(key, value);
  }
  const given = normal(words, NETWORK, '-o', IPAM, '--ipam-opt');
  return {
    ...pick(given, 'network', (text) => ({ network: parseNetworkName(text) })),
    ...pick(given, 'mtu', (text) => ({ mtu: whole('mtu', text) })),
    ...pick(given, 'vni', (text) => ({ vni: whole('vni', text) })),
    ...pick(given, 'port', (text) => ({ port: whole('port', text) })),
    ...pick(given, 'internal', (text) => ({ internal: truth('internal', text) })),
    ...pick(given, 'masquerade', (text) => ({ masquerade: truth('masquerade', text) })),
    ...pick(given, 'backend', (text) => ({ backend: parseBackend(text) })),
    // Docker's own overlay takes the bare word, which arrives as an empty text.
    ...pick(given, 'encrypted', (text) => ({ encrypted: text === '' || truth('encrypted', text) })),
    ...pick(given, 'direct-routing', (text) => ({ directRouting: truth('direct-routing', text) })),
    ...pick(given, 'port-security', (text) => ({ portSecurity: onOff('port-security', text) })),
    ...pick(given, 'direct-access', (text) => ({ directAccess: onOff('direct-access', text) })),
  };
}

/** Docker sends strings; another client may send any JSON value. */
function wordOf(key: string, value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return `${value}`;
  throw invalidArgument(`option ${key}: its value is no string`, 'Write it as a string, such as "1400".');
}

function normal(
  options: Readonly<Record<string, string>>,
  known: readonly string[],
  flag: string,
  elsewhere: readonly string[],
  otherFlag: string,
): Map<string, string> {
  const given = new Map<string, string>();
  for (const [key, value] of Object.entries(options)) {
    const name = key.replace(/^weft\./, '');
    if (!known.includes(name)) {
      if (elsewhere.includes(name)) {
        throw invalidArgument(
          `option ${key} belongs to ${otherFlag}, not to ${flag}`,
          `Write ${otherFlag} weft.${name}=${value}.`,
        );
      }
      throw invalidArgument(
        `weft knows no option ${key} of ${flag}`,
        `${didYouMean(name, known, (word) => `weft.${word}`)} Known are ${known.map((word) => `weft.${word}`).join(', ')}.`.trim(),
      );
    }
    const before = given.get(name);
    if (before !== undefined && before !== value) {
      throw invalidArgument(
        `option weft.${name} is given twice, as ${before} and as ${value}`,
        'Leave one out.',
      );
    }
    given.set(name, value);
  }
  return given;
}

function pick<T extends object>(
  given: ReadonlyMap<string, string>,
  name: string,
  parse: (text: string) => T,
): T | object {
  const text = given.get(name);
  return text === undefined ? {} : parse(text);
}

function whole(name: string, text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw invalidArgument(`option weft.${name}: "${text}" is not a whole number`);
}

function truth(name: string, text: string): boolean {
  // As Go's strconv.ParseBool, which reads every other option of Docker's.
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw invalidArgument(`option weft.${name}: "${text}" is neither true nor false`);
}

/** As `weft network create` takes it, or as Docker's own options are. */
const onOff = (name: string, text: string): boolean => text === 'on' || (text !== 'off' && truth(name, text));

const ALLOWED_ADDRESS = 'weft.allowed-address';

/** --driver-opt of an endpoint: prefixes, separated by commas. @throws WeftError INVALID_ARGUMENT */
export function parseAllowedAddresses(options: Readonly<Record<string, unknown>>): string[] | undefined {
  const text = options[ALLOWED_ADDRESS];
  return text === undefined ? undefined : parseAllowed(wordOf(ALLOWED_ADDRESS, text).split(','));
}
