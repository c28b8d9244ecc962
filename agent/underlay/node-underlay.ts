// Where this node stands on the underlay, from the moment at which it is found: at boot the agent may be there before the
// network is, and later addresses and links change.
import { setTimeout as pause } from 'node:timers/promises';

import type { Underlay } from '../../core/compile.js';
import { messageOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { Kernel } from '../kernel/index.js';
import { type Problems, UNDERLAY } from '../health/index.js';
import { findUnderlay, sameUnderlay, type UnderlaySettings } from './find-underlay.js';

const ADDRESS = { scope: UNDERLAY, kind: 'address' } as const;

export interface NodeUnderlayOptions {
  kernel: Kernel;
  problems: Problems;
  log: Logger;
  settings: UnderlaySettings;
}

export interface UnderlayListener {
  /** @param moved with another address */
  changed: (moved: boolean) => void;
  /** Frames can leave again, after a time in which none could. */
  back: () => void;
}

export class NodeUnderlay {
  #on: UnderlayListener | undefined;
  #running = true;

  private constructor(
    private readonly options: NodeUnderlayOptions,
    /** As it was found last. */
    public current: Underlay,
  ) {}

  /** @param waiting told why it is not found yet. @throws the signal's reason */
  static async find(
    options: NodeUnderlayOptions,
    signal: AbortSignal,
    waiting: (reason: string) => void,
  ): Promise<NodeUnderlay> {
    const { kernel, log, settings } = options;
    for (let told = false; ; told = true) {
      try {
        return new NodeUnderlay(options, findUnderlay(await kernel.underlayLinks(), settings));
      } catch (error) {
        if (!(error instanceof WeftError)) throw error;
        waiting(error.message);
        if (!told) log.warn('waiting for the underlay', { error });
      }
      await pause(500, undefined, { signal });
    }
  }

  /** Tells of changes from here on, of one since it was found at once. */
  async follow(listener: UnderlayListener): Promise<void> {
    this.#on = listener;
    await this.look();
  }

  /** Something about the links changed. Of use once it is followed. */
  async look(): Promise<void> {
    if (this.#on === undefined) return;
    const { kernel, problems, log, settings } = this.options;
    try {
      const links = await kernel.underlayLinks();
      const found = findUnderlay(links, settings);
      problems.clear(ADDRESS);
      const before = this.current;
      this.current = found;
      if (!sameUnderlay(found, before)) {
        log.info('the underlay changed', {
          from: before.ip.toString(),
          to: found.ip.toString(),
          mtu: found.mtu,
        });
        this.#on.changed(!found.ip.equals(before.ip));
      }
      const wasRunning = this.#running;
      this.#running = links.some(({ name, running }) => name === found.link && running);
      if (this.#running && !wasRunning) this.#on.back();
    } catch (error) {
      // Cables are pulled and put back: what was right goes on until there is something better.
      problems.set(ADDRESS, {
        what: 'the underlay',
        why: messageOf(error),
        fix: error instanceof WeftError ? (error.next ?? '') : 'See the log of the agent.',
      });
    }
  }
}
