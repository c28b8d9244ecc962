// Table of this node's containers by id, name and target.
//
// Also names and ids of starts under way.
import type { Backoff } from '../../core/backoff.js';
import { alreadyExists, invalidArgument, notFound } from '../../core/errors.js';
import { runTarget } from '../../core/run.js';
import type { ContainerRecord } from './container-state.js';

export type ContainerPhase = 'running' | 'restarting' | 'stopping' | 'exited';

/** A container in memory. */
export interface Held {
  record: ContainerRecord;
  phase: ContainerPhase;
  /** Timer of its next restart. */
  backoff: Backoff;
  again?: NodeJS.Timeout | undefined;
  /** When its process was first found absent. */
  goneSince?: number | undefined;
  /** Its exit status is not recorded yet. */
  unsaved?: boolean;
}

/** Shortest id prefix that identifies a container. */
const SHORTEST_ID = 4;

export class ContainerTable {
  readonly #held = new Map<string, Held>();
  /** Names and ids of starts under way. */
  readonly #coming = new Set<string>();

  add(held: Held): void {
    this.#held.set(held.record.id, held);
  }

  delete(id: string): void {
    this.#held.delete(id);
  }

  has(id: string): boolean {
    return this.#held.has(id);
  }

  all(): Held[] {
    return [...this.#held.values()];
  }

  named(name: string): Held | undefined {
    return this.all().find(({ record }) => record.name === name);
  }

  /** @param target of an endpoint */
  byTarget(target: string): Held | undefined {
    return this.all().find(({ record }) => runTarget(record.name) === target);
  }

  /** Finds a container by name or id prefix. @throws WeftError NOT_FOUND, INVALID_ARGUMENT */
  find(name: string): Held {
    const known = this.named(name) ?? this.#held.get(name);
    if (known !== undefined) return known;
    const begun =
      name.length >= SHORTEST_ID ? this.all().filter(({ record }) => record.id.startsWith(name)) : [];
    if (begun.length > 1)
      throw invalidArgument(`several containers have an id that begins with ${name}`, 'Give more of the id.');
    if (begun[0] !== undefined) return begun[0];
    throw notFound(`weft runs no container ${name} on this node`, 'See `weft ps -a`.');
  }

  /**
   * Reserves a name and an id for a container that is being started.
   * @returns releases them
   * @throws WeftError ALREADY_EXISTS
   */
  reserve(name: string, id: string): () => void {
    const there = this.named(name);
    if (there !== undefined) {
      const state = there.phase === 'exited' ? 'which has exited' : `which is ${there.phase}`;
      throw alreadyExists(
        `the name ${name} is taken on this node by container ${there.record.id.slice(0, 12)}, ${state}`,
        there.phase === 'exited'
          ? `Choose another --name, or remove that one: weft rm ${name}`
          : `Choose another --name, or stop that one: weft stop ${name}`,
      );
    }
    if (this.#coming.has(name) || this.#coming.has(id) || this.#held.has(id))
      throw alreadyExists(`a container ${name} is being started`, 'Choose another --name.');
    this.#coming.add(name).add(id);
    return () => {
      this.#coming.delete(name);
      this.#coming.delete(id);
    };
  }
}
