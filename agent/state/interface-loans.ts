// Interface loans: a NIC's settings from before it became a bridge port.
//
// Written before the NIC is changed, so that any later process can restore it. A loan of an earlier boot is void: the kernel
// has created the NIC anew.
//
//   ports/LINK.json
import { join } from 'node:path';

import * as z from 'zod';

import { failedPrecondition } from '../../core/errors.js';
import { type FileOptions, type RecordFolderOptions, RecordTable } from '../../daemon/record-folder.js';
import type { InterfaceLoan, InterfaceLoans } from '../kernel/index.js';

/** Bodies of netlink messages, at least as long as their fixed parts (ifaddrmsg and rtmsg, linux/if_addr.h and rtnetlink.h). */
const body = (bytes: number): z.ZodString =>
  z.string().regex(new RegExp(`^(?:[0-9a-f]{2}){${bytes},}$`), 'not the body of a message, in hexadecimal');
const schema = z.object({
  link: z.string().min(1),
  index: z.number().int().positive().optional(),
  bridge: z.string().min(1),
  done: z.boolean(),
  addresses: z.array(body(8)),
  routes: z.array(body(12)),
  bootId: z.string(),
});

type Written = z.infer<typeof schema>;

const folderOptions = (stateDir: string): RecordFolderOptions<Written> => ({
  folder: join(stateDir, 'ports'),
  parse: (value) => schema.parse(value),
  nameOf: ({ link }) => link,
  // After a power cut a file whose text was not synced may be empty, and an unreadable one keeps the agent from starting.
  durable: true,
  // Not put aside: what an interface had may be nowhere else.
  refuse: (path, why, cause) =>
    failedPrecondition(
      `${path} cannot be read: ${why}`,
      'It says which addresses and routes an interface of this host had. Put them back by hand if they are missing, and delete the file.',
      { cause },
    ),
});

export class InterfaceLoanFiles implements InterfaceLoans {
  readonly #table: RecordTable<Written>;

  /** @throws WeftError FAILED_PRECONDITION where a file cannot be read: its content must not be lost */
  constructor(
    stateDir: string,
    private readonly bootId: string,
    options: FileOptions = {},
  ) {
    this.#table = new RecordTable({ ...folderOptions(stateDir), ...options });
    this.#table.load();
    for (const { link, bootId: written } of this.#table.list())
      if (written !== bootId) this.#table.delete(link);
  }

  list(): InterfaceLoan[] {
    return this.#table.list();
  }

  get(link: string): InterfaceLoan | undefined {
    return this.#table.get(link);
  }

  put(loan: InterfaceLoan): void {
    this.#table.put({ ...loan, bootId: this.bootId });
  }

  delete(link: string): void {
    this.#table.delete(link);
  }
}
