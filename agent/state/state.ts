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

import { failedPrecondition, messageOf } from '../../core/errors.js';
import type { Endpoint } from '../../core/records.js';
import type { Reservation } from '../../daemon/plugin-host.js';
import { readRecords, type TornRecord } from '../../daemon/record-folder.js';
import { encodeConfig } from '../../store/network-codec.js';
import { savedEndpoint, savedNetwork, savedReservation, type SavedNetwork } from './records.js';

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
    this.#write('networks', network.name, { ...saved, config: encodeConfig(network) });
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
