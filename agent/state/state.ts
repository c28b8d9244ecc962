// What must survive a restart of the agent, in its state directory: the node's instance id, the networks it is on with
// its subnet in each, and every endpoint. Small JSON files, replaced atomically, one for each record, so that a torn or
// unreadable one costs only itself; such a file is kept aside and told, never taken for "nothing there".
//
//   instance                 the instance id
//   networks/NETWORK.json    config, lease and granted claims, as records; the config also as etcd had it
//   endpoints/ID.json        one endpoint
//   reservations/ID.json     one address that is kept for a container to come
import { randomUUID } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

import type { Parent } from '../../core/compile.js';
import { driverNamed, DRIVER_NAMES } from '../../core/drivers/index.js';
import { savedIp, savedName, savedVlan } from '../../core/drivers/saved.js';
import { failedPrecondition, messageOf } from '../../core/errors.js';
import { parseNetworkName, type Network } from '../../core/network.js';
import type { ClaimHolder, Endpoint, Lease } from '../../core/records.js';
import type { Reservation } from '../../daemon/plugin-host.js';
import { readRecords, type TornRecord } from '../../daemon/record-folder.js';
import { decodeConfig, encodeConfig } from '../../store/network-codec.js';
import { integer, interfaceText, linkName, mac } from '../../core/parse.js';
import { decodeEndpoint, encodeEndpoint } from '../../store/record-codec.js';
import { encodeLeaseFields, leaseSchema } from './lease-fields.js';

/** A network that the node is on. */
export interface SavedNetwork {
  network: Network;
  lease: Lease;
  /** Addresses of this node's subnet that others use with its agreement. */
  granted: ({ ip: string } & ClaimHolder)[];
  /** The link of this node that the network leaves through. */
  parent?: Parent;
}

/** Its id is the network's name or the endpoint's id. */
export interface TornFile extends TornRecord {
  kind: 'network' | 'endpoint' | 'reservation';
}

export interface Loaded {
  instance: string;
  /** The directory was empty: this node begins anew. */
  fresh: boolean;
  networks: SavedNetwork[];
  endpoints: Endpoint[];
  reservations: Reservation[];
  torn: TornFile[];
}

export class State {
  constructor(private readonly directory: string) {}

  /** @throws WeftError FAILED_PRECONDITION where the directory cannot be read and written */
  load(): Loaded {
    try {
      const torn: TornFile[] = [];
      const networks = this.#readAll('network', savedNetwork, ({ network }) => network.name, torn);
      const endpoints = this.#readAll('endpoint', savedEndpoint, ({ id }) => id, torn);
      const reservations = this.#readAll('reservation', savedReservation, ({ id }) => id, torn);
      const { instance, fresh } = this.#instance();
      return { instance, fresh, networks, endpoints, reservations, torn };
    } catch (error) {
      throw unusable(this.directory, error);
    }
  }

  #instance(): { instance: string; fresh: boolean } {
    const known = instanceIn(this.directory);
    if (known !== undefined) return { instance: known, fresh: false };
    const instance = randomUUID();
    replaceFile(join(this.directory, 'instance'), `${instance}\n`);
    return { instance, fresh: true };
  }

  #readAll<T>(
    kind: TornFile['kind'],
    parse: (value: unknown) => T,
    nameOf: (record: T) => string,
    torn: TornFile[],
  ): T[] {
    const read = readRecords(join(this.directory, `${kind}s`), parse, nameOf);
    torn.push(...read.torn.map((file) => ({ ...file, kind })));
    return read.records;
  }

  saveNetwork(saved: SavedNetwork): void {
    const { network } = saved;
    const lease = encodeLeaseFields(saved.lease);
    this.#write('networks', network.name, { ...saved, lease, config: encodeConfig(network) });
  }

  deleteNetwork(name: string): void {
    this.#delete(this.#path('networks', name));
  }

  saveEndpoint(endpoint: Endpoint): void {
    this.#write('endpoints', endpoint.id, endpoint);
  }

  deleteEndpoint(id: string): void {
    const path = this.#path('endpoints', id);
    this.#delete(path, `${path}.torn`);
  }

  saveReservation(reservation: Reservation): void {
    this.#write('reservations', reservation.id, reservation);
  }

  deleteReservation(id: string): void {
    this.#delete(this.#path('reservations', id));
  }

  /** What is gone already is no error. */
  #delete(...paths: string[]): void {
    try {
      for (const path of paths) rmSync(path, { force: true });
    } catch (error) {
      throw unusable(this.directory, error);
    }
  }

  #write(folder: string, name: string, value: unknown): void {
    try {
      replaceFile(this.#path(folder, name), `${JSON.stringify(value)}\n`);
    } catch (error) {
      throw unusable(this.directory, error);
    }
  }

  #path(folder: string, name: string): string {
    return join(this.directory, folder, `${name}.json`);
  }
}

/** The instance id that a state directory has; undefined where it has none. @throws where it cannot be read */
export function instanceIn(directory: string): string | undefined {
  try {
    const instance = readFileSync(join(directory, 'instance'), 'utf8').trim();
    return /^[0-9a-f-]{36}$/.test(instance) ? instance : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** What a state directory that cannot be written to, or read, is to whoever asked for something. */
export const unusable = (directory: string, error: unknown): Error =>
  failedPrecondition(
    `the state directory ${directory} cannot be used: ${messageOf(error)}`,
    'Make it writable and give it space, or name another one with --state-dir.',
    { cause: error },
  );

/** Writes beside the file and renames, so that a reader finds the old text or the new one, whole. */
export function replaceFile(path: string, text: string, mode = 0o600): void {
  const fresh = `${path}.new`;
  writeFileSync(fresh, text, { mode });
  renameSync(fresh, path);
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

const networkSchema = z.union(DRIVER_NAMES.map((name) => driverNamed(name).saved));

const parentSchema = z.object({
  name: linkName,
  isBridge: z.boolean(),
  mac,
  mtu: integer(0, 65_535),
  native: savedVlan.optional(),
});

const endpointSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  name: z.string(),
  explicitName: z.boolean(),
  network: z.string(),
  node: z.string(),
  target: z.string(),
  sandbox: z.object({ path: z.string(), cookie: z.string(), bootId: z.string() }),
  ifname: z.string(),
  hostIfname: z.string(),
  mac: z.string(),
  ip: z.string(),
  ip6: z.string().optional(),
  claimed: z.boolean().optional(),
  defaultRoute: z.boolean(),
  aliases: z.array(z.string()),
  publish: z
    .array(
      z.object({
        hostIp: z.string(),
        hostPort: z.number(),
        port: z.number(),
        protocol: z.enum(['tcp', 'udp']),
        everywhere: z.boolean(),
      }),
    )
    .default([]),
  vlan: z.number().optional(),
  dns: z.literal(true).optional(),
  door: z.literal('docker').optional(),
  createdAt: z.string(),
});

const savedSchema = z.object({
  network: networkSchema,
  lease: leaseSchema,
  granted: z.array(
    z.object({
      ip: savedIp.transform((address) => address.toString()),
      node: z.string(),
      endpoint: z.string(),
    }),
  ),
  parent: parentSchema.optional(),
  /** The config as it was in etcd: written back after a loss, nothing of it is missing, also what weft does not know. */
  config: z.string().optional(),
});

const reservationSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  network: savedName,
  ip: interfaceText,
  createdAt: z.string(),
});
const savedReservation = (value: unknown): Reservation => reservationSchema.parse(value);

// zod writes `undefined` as a value of optional keys; the records have no such key at all.
function savedNetwork(value: unknown): SavedNetwork {
  const { config, ...rest } = savedSchema.parse(value);
  const saved = withoutUndefined(rest) as SavedNetwork;
  // By etcd's own reader in any case: what it would refuse is no network.
  return { ...saved, network: decodeConfig(saved.network.name, config ?? encodeConfig(saved.network)) };
}

/** Nothing that etcd's readers would refuse: it is told there, and the kernel is programmed by it. */
function savedEndpoint(value: unknown): Endpoint {
  const endpoint = withoutUndefined(endpointSchema.parse(value)) as Endpoint;
  const { id, network } = endpoint;
  decodeEndpoint({ kind: 'endpoint', network: parseNetworkName(network), id }, encodeEndpoint(endpoint));
  return endpoint;
}

function withoutUndefined(record: object): object {
  return Object.fromEntries(
    Object.entries(record)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]: [string, unknown]) => [key, isPlain(value) ? withoutUndefined(value) : value]),
  );
}

const isPlain = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
