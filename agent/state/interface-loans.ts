// Interface loans: a NIC's settings from before it became a bridge port.
//
// Written before the NIC is changed, so that any later process can restore it. A loan of an earlier boot is void: the kernel
// has created the NIC anew.
//
//   ports/LINK.json
import fs from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

import { failedPrecondition } from '../../core/errors.js';
import { RecordTable } from '../../daemon/record-folder.js';
import type { FileCalls } from '../../daemon/state-file.js';
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

export class InterfaceLoanFiles implements InterfaceLoans {
  readonly #table: RecordTable<z.infer<typeof schema>>;

  /** @throws WeftError FAILED_PRECONDITION where a file cannot be read: its content must not be lost */
  constructor(
    stateDir: string,
    private readonly bootId: string,
    calls: FileCalls = fs,
  ) {
    this.#table = new RecordTable({
      folder: join(stateDir, 'ports'),
      parse: (value) => schema.parse(value),
      nameOf: ({ link }) => link,
      // After a power cut a file that was not synced may be empty, and an unreadable one keeps the agent from starting.
      durable: true,
      // Not put aside: the interface's settings may exist nowhere else.
      refuse: (path, why, cause) =>
        failedPrecondition(
          `${path} cannot be read: ${why}`,
          'It holds the addresses and routes of an interface of this host. Restore them by hand if they are missing, then delete the file.',
          { cause },
        ),
      calls,
    });
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
