// The attachments of this host and what was prepared for them, in the state directory, one small file for each: they are known
// nowhere else.
//
//   wires/ID.json
//   wire-places/NAME.json
import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

import type { Place, Attachment } from '../../core/attachment.js';
import { readRecords } from '../../daemon/record-folder.js';
import { integer, interfaceText, ip, linkName, mac } from '../../core/parse.js';
import { replaceFile, unusable } from '../state/index.js';

const mtu = integer(0, 65_535);
const vlan = integer(1, 4094);

const place = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('bridge'),
    name: linkName,
    mtu,
    vlans: z.boolean(),
    made: z.boolean(),
  }),
  z.object({
    kind: z.literal('nic'),
    name: linkName,
    mac,
    mtu,
    native: vlan.optional(),
  }),
]);

const attachment = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  place,
  name: z.string(),
  target: z.string(),
  sandbox: z.object({ path: z.string(), cookie: z.string(), bootId: z.string() }),
  ifname: linkName,
  hostIfname: linkName,
  mac,
  address: interfaceText.optional(),
  gateway: ip.transform((address) => address.toString()).optional(),
  vlan: vlan.optional(),
});

// Folder names of release 0.1, kept so that either release reads the other's files.
const WIRES = 'wires';
const PLACES = 'wire-places';

export class AttachmentState {
  constructor(private readonly stateDir: string) {}

  /** A file that cannot be read is put aside and told. */
  load(onTorn: (path: string, why: string) => void): { attachments: Attachment[]; places: Place[] } {
    const read = <T>(folder: string, parse: (value: unknown) => T, nameOf: (record: T) => string): T[] => {
      const { records, torn } = readRecords(join(this.stateDir, folder), parse, nameOf);
      for (const { path, why } of torn) onTorn(path, why);
      return records;
    };
    // What zod calls optional may be undefined; what was written is not.
    return {
      attachments: read(
        WIRES,
        (value) => attachment.parse(value) as Attachment,
        ({ id }) => id,
      ),
      places: read(
        PLACES,
        (value) => place.parse(value) as Place,
        ({ name }) => name,
      ),
    };
  }

  /** This and all below. @throws WeftError FAILED_PRECONDITION where the directory cannot be written to */
  save(attachment: Attachment): void {
    this.#try(() => replaceFile(this.#path(WIRES, attachment.id), `${JSON.stringify(attachment)}\n`));
  }

  delete(id: string): void {
    this.#try(() => rmSync(this.#path(WIRES, id), { force: true }));
  }

  savePlace(place: Place): void {
    this.#try(() => replaceFile(this.#path(PLACES, place.name), `${JSON.stringify(place)}\n`));
  }

  deletePlace(name: string): void {
    this.#try(() => rmSync(this.#path(PLACES, name), { force: true }));
  }

  #try(change: () => void): void {
    try {
      change();
    } catch (error) {
      throw unusable(this.stateDir, error);
    }
  }

  #path(folder: string, name: string): string {
    return join(this.stateDir, folder, `${name}.json`);
  }
}
