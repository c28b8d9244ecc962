// The wires of this host and what was prepared for them, in the state directory, one small file for each: they are known
// nowhere else.
//
//   wires/ID.json
//   wire-places/NAME.json
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

import { messageOf } from '../core/errors.js';
import type { Place, Wire } from '../core/wire.js';
import { replaceFile } from './state.js';

const place = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('bridge'),
    name: z.string().min(1),
    mtu: z.number(),
    vlans: z.boolean(),
    made: z.boolean(),
  }),
  z.object({
    kind: z.literal('nic'),
    name: z.string().min(1),
    mac: z.string(),
    mtu: z.number(),
    native: z.number().optional(),
  }),
]);

const wire = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  place,
  name: z.string(),
  target: z.string(),
  sandbox: z.object({ path: z.string(), cookie: z.string(), bootId: z.string() }),
  ifname: z.string(),
  hostIfname: z.string(),
  mac: z.string(),
  address: z.string().optional(),
  gateway: z.string().optional(),
  vlan: z.number().optional(),
});

const WIRES = 'wires';
const PLACES = 'wire-places';

export class WireState {
  constructor(private readonly stateDir: string) {}

  /** A file that cannot be read is put aside and told. */
  load(onTorn: (path: string, why: string) => void): { wires: Wire[]; places: Place[] } {
    // What zod calls optional may be undefined; what was written is not.
    return {
      wires: this.#read(WIRES, (value) => wire.parse(value) as Wire, onTorn),
      places: this.#read(PLACES, (value) => place.parse(value) as Place, onTorn),
    };
  }

  #read<T>(folder: string, parse: (value: unknown) => T, onTorn: (path: string, why: string) => void): T[] {
    const found: T[] = [];
    mkdirSync(join(this.stateDir, folder), { recursive: true, mode: 0o700 });
    for (const name of readdirSync(join(this.stateDir, folder))) {
      const path = join(this.stateDir, folder, name);
      if (name.endsWith('.new')) rmSync(path, { force: true });
      if (!name.endsWith('.json')) continue;
      try {
        found.push(parse(JSON.parse(readFileSync(path, 'utf8'))));
      } catch (error) {
        renameSync(path, `${path}.torn`);
        onTorn(`${path}.torn`, messageOf(error));
      }
    }
    return found;
  }

  save(wire: Wire): void {
    replaceFile(this.#path(WIRES, wire.id), `${JSON.stringify(wire)}\n`);
  }

  delete(id: string): void {
    rmSync(this.#path(WIRES, id), { force: true });
  }

  savePlace(place: Place): void {
    replaceFile(this.#path(PLACES, place.name), `${JSON.stringify(place)}\n`);
  }

  deletePlace(name: string): void {
    rmSync(this.#path(PLACES, name), { force: true });
  }

  #path(folder: string, name: string): string {
    return join(this.stateDir, folder, `${name}.json`);
  }
}
