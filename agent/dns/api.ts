// Handlers of `weft dns`: add, remove, list, look up.
//
// Adding and removing writes to etcd; listing and lookup use what this node answers its containers with.
import { decode } from 'dns-packet';

import { IpAddress } from '../../core/address.js';
import { failedPrecondition, invalidArgument, notFound } from '../../core/errors.js';
import { parseDnsName, parseNameAddress, parseRecordType, type RecordType } from '../../core/names.js';
import { parseNetworkName } from '../../core/network.js';
import type { Endpoint } from '../../core/records.js';
import type {
  AddNameRequest,
  ListNamesRequest,
  ListNamesResponse,
  LookupNameRequest,
  LookupNameResponse,
  Name,
  NameAnswer,
  RemoveNameRequest,
  RemoveNameResponse,
} from '../../proto/gen/weft/v1/agent.js';
import { unknownName } from '../../daemon/unknown.js';
import type { Store } from '../../store/store.js';
import { notServed, unservedConfig } from '../../store/unserved.js';
import { lookThrough } from '../networks/index.js';
import { canonicalForms } from '../targets/index.js';
import { addressesOf, meaningOf } from './answer.js';
import type { Dns } from './dns.js';
import { rcodeOf, RCODE, TYPE, type Question } from './message.js';
import { ownNameEntry, type Entry } from './names.js';
import { DOMAIN } from './resolv-conf.js';
import { ownAnswer } from './responder.js';

export interface NameApi {
  add: (request: AddNameRequest) => Promise<Name>;
  remove: (request: RemoveNameRequest) => Promise<RemoveNameResponse>;
  list: (request: ListNamesRequest) => Promise<ListNamesResponse>;
  lookup: (request: LookupNameRequest) => Promise<LookupNameResponse>;
}

export interface NameApiOptions {
  dns: Dns;
  store: Store;
  /** The networks of this node. */
  networks: () => readonly string[];
}

const TYPES: Readonly<Record<RecordType, number>> = {
  ...{ A: TYPE.A, AAAA: TYPE.AAAA, PTR: TYPE.PTR, ANY: TYPE.ANY, SOA: TYPE.SOA, NS: TYPE.NS },
  ...{ CNAME: 5, MX: 15, TXT: 16, SRV: 33 },
};

export function nameApi(options: NameApiOptions): NameApi {
  const { dns, store } = options;
  return {
    add: async ({ name, ips, network }) => {
      if (ips.length === 0) throw invalidArgument('ip: not given', 'Give at least one address.');
      const request = { name: parseDnsName(name), ips: ips.map(parseNameAddress) };
      const made = await store.addName({ ...request, network: networkFor(options, network) });
      return nameOf(dns, ownNameEntry(made), made.name);
    },
    remove: async ({ name, ips, network }) => {
      const request = { name: parseDnsName(name), ips: ips.map(parseNameAddress) };
      const where = network === '' ? await networkOfName(options, request.name) : parseNetworkName(network);
      await store.removeName({ ...request, network: where });
      return { network: where };
    },
    list: async ({ network }) => {
      if (network !== '') requireNetwork(store, parseNetworkName(network));
      const own = options.networks();
      const wanted = network === '' ? own : [network];
      const names = (): Name[] =>
        [...dns.table.entries()]
          .filter(([, entry]) => wanted.includes(entry.network))
          .flatMap(([, entry]) => entry.names.map((name) => nameOf(dns, entry, name)));
      const found = wanted.every((one) => own.includes(one))
        ? names()
        : await lookThrough(store, wanted, names);
      return { names: (found ?? []).toSorted(byName) };
    },
    lookup: (request) => lookup(options, request),
  };
}

function nameOf(dns: Dns, entry: Entry, name: string): Name {
  const { network, addresses, origin } = entry;
  const common = { name, network, addresses: addresses.map(String) };
  if (origin.kind === 'own') {
    return { ...common, kind: 'own', endpoint: undefined, node: undefined, target: undefined, state: 'up' };
  }
  const { id: endpoint, node, target } = origin;
  const health = dns.world.healthOf(node);
  const state = health === 'silent' ? 'down' : health;
  const kind = name === entry.name.toLowerCase() ? 'endpoint' : 'alias';
  return { ...common, kind, endpoint, node, target, state };
}

const byName = (a: Name, b: Name): number =>
  compare(a.network, b.network) || compare(a.name, b.name) || compare(a.endpoint ?? '', b.endpoint ?? '');
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** @throws WeftError NOT_FOUND, FAILED_PRECONDITION */
function networkFor({ store }: NameApiOptions, asked: string): string {
  if (asked !== '') return requireNetwork(store, parseNetworkName(asked));
  const all = [...store.view.networks.keys()].sort();
  if (all.length === 1 && all[0] !== undefined) return all[0];
  if (all.length === 0)
    throw failedPrecondition('there is no network to give a name in', 'Make one with `weft network create`.');
  throw failedPrecondition(
    `network: there are several (${all.join(', ')}), and a name belongs to one`,
    'Name it with --network.',
  );
}

function requireNetwork(store: Store, name: string): string {
  if (store.view.networks.has(name)) return name;
  const bad = unservedConfig(store.view, name);
  throw bad === undefined ? unknownName('network', name, store.view.networks.keys()) : notServed(name, bad);
}

/** The only network with this name added by hand. */
async function networkOfName({ store }: NameApiOptions, name: string): Promise<string> {
  const having: string[] = [];
  await lookThrough(store, store.view.networks.keys(), (network) => {
    if (store.view.names.get(network)?.has(name) === true) having.push(network);
  });
  if (having.length === 1 && having[0] !== undefined) return having[0];
  if (having.length > 1)
    throw failedPrecondition(
      `network: ${having.sort().join(' and ')} have a name ${name}`,
      'Choose one with --network.',
    );
  throw notFound(`no network has an added name ${name}`, 'See `weft dns ls`.');
}

async function lookup(options: NameApiOptions, request: LookupNameRequest): Promise<LookupNameResponse> {
  const { dns } = options;
  const { name, types } = whatToAsk(request);
  const from = request.from === '' ? undefined : attached(dns, request.from);
  const networks = from === undefined ? [...options.networks()] : dns.networksOf(from);
  const answers: NameAnswer[] = [];
  let status = 'NXDOMAIN';
  let source = '';
  for (const one of await Promise.all(types.map((type) => lookupType(options, name, type, networks)))) {
    answers.push(...one.answers);
    // Of two types of the same name, prefer the one with an answer.
    if (source === '' || one.answers.length > 0) ({ status, source } = one);
  }
  const other = answers.length === 0 ? await networkBeside(options, name, types, networks) : undefined;
  if (other !== undefined) source += `; network ${other} has that name, and the client is not on it`;
  return { name, status, answers, networks, source };
}

/** A network that has the name, but not for this client. */
async function networkBeside(
  { dns, store }: NameApiOptions,
  name: string,
  types: readonly number[],
  networks: readonly string[],
): Promise<string | undefined> {
  if (!store.state.connected) return undefined;
  const others = [...store.view.networks.keys()].filter((network) => !networks.includes(network)).sort();
  const found = lookThrough(store, others, (network) =>
    types
      .map((type) => meaningOf(dns.world, name, type, [network]))
      .find((one) => one.kind === 'addresses') === undefined
      ? undefined
      : network,
  );
  // It is a hint: the answer stands without it.
  return await found.catch(() => undefined);
}

/** @throws WeftError INVALID_ARGUMENT */
function whatToAsk({ name, type }: LookupNameRequest): { name: string; types: number[] } {
  const ip = IpAddress.tryParse(name);
  if (ip !== undefined) return { name: reverseName(ip), types: [TYPE.PTR] };
  const asked = name.replace(/\.$/, '').toLowerCase();
  const labels = asked.split('.');
  if (asked.length > 253 || labels.some((label) => !/^[\x21-\x7e]{1,63}$/.test(label))) {
    throw invalidArgument(
      `name: "${name}" is not a name that can be asked for`,
      'Its parts have 1 to 63 characters, with dots between them.',
    );
  }
  if (type === '') return { name: asked, types: [TYPE.A, TYPE.AAAA] };
  return { name: asked, types: [TYPES[parseRecordType(type)]] };
}

function reverseName(ip: IpAddress): string {
  const bytes = [...ip.toBytes()];
  if (ip.family === 4) return `${bytes.reverse().join('.')}.in-addr.arpa`;
  const digits = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${digits.split('').reverse().join('.')}.ip6.arpa`;
}

/** @throws WeftError NOT_FOUND */
function attached(dns: Dns, target: string): Endpoint {
  const forms = canonicalForms(target);
  const found = dns.ownEndpoints().find((one) => forms.includes(one.target));
  if (found !== undefined) return found;
  throw notFound(`${target} is not attached to any network on this node`, 'See `weft endpoint ls`.');
}

async function lookupType(
  { dns }: NameApiOptions,
  name: string,
  type: number,
  networks: readonly string[],
): Promise<{ status: string; answers: NameAnswer[]; source: string }> {
  const meaning = meaningOf(dns.world, name, type, networks);
  if (meaning.kind === 'forward') {
    const { response, server, result } = await dns.upstream.forward(questionOf(name, type), 'tcp', false);
    const where = result === 'cached' ? `cached from ${server ?? ''}` : `answered by ${server ?? ''}`;
    const noAnswer =
      dns.upstream.serversFor(name).length === 0
        ? 'not a name of weft’s, and there is no other name server'
        : 'not a name of weft’s, and no other name server answered';
    return { ...read(response), source: result === 'failed' ? noAnswer : `not a name of weft’s: ${where}` };
  }
  const { answer } = ownAnswer({ name, type }, meaning);
  const status = statusText(answer.rcode);
  switch (meaning.kind) {
    case 'unknown':
      return { status, answers: [], source: `weft: ${meaning.why}` };
    case 'empty':
      return {
        status,
        answers: [],
        source: 'weft: the name exists, without records of the queried type',
      };
    case 'names':
      return {
        status,
        answers: meaning.names.map((data) => ({ type: 'PTR', data, ttl: 0, whose: '' })),
        source: 'weft: an address on a network of the client',
      };
    case 'addresses': {
      const { addresses } = addressesOf(meaning, type);
      return {
        status,
        answers: addresses.map((ip) => ({
          type: ip.family === 4 ? 'A' : 'AAAA',
          data: ip.toString(),
          ttl: 0,
          whose: whose(dns, meaning.entries, ip),
        })),
        source: `weft: a name of network ${meaning.network}`,
      };
    }
  }
}

function whose(dns: Dns, entries: readonly Entry[], ip: IpAddress): string {
  const entry = entries.find(({ addresses }) => addresses.some((one) => one.equals(ip)));
  if (entry === undefined) return '';
  const { origin } = entry;
  if (origin.kind === 'own') return `${entry.name}.${entry.network}.${DOMAIN}, added by hand`;
  const down = dns.world.healthOf(origin.node) === 'up' ? '' : ' (down)';
  return `${entry.name} of ${entry.network}, ${origin.target} on ${origin.node}${down}`;
}

function questionOf(name: string, type: number): Question {
  const labels = name
    .split('.')
    .flatMap((label) => [Buffer.from([label.length]), Buffer.from(label, 'latin1')]);
  const bytes = Buffer.concat([...labels, Buffer.from([0, type >> 8, type & 0xff, 0, 1])]);
  return { id: 0, flags: 0x0100, bytes, name, type, edns: { udpBytes: 1232, dnssecOk: false } };
}

function read(response: Buffer): { status: string; answers: NameAnswer[] } {
  const status = statusText(rcodeOf(response));
  try {
    const { answers = [] } = decode(response);
    return {
      status,
      answers: answers.flatMap((one) =>
        one.type === 'OPT'
          ? []
          : [{ type: one.type, data: shown(one.data), ttl: 'ttl' in one ? (one.ttl ?? 0) : 0, whose: '' }],
      ),
    };
  } catch {
    return { status, answers: [] };
  }
}

function shown(data: unknown): string {
  if (typeof data === 'string') return data;
  if (Buffer.isBuffer(data)) return data.toString('latin1');
  if (Array.isArray(data)) return data.map(shown).join(' ');
  return JSON.stringify(data) ?? '';
}

const statusText = (rcode: number): string =>
  Object.entries(RCODE).find(([, code]) => code === rcode)?.[0] ?? `code ${rcode}`;
