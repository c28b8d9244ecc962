// Published ports: parsing `--publish`, formatting, and conflicts.
//
// The command line, the services and the agent share one syntax: [HOSTIP:][HOSTPORT]:PORT[/udp], PORT alone, ranges, IPv6
// addresses in brackets.
import { IpAddress, type Family } from './address.js';
import { invalidArgument } from './errors.js';
import type { PublishedPort } from './records.js';

export type Protocol = PublishedPort['protocol'];

/** Every address of the node, as in the records; a user's `0.0.0.0` means the same. */
export const ANY_HOST_IP = '0.0.0.0';
/** Every IPv6 address of the node, and no IPv4 one. */
export const ANY_HOST_IP6 = '::';

/** One requested port. */
export interface PublishRequest {
  hostIp: string;
  /** First and last of the acceptable host ports; absent: any free one is chosen. */
  hostPorts?: { first: number; last: number };
  /** The container's port. */
  port: number;
  protocol: Protocol;
}

/** Range of ports chosen where none is given: seldom used by the kernel (from 32768) and by people (below). */
export const CHOSEN_PORTS = { first: 49_153, last: 65_535 } as const;

/** Limit for one endpoint: its record stays well below etcd's limit (1.5 MiB). */
export const MAX_PORTS = 8192;

const SHAPE =
  'Write it as [HOSTIP:]HOSTPORT:PORT[/udp], such as 8080:80, 127.0.0.1:5353:53/udp or 8000-8010:80-90.';
const LAST_PORT = 65_535;

/**
 * Parses one `--publish`; a range yields as many ports.
 * @throws WeftError INVALID_ARGUMENT that names the text, the invalid part and what is allowed
 */
export function parsePublish(text: string): PublishRequest[] {
  const { words, protocol } = split(text, 'publish');
  const { hostIp, rest } = hostIpOf(text, words, 'publish');
  if (rest.length > 2) throw malformed(text, 'publish');
  const [left, right] = rest.length === 1 ? ['', rest[0] ?? ''] : rest;
  const ports = parseRange(text, right ?? '', 'the container’s port', 'publish');
  const count = ports.last - ports.first + 1;
  if (left === undefined || left === '') return requests(hostIp, undefined, ports, protocol);
  const hostPorts = parseRange(text, left, 'the host’s port', 'publish');
  // As in Docker: one port of the container, and any one of these of the host.
  if (count === 1) return [{ hostIp, hostPorts, port: ports.first, protocol }];
  const hostCount = hostPorts.last - hostPorts.first + 1;
  if (hostCount !== count) {
    throw invalidArgument(
      `publish: "${text}" has ${hostCount} of the host’s ports for ${count} of the container’s`,
      'Give ranges of the same length, such as 8000-8010:80-90.',
    );
  }
  return requests(hostIp, hostPorts, ports, protocol);
}

function requests(
  hostIp: string,
  hostPorts: { first: number; last: number } | undefined,
  ports: { first: number; last: number },
  protocol: Protocol,
): PublishRequest[] {
  return Array.from({ length: ports.last - ports.first + 1 }, (_, i) => ({
    hostIp,
    ...(hostPorts === undefined
      ? {}
      : { hostPorts: { first: hostPorts.first + i, last: hostPorts.first + i } }),
    port: ports.first + i,
    protocol,
  }));
}

/** Published ports to close; an absent field matches any. */
export interface PublishedFilter {
  hostIp?: string;
  hostPorts?: { first: number; last: number };
  ports?: { first: number; last: number };
  protocol?: Protocol;
}

/**
 * Parses the arguments of `weft port rm`: HOSTPORT[/udp], a range of them, or the words that published it.
 * @throws WeftError INVALID_ARGUMENT
 */
export function parsePublishedFilter(text: string): PublishedFilter {
  const { words, protocol } = split(text, 'port', undefined);
  const named = words.length > 1 && looksLikeIp(words[0] ?? '');
  const { hostIp, rest } = named ? hostIpOf(text, words, 'port') : { hostIp: undefined, rest: words };
  const [host = '', port] = rest;
  if (rest.length > 2) throw malformed(text, 'port');
  return {
    ...(hostIp === undefined ? {} : { hostIp }),
    ...(host === '' ? {} : { hostPorts: parseRange(text, host, 'the host’s port', 'port') }),
    ...(port === undefined ? {} : { ports: parseRange(text, port, 'the container’s port', 'port') }),
    ...(protocol === undefined ? {} : { protocol }),
  };
}

export const matchesFilter = (published: PublishedPort, filter: PublishedFilter): boolean =>
  (filter.hostIp === undefined || filter.hostIp === published.hostIp) &&
  within(published.hostPort, filter.hostPorts) &&
  within(published.port, filter.ports) &&
  // As in publishing: tcp is the default.
  (filter.protocol ?? 'tcp') === published.protocol;

const within = (port: number, range: { first: number; last: number } | undefined): boolean =>
  range === undefined || (port >= range.first && port <= range.last);

/** Whether an existing published port satisfies the request. */
export const satisfies = (published: PublishedPort, request: PublishRequest, ingress: boolean): boolean =>
  published.hostIp === request.hostIp &&
  published.port === request.port &&
  published.protocol === request.protocol &&
  published.everywhere === ingress &&
  within(published.hostPort, request.hostPorts);

function split(text: string, field: string): { words: string[]; protocol: Protocol };
function split(
  text: string,
  field: string,
  otherwise: undefined,
): { words: string[]; protocol: Protocol | undefined };
function split(
  text: string,
  field: string,
  ...otherwise: [undefined?]
): { words: string[]; protocol: Protocol | undefined } {
  const [body = '', protocol, ...more] = text.split('/');
  if (more.length > 0 || body === '') throw malformed(text, field);
  const lower = protocol?.toLowerCase();
  if (lower !== undefined && lower !== 'tcp' && lower !== 'udp') {
    throw invalidArgument(`${field}: "${text}": protocol "${protocol}" is not served`, 'Give /tcp or /udp.');
  }
  const words: string[] = [];
  // Colons inside brackets are the address's own.
  for (let rest = body; ;) {
    const match = /^(\[[^\]]*\]|[^:[\]]*)(?::|$)/.exec(rest);
    if (match === null) throw malformed(text, field);
    words.push(match[1] ?? '');
    if (match[0].length === rest.length && !rest.endsWith(':')) break;
    if (match[0].length === rest.length) {
      words.push('');
      break;
    }
    rest = rest.slice(match[0].length);
  }
  return { words, protocol: lower ?? (otherwise.length > 0 ? undefined : 'tcp') };
}

const looksLikeIp = (word: string): boolean => word.startsWith('[') || word.includes('.');

function hostIpOf(text: string, words: readonly string[], field: string): { hostIp: string; rest: string[] } {
  const [first = '', ...rest] = words;
  const named = looksLikeIp(first) || words.length === 3;
  if (!named) return { hostIp: ANY_HOST_IP, rest: [...words] };
  // ":8080:80" and "127.0.0.1:80" are easily written by mistake.
  if (rest.length < 2 && field === 'publish') {
    throw invalidArgument(
      `${field}: "${text}" has an address of the host, but not both ports`,
      `Write ${first}:HOSTPORT:PORT, or ${first}::PORT where any port of the host will do.`,
    );
  }
  const bracketed = first.startsWith('[');
  const ip = IpAddress.tryParse(bracketed ? first.slice(1, -1) : first);
  if (ip === undefined || bracketed !== (ip.family === 6)) {
    throw invalidArgument(
      `${field}: "${text}": "${first}" is not an address of a host`,
      'Write an IPv4 address, or an IPv6 address in brackets.',
    );
  }
  const why = unusable(ip);
  if (why !== undefined)
    throw invalidArgument(`${field}: "${text}": ${why}`, 'Choose an address of this host.');
  return { hostIp: ip.toString(), rest };
}

function unusable(ip: IpAddress): string | undefined {
  // There is no route_localnet for IPv6: the kernel forwards nothing from or to ::1.
  if (ip.family === 6 && ip.value === 1n) return '::1 cannot lead to a container; 127.0.0.1 can';
  if (ip.family === 6 && ip.value >> 118n === 0x3fan) return `${ip.toString()} is link-local`;
  const multicast = ip.family === 4 ? ip.value >> 28n === 0xen : ip.value >> 120n === 0xffn;
  return multicast ? `${ip.toString()} is a multicast address` : undefined;
}

function parseRange(
  text: string,
  word: string,
  what: string,
  field: string,
): { first: number; last: number } {
  const match = /^(\d+)(?:-(\d+))?$/.exec(word);
  if (match === null) throw malformed(text, field);
  const first = Number(match[1]);
  const last = match[2] === undefined ? first : Number(match[2]);
  for (const port of [first, last]) {
    if (port < 1 || port > LAST_PORT) {
      throw invalidArgument(
        `${field}: "${text}": ${what} ${port} is out of range`,
        `Ports are 1 to ${LAST_PORT}.`,
      );
    }
  }
  if (last < first) {
    throw invalidArgument(`${field}: "${text}": the range ${word} ends before it begins`, SHAPE);
  }
  return { first, last };
}

const malformed = (text: string, field: string): Error =>
  invalidArgument(`${field}: "${text}" is not a port to publish`, SHAPE);

/** As it was written, or could have been. */
export function formatPublished({ hostIp, hostPort, port, protocol }: PublishedPort): string {
  return `${formatHostPort({ hostIp, hostPort })}:${port}/${protocol}`;
}

/** 8080, 127.0.0.1:8080, [2001:db8::1]:8080 */
export function formatHostPort({ hostIp, hostPort }: Pick<PublishedPort, 'hostIp' | 'hostPort'>): string {
  if (hostIp === ANY_HOST_IP) return `${hostPort}`;
  return hostIp.includes(':') ? `[${hostIp}]:${hostPort}` : `${hostIp}:${hostPort}`;
}

/** The families that a port is open in, for a container with addresses of these. */
export function familiesOf(hostIp: string, container: readonly Family[]): Family[] {
  if (hostIp === ANY_HOST_IP) return [...container];
  const family = hostIp.includes(':') ? 6 : 4;
  return container.filter((one) => one === family);
}

/** Whether two published ports need the same host port. */
export function clashes(
  a: Pick<PublishedPort, 'hostIp' | 'hostPort' | 'protocol'>,
  b: Pick<PublishedPort, 'hostIp' | 'hostPort' | 'protocol'>,
): boolean {
  if (a.hostPort !== b.hostPort || a.protocol !== b.protocol) return false;
  if (a.hostIp === b.hostIp || a.hostIp === ANY_HOST_IP || b.hostIp === ANY_HOST_IP) return true;
  const [six, other] = a.hostIp === ANY_HOST_IP6 ? [a, b] : [b, a];
  return six.hostIp === ANY_HOST_IP6 && other.hostIp.includes(':');
}
