// What links of the host had before weft made them ports of its bridges, in the state directory: one small file for each,
// written before anything is touched. What was written before the machine was booted last says nothing any more.
//
//   ports/LINK.json
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

import { failedPrecondition } from '../../core/errors.js';
import { whyUnreadable } from '../../daemon/record-folder.js';
import type { InterfaceLoan, InterfaceLoans } from '../kernel/index.js';
import { replaceFile } from './state.js';

/** Bodies of messages, as long as their fixed parts at least (ifaddrmsg and rtmsg, linux/if_addr.h and rtnetlink.h). */
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
  readonly #entries = new Map<string, InterfaceLoan>();
  readonly #folder: string;

  /** @throws WeftError FAILED_PRECONDITION where a file cannot be read: what it says must not be lost */
  constructor(
    stateDir: string,
    private readonly bootId: string,
  ) {
    this.#folder = join(stateDir, 'ports');
    for (const name of listFolder(this.#folder)) {
      if (name.endsWith('.new')) rmSync(join(this.#folder, name), { force: true });
      if (!name.endsWith('.json')) continue;
      const path = join(this.#folder, name);
      const { bootId: written, ...saved } = readEntry(path, name.slice(0, -'.json'.length));
      if (written === bootId) this.#entries.set(saved.link, saved);
      else rmSync(path, { force: true });
    }
  }

  list(): InterfaceLoan[] {
    return [...this.#entries.values()];
  }

  get(link: string): InterfaceLoan | undefined {
    return this.#entries.get(link);
  }

  put(loan: InterfaceLoan): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    replaceFile(this.#path(loan.link), `${JSON.stringify({ ...loan, bootId: this.bootId })}\n`);
    this.#entries.set(loan.link, loan);
  }

  delete(link: string): void {
    rmSync(this.#path(link), { force: true });
    this.#entries.delete(link);
  }

  #path(link: string): string {
    return join(this.#folder, `${link}.json`);
  }
}

function readEntry(path: string, link: string): z.infer<typeof schema> {
  try {
    const entry = schema.parse(JSON.parse(readFileSync(path, 'utf8')));
    if (entry.link !== link) throw new Error(`it is about ${entry.link}, as its name does not say`);
    return entry;
  } catch (error) {
    throw failedPrecondition(
      `${path} cannot be read: ${whyUnreadable(error)}`,
      'It says which addresses and routes an interface of this host had. Put them back by hand if they are missing, and delete the file.',
      { cause: error },
    );
  }
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
