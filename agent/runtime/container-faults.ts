// What goes wrong while a container is looked after: told as a problem for as long as it lasts, and not tried again at once,
// for each try looks through all processes of the host.
import { messageOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { ProblemKey, Problems } from '../health/index.js';
import type { Held } from './container-table.js';

export interface ContainerFaultsOptions {
  problems: Problems;
  log: Logger;
  /** Milliseconds until it is tried again. */
  againMs?: number;
}

const AGAIN_MS = 10_000;

export class ContainerFaults {
  /** By id: when its container is looked after again. */
  readonly #until = new Map<string, number>();

  constructor(private readonly options: ContainerFaultsOptions) {}

  note({ record: { id, name } }: Held, error: unknown): void {
    const { problems, log, againMs = AGAIN_MS } = this.options;
    this.#until.set(id, Date.now() + againMs);
    log.error('looking after a container failed', { container: name, error: messageOf(error) });
    const next = error instanceof WeftError && error.next !== undefined ? `${error.next} ` : '';
    problems.set(keyOf(id), {
      what: `container ${name}`,
      why: `it cannot be looked after: ${messageOf(error)}`,
      fix: `${next}It is tried again every ${againMs / 1000} seconds.`,
    });
  }

  /** Whether it is too early to try again. */
  rests({ record: { id } }: Held): boolean {
    return Date.now() < (this.#until.get(id) ?? 0);
  }

  over({ record: { id } }: Held): void {
    this.#until.delete(id);
    this.options.problems.clear(keyOf(id));
  }
}

const keyOf = (id: string): ProblemKey => ({ scope: { kind: 'container', id }, kind: 'supervision' });
