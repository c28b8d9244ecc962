// State files of pipework attachments and their host interfaces.
//
// They are in no other place: the state directory is the only record.
//
//   wires/ID.json
//   wire-places/NAME.json
import { join } from 'node:path';

import * as z from 'zod';

import type { HostInterface, Attachment } from '../../core/attachment.js';
import { type FileOptions, RecordFolder } from '../../daemon/record-folder.js';
import { integer, interfaceText, ip, linkName, mac } from '../../core/parse.js';

const mtu = integer(0, 65_535);
const vlan = integer(1, 4094);

const hostInterface = z.discriminatedUnion('kind', [
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

/** In the format of release 0.1. */
const attachment = z
  .object({
    id: z.string().regex(/^[0-9a-f]{16}$/),
    place: hostInterface,
    name: z.string(),
    target: z.string(),
    sandbox: z.object({ path: z.string(), cookie: z.string(), bootId: z.string() }),
    ifname: linkName,
    hostIfname: linkName,
    mac,
    address: interfaceText.optional(),
    gateway: ip.transform((address) => address.toString()).optional(),
    vlan: vlan.optional(),
  })
  .refine(
    ({ address, gateway }) => gateway === undefined || address?.includes(':') === gateway.includes(':'),
    'the gateway is of another family than the address',
  );

// Folder names of release 0.1: both releases read the same files.
const WIRES = 'wires';
const PLACES = 'wire-places';

export class AttachmentState {
  readonly #attachments: RecordFolder<Attachment>;
  readonly #hostInterfaces: RecordFolder<HostInterface>;

  constructor(stateDir: string, options: FileOptions = {}) {
    // Not durable: the namespaces and links of these records do not outlive a power cut.
    // The casts: an optional field of zod may be undefined, but never is in a file.
    this.#attachments = new RecordFolder({
      folder: join(stateDir, WIRES),
      parse: (value) => {
        const { place, ...fields } = attachment.parse(value);
        return { ...fields, hostInterface: place } as Attachment;
      },
      encode: ({ hostInterface: place, ...fields }) => ({ ...fields, place }),
      nameOf: ({ id }) => id,
      ...options,
    });
    this.#hostInterfaces = new RecordFolder({
      folder: join(stateDir, PLACES),
      parse: (value) => hostInterface.parse(value) as HostInterface,
      nameOf: ({ name }) => name,
      ...options,
    });
  }

  /** An unreadable file is put aside and reported. @throws WeftError FAILED_PRECONDITION, as all below */
  load(onTorn: (path: string, why: string) => void): {
    attachments: Attachment[];
    hostInterfaces: HostInterface[];
  } {
    const read = <T>(folder: RecordFolder<T>): T[] => {
      folder.create();
      const { records, torn } = folder.load();
      for (const { path, why } of torn) onTorn(path, why);
      return records;
    };
    return { attachments: read(this.#attachments), hostInterfaces: read(this.#hostInterfaces) };
  }

  save(saved: Attachment): void {
    this.#attachments.put(saved);
  }

  delete(id: string): void {
    this.#attachments.delete(id);
  }

  saveHostInterface(saved: HostInterface): void {
    this.#hostInterfaces.put(saved);
  }

  deleteHostInterface(name: string): void {
    this.#hostInterfaces.delete(name);
  }
}
