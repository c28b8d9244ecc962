// Pumps: the process that has each TUN device.
//
// In the run directory, and not synced: the processes end with the machine, too. A file that cannot be read is put aside; its
// process is found again by its command line (kernel/pump/processes.ts).
//
//   pumps/LINK.json
import * as z from 'zod';

import { type FileOptions, RecordTable } from '../../daemon/record-folder.js';
import type { PumpRecord, PumpRecords } from '../kernel/index.js';

const schema = z.object({
  link: z.string().regex(/^wf[^/\s]+$/),
  pid: z.number().int().min(2),
  startedAt: z.string().regex(/^\d+$/),
  at: z.number(),
  index: z.number().int().positive(),
  local: z.ipv4(),
  port: z.number().int().min(1).max(65_535),
  version: z.string(),
});

export class PumpFiles implements PumpRecords {
  readonly #table: RecordTable<PumpRecord>;

  /** @throws WeftError FAILED_PRECONDITION where the folder cannot be read */
  constructor(folder: string, options: FileOptions = {}) {
    this.#table = new RecordTable({
      folder,
      parse: (value) => schema.parse(value),
      nameOf: ({ link }) => link,
      ...options,
    });
    this.#table.load();
  }

  list(): PumpRecord[] {
    return this.#table.list();
  }

  get(link: string): PumpRecord | undefined {
    return this.#table.get(link);
  }

  put(pump: PumpRecord): void {
    this.#table.put(pump);
  }

  delete(link: string): void {
    this.#table.delete(link);
  }
}
