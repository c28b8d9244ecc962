// This node's underlay address and MTU, tracked while the agent runs.
//
// At boot the agent may start before the network is up, and addresses and links change later.
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
  /** @param moved whether the address changed */
  changed: (moved: boolean) => void;
  /** The underlay can transmit again after an outage. */
  back: () => void;
}

export class NodeUnderlay {
  #on: UnderlayListener | undefined;
  #running = true;

  private constructor(
    private readonly options: NodeUnderlayOptions,
    /** The underlay as found last. */
    public current: Underlay,
  ) {}

  /** @param waiting receives the reason while it is not found. @throws the signal's reason */
  static async find(
    options: NodeUnderlayOptions,
    signal: AbortSignal,
    waiting: (reason: WeftError) => void,
  ): Promise<NodeUnderlay> {
    const { kernel, log, settings } = options;
    for (let logged = false; ; logged = true) {
      try {
        return new NodeUnderlay(options, findUnderlay(await kernel.underlayLinks(), settings));
      } catch (error) {
        if (!(error instanceof WeftError)) throw error;
        waiting(error);
        if (!logged) log.warn('waiting for the underlay', { error });
      }
      await pause(500, undefined, { signal });
    }
  }

  /** Reports changes from now on, and at once a change since it was found. */
  async follow(listener: UnderlayListener): Promise<void> {
    this.#on = listener;
    await this.look();
  }

  /** Checks after a change of links, addresses or routes. Does nothing before follow(). */
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
      // Cables are pulled and plugged in again: the last underlay stays in use until another one is found.
      problems.set(ADDRESS, {
        what: 'the underlay',
        why: messageOf(error),
        fix: error instanceof WeftError ? (error.next ?? '') : 'See the log of the agent.',
      });
    }
  }
}
