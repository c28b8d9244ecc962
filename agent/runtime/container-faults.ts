// Failures in the supervision of containers, reported as problems.
//
// The retry waits: each one searches all processes of the host.
import { messageOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { ProblemKey, Problems } from '../health/index.js';
import type { Held } from './container-table.js';

export interface ContainerFaultsOptions {
  problems: Problems;
  log: Logger;
  /** Milliseconds until the retry. */
  againMs?: number;
}

const AGAIN_MS = 10_000;

export class ContainerFaults {
  /** Times of the next retry, by container id. */
  readonly #until = new Map<string, number>();

  constructor(private readonly options: ContainerFaultsOptions) {}

  note({ record: { id, name } }: Held, error: unknown): void {
    const { problems, log, againMs = AGAIN_MS } = this.options;
    this.#until.set(id, Date.now() + againMs);
    log.error('the supervision of a container failed', { container: name, error: messageOf(error) });
    const next = error instanceof WeftError && error.next !== undefined ? `${error.next} ` : '';
    problems.set(keyOf(id), {
      what: `container ${name}`,
      why: `its supervision failed: ${messageOf(error)}`,
      fix: `${next}It is tried again every ${againMs / 1000} seconds.`,
    });
  }

  /** Whether it is too early for a retry. */
  rests({ record: { id } }: Held): boolean {
    return Date.now() < (this.#until.get(id) ?? 0);
  }

  over({ record: { id } }: Held): void {
    this.#until.delete(id);
    this.options.problems.clear(keyOf(id));
  }
}

const keyOf = (id: string): ProblemKey => ({ scope: { kind: 'container', id }, kind: 'supervision' });
