// The comparison of a cloud's routes: beside that of the node, every minute and after a change of records.
import type { CloudMember, CloudStep } from '../../core/cloud.js';
import type { Logger } from '../../daemon/log.js';
import { CloudTarget, type CloudTargetOptions } from './cloud-target.js';
import { Look } from './look.js';
import { compareTarget } from './target.js';

/** A cloud tells of no change, and counts what it is asked. */
const EVERY_MS = 60_000;

export interface CloudRoutesOptions extends Omit<CloudTargetOptions, 'onChanged'> {
  log: Pick<Logger, 'info' | 'debug'>;
}

export class CloudRoutes {
  readonly #target: CloudTarget;
  readonly #look: Look;
  #started = false;

  constructor(options: CloudRoutesOptions) {
    this.#target = new CloudTarget({ ...options, onChanged: () => this.#look.soon() });
    this.#look = new Look(
      { what: 'the routes of a cloud', everyMs: EVERY_MS, log: options.log },
      async () => void (await compareTarget(this.#target)),
    );
  }

  /** The first comparison runs; nothing waits for it. */
  start(): void {
    this.#started = true;
    void this.#look.start();
  }

  stop(): Promise<void> {
    return this.#look.stop();
  }

  /** Sets the desired routes. They are written in their own time. */
  set(members: readonly CloudMember[]): void {
    if (this.#target.set(members) && this.#started) this.#look.soon();
  }

  /** The records are complete. */
  allowPruning(): void {
    this.#target.prune = true;
    if (this.#started) this.#look.soon();
  }

  /** Whether what a network has in a cloud leads to this node. */
  has(network: Pick<CloudMember, 'cloud' | 'name'>): boolean {
    return this.#target.isSettled(network);
  }

  /** What a comparison would change now. */
  async preview(): Promise<CloudStep[]> {
    const seen = (await this.#target.observe()) ?? [];
    return this.#target.plan(seen).flatMap(({ steps }) => steps);
  }
}
