// The state directory: the node's identity, networks, endpoints and reservations.
//
// They survive a restart of the agent. A torn file costs only its own record (daemon/record-folder.ts).
//
//   instance                 the instance id
//   networks/NETWORK.json    config, lease and granted claims, as records; the config also as etcd had it
//   endpoints/ID.json        one endpoint
//   underlay                 the addresses that other nodes were told last
//   other-networks           names of networks with many containers that this node was not on
//   policies                 the policies that were in force last
//   control                  HOST:PORT of controllers and etcd, as a controller said last
//   reservations/ID.json     one address that is reserved for a future container
//   former-subnets/…         the subnets that this node had of networks that it left, by the network's prefix
//   wireguard/key            the private key of encrypted networks (wireguard-keys.ts)
import { randomUUID } from 'node:crypto';
import fs, { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { IpAddress, type IpNetwork } from '../../core/address.js';
import { isName } from '../../core/network.js';
import { ifReadable } from '../../core/parse.js';
import type { Policy } from '../../core/policy/index.js';
import type { Endpoint } from '../../core/records.js';
import { errnoOf } from '../../daemon/errno.js';
import type { Reservation } from '../../daemon/plugin-host.js';
import { type FileOptions, RecordFolder, RecordTable, type TornRecord } from '../../daemon/record-folder.js';
import { type FileCalls, replaceFile, stateError } from '../../daemon/state-file.js';
import { encodeConfig } from '../../store/network-codec.js';
import { decodePolicy, encodePolicy, writeManager } from '../../store/record-codec.js';
import { encodeLeaseFields } from './lease-fields.js';
import {
  savedEndpoint,
  savedFormerSubnet,
  savedNetwork,
  savedReservation,
  type FormerSubnet,
  type SavedNetwork,
} from './records.js';
import { WireguardKeys } from './wireguard-keys.js';

/** Its id is the network's name or the endpoint's id. */
export interface TornFile extends TornRecord {
  kind: 'network' | 'endpoint' | 'reservation' | 'former subnet' | 'instance';
}

export interface Loaded {
  instance: string;
  /** The directory was empty: this node is new. */
  fresh: boolean;
  networks: SavedNetwork[];
  endpoints: Endpoint[];
  reservations: Reservation[];
  policies: Policy[];
  /** Names of networks with many containers that this node was not on. */
  otherNetworks: string[];
  torn: TornFile[];
}

/** Everything that this class has in the state directory. */
export const STATE_FILES = [
  'networks',
  'endpoints',
  'underlay',
  'control',
  'policies',
  'other-networks',
  'reservations',
  'former-subnets',
  'wireguard',
  'instance',
] as const;

const pathIn = (directory: string, name: (typeof STATE_FILES)[number]): string => join(directory, name);

/** Beyond it the oldest are forgotten. */
const MAX_FORMER_SUBNETS = 256;

export class State {
  readonly #calls: FileCalls;
  readonly #networks: RecordFolder<SavedNetwork>;
  readonly #endpoints: RecordFolder<Endpoint>;
  readonly #reservations: RecordFolder<Reservation>;
  readonly keys: WireguardKeys;
  readonly #formerSubnets: RecordTable<FormerSubnet>;

  constructor(
    private readonly directory: string,
    private readonly options: FileOptions = {},
  ) {
    this.#calls = options.calls ?? fs;
    this.keys = new WireguardKeys(directory, options);
    this.#networks = new RecordFolder({
      folder: pathIn(directory, 'networks'),
      parse: savedNetwork,
      nameOf: ({ network }) => network.name,
      encode: (saved) => ({
        ...saved,
        lease: encodeLeaseFields(saved.lease),
        config: encodeConfig(saved.network),
      }),
      // If the node forgot its subnet, the subnet could be allocated twice.
      durable: true,
      ...options,
    });
    this.#endpoints = new RecordFolder({
      folder: pathIn(directory, 'endpoints'),
      parse: savedEndpoint,
      nameOf: ({ id }) => id,
      encode: writeManager,
      // Not durable: its namespace does not outlive a power cut either, and attaching is the hot path.
      durable: false,
      ...options,
    });
    this.#reservations = new RecordFolder({
      folder: pathIn(directory, 'reservations'),
      parse: savedReservation,
      nameOf: ({ id }) => id,
      // Docker restarts its containers after a power cut, with the addresses that it got from weft.
      durable: true,
      ...options,
    });
    this.#formerSubnets = new RecordTable({
      folder: pathIn(directory, 'former-subnets'),
      parse: savedFormerSubnet,
      nameOf: ({ whole }) => fileNameOf(whole),
      encode: ({ whole, subnet, at }) => ({ whole: whole.toString(), subnet: subnet.toString(), at }),
      // Not durable: without it a network has another gateway than before, once.
      durable: false,
      ...options,
    });
  }

  /** Read only, an instance id that is missing is made up. @throws WeftError FAILED_PRECONDITION where it cannot be used */
  load(): Loaded {
    const torn: TornFile[] = [];
    const networks = read('network', this.#networks, torn);
    const endpoints = read('endpoint', this.#endpoints, torn);
    const reservations = read('reservation', this.#reservations, torn);
    this.#formerSubnets.create();
    torn.push(...this.#formerSubnets.load().map((file) => ({ ...file, kind: 'former subnet' as const })));
    const { instance, fresh } = this.#instance(torn);
    const otherNetworks = this.#otherNetworks();
    const policies = this.#policies();
    return { instance, fresh, networks, endpoints, reservations, policies, otherNetworks, torn };
  }

  #instance(torn: TornFile[]): { instance: string; fresh: boolean } {
    const path = pathIn(this.directory, 'instance');
    try {
      const known = instanceIn(this.directory);
      if (known !== undefined) return { instance: known, fresh: false };
      if (this.options.readOnly === true) return { instance: randomUUID(), fresh: true };
      if (this.#putAside(path)) {
        torn.push({ kind: 'instance', id: 'instance', path: `${path}.torn`, why: 'it holds no instance id' });
      }
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      const instance = randomUUID();
      // Durable: with another id the node would not own its subnets in etcd.
      replaceFile(path, `${instance}\n`, { sync: true, calls: this.#calls });
      return { instance, fresh: true };
    } catch (error) {
      throw stateError(`the state file ${path} cannot be used`, error);
    }
  }

  #putAside(path: string): boolean {
    try {
      this.#calls.renameSync(path, `${path}.torn`);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  /** The underlay addresses of the last run, as far as they can be read. */
  underlay(): { ip?: IpAddress; ip6?: IpAddress } {
    const found = wordsOf(pathIn(this.directory, 'underlay')).map((word) => IpAddress.tryParse(word));
    const [ip, ip6] = ([4, 6] as const).map((family) => found.find((it) => it?.family === family));
    return { ...(ip === undefined ? {} : { ip }), ...(ip6 === undefined ? {} : { ip6 }) };
  }

  /** HOST:PORT of controllers and etcd, as far as they can be read. */
  control(): string[] {
    return wordsOf(pathIn(this.directory, 'control')).filter((word) => word !== '');
  }

  /** @throws Error of the system call that failed */
  saveControl(addresses: readonly string[]): void {
    const path = pathIn(this.directory, 'control');
    const text = addresses.map((one) => `${one}\n`).join('');
    if ((textOf(path) ?? '') !== text) replaceFile(path, text, { sync: false, calls: this.#calls });
  }

  /** As far as they can be read: etcd has them, and comes before. */
  #policies(): Policy[] {
    return (readText(pathIn(this.directory, 'policies')) ?? '').split('\n').flatMap((line) => {
      const [name = '', value = ''] = line.split('\t');
      const policy = line === '' ? undefined : ifReadable(() => decodePolicy(name, value));
      return policy ?? [];
    });
  }

  /** @throws Error of the system call that failed */
  savePolicies(policies: readonly Policy[]): void {
    if (this.options.readOnly === true) return;
    const text = policies.map((policy) => `${policy.name}\t${encodePolicy(policy)}\n`).join('');
    // Durable: after a power cut no container is to start without its policies.
    replaceFile(pathIn(this.directory, 'policies'), text, { sync: true, calls: this.#calls });
  }

  #otherNetworks(): string[] {
    return (readText(pathIn(this.directory, 'other-networks')) ?? '').split('\n').filter(isName);
  }

  /** @throws Error of the system call that failed */
  saveOtherNetworks(networks: readonly string[]): void {
    const path = pathIn(this.directory, 'other-networks');
    const text = networks.map((name) => `${name}\n`).join('');
    if ((textOf(path) ?? '') !== text) replaceFile(path, text, { sync: false, calls: this.#calls });
  }

  /** @throws Error of the system call that failed */
  saveUnderlay({ ip, ip6 }: { ip?: IpAddress; ip6?: IpAddress }): void {
    const path = pathIn(this.directory, 'underlay');
    const text = `${[ip, ip6].filter((it) => it !== undefined).join('\n')}\n`;
    if (textOf(path) !== text) replaceFile(path, text, { sync: true, calls: this.#calls });
  }

  /** This and all below: @throws WeftError FAILED_PRECONDITION where the directory cannot be written to */
  saveNetwork(saved: SavedNetwork): void {
    this.#networks.put(saved);
  }

  deleteNetwork(name: string): void {
    this.#networks.delete(name);
  }

  saveEndpoint(endpoint: Endpoint): void {
    this.#endpoints.put(endpoint);
  }

  deleteEndpoint(id: string): void {
    this.#endpoints.delete(id);
    this.#endpoints.deleteTorn(id);
  }

  saveReservation(reservation: Reservation): void {
    this.#reservations.put(reservation);
  }

  deleteReservation(id: string): void {
    this.#reservations.delete(id);
  }

  /** The subnet that this node had of a network with this prefix, whatever its name was. */
  formerSubnet(whole: IpNetwork): IpNetwork | undefined {
    return this.#formerSubnets.get(fileNameOf(whole))?.subnet;
  }

  saveFormerSubnet(whole: IpNetwork, subnet: IpNetwork): void {
    this.#formerSubnets.put({ whole, subnet, at: new Date().toISOString() });
    const oldest = this.#formerSubnets.list().toSorted((a, b) => a.at.localeCompare(b.at));
    for (const { whole: old } of oldest.slice(0, -MAX_FORMER_SUBNETS))
      this.#formerSubnets.delete(fileNameOf(old));
  }
}

const fileNameOf = (whole: IpNetwork): string => whole.toString().replace('/', '-').replaceAll(':', '_');

function read<T>(kind: TornFile['kind'], folder: RecordFolder<T>, torn: TornFile[]): T[] {
  folder.create();
  const loaded = folder.load();
  torn.push(...loaded.torn.map((file) => ({ ...file, kind })));
  return loaded.records;
}

/** Undefined where the file cannot be read: what it says is a preference. */
function readText(path: string): string | undefined {
  try {
    return textOf(path);
  } catch {
    return undefined;
  }
}

const wordsOf = (path: string): string[] => (readText(path) ?? '').split(/\s+/);

/** The instance id in a state directory; undefined where it has none. @throws where it cannot be read */
export function instanceIn(directory: string): string | undefined {
  const instance = textOf(pathIn(directory, 'instance'))?.trim() ?? '';
  return /^[0-9a-f-]{36}$/.test(instance) ? instance : undefined;
}

/** Undefined where the file does not exist. */
function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
