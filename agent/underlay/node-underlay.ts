// This node's underlay address and MTU, tracked while the agent runs.
//
// At boot the agent may start before the network is up, and addresses and links change later.
import { setTimeout as pause } from 'node:timers/promises';

import type { Underlay } from '../../core/compile.js';
import { messageOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { Problem } from '../../core/problem.js';
import type { Kernel, UnderlayLink } from '../kernel/index.js';
import { type Problems, UNDERLAY } from '../health/index.js';
import type { State } from '../state/index.js';
import { findUnderlay, type LastAddresses, sameUnderlay, type UnderlaySettings } from './find-underlay.js';
import { publicAddressWarning } from './public-addresses.js';

const ADDRESS = { scope: UNDERLAY, kind: 'address' } as const;
const PUBLIC_ADDRESS = { scope: UNDERLAY, kind: 'public-address' } as const;

export interface NodeUnderlayOptions {
  kernel: Kernel;
  /** Remembers the addresses: a restart is no reason to move. */
  state: Pick<State, 'underlay' | 'saveUnderlay'>;
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
  #outage: Problem | undefined;
  #last: LastAddresses;

  private constructor(
    private readonly options: NodeUnderlayOptions,
    /** The underlay as found last. */
    public current: Underlay,
    last: LastAddresses,
  ) {
    this.#last = last;
    this.#remember(current);
    this.#warn();
  }

  /** @param waiting receives the reason while it is not found. @throws the signal's reason */
  static async find(
    options: NodeUnderlayOptions,
    signal: AbortSignal,
    waiting: (reason: WeftError) => void,
  ): Promise<NodeUnderlay> {
    const { kernel, log, settings, state } = options;
    const last = state.underlay();
    for (let logged = false; ; logged = true) {
      try {
        return new NodeUnderlay(options, await findUnderlay(kernel, settings, last), last);
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
      const found = await findUnderlay(kernel, settings, this.#last);
      problems.clear(ADDRESS);
      const before = this.current;
      this.current = found;
      if (!sameUnderlay(found, before)) {
        log.info('the underlay changed', {
          from: addressesOf(before),
          to: addressesOf(found),
          mtu: found.mtu,
        });
        this.#remember(found);
        this.#warn();
        this.#on.changed(!found.ip.equals(before.ip));
      }
      const wasRunning = this.#outage === undefined;
      const link = (await kernel.underlayLinks()).find(({ name }) => name === found.link);
      this.#outage = link?.running === true ? undefined : outageOf(found.link, link);
      if (this.#outage === undefined && !wasRunning) this.#on.back();
    } catch (error) {
      // Cables are pulled and plugged in again: the last underlay stays in use until another one is found.
      problems.set(ADDRESS, {
        what: 'the underlay',
        why: messageOf(error),
        fix: error instanceof WeftError ? (error.next ?? '') : 'See the log of the agent.',
      });
    }
  }

  /** Why its link carries nothing; undefined: it does. */
  get outage(): Problem | undefined {
    return this.#outage;
  }

  #warn(): void {
    this.options.problems.put(PUBLIC_ADDRESS, publicAddressWarning(this.current));
  }

  /** An IPv6 address that goes with its link comes back with it, and is the node's again. */
  #remember({ ip, ip6: found }: Underlay): void {
    const ip6 = ip.family === 6 ? undefined : (found ?? this.#last.ip6);
    this.#last = { ip, ...(ip6 === undefined ? {} : { ip6 }) };
    try {
      this.options.state.saveUnderlay(this.#last);
    } catch (error) {
      this.options.log.warn('the underlay address cannot be remembered', { error });
    }
  }
}

const outageOf = (name: string, link: UnderlayLink | undefined): Problem =>
  Object.values(link?.flaws ?? {}).includes('down')
    ? {
        what: `the link ${name}, which carries the underlay`,
        why: 'it is set down',
        fix: `Bring it up: ip link set ${name} up.`,
      }
    : {
        what: `the link ${name}, which carries the underlay`,
        why: link === undefined ? 'it is gone' : 'it has no carrier',
        fix: 'Check its cable, and the port at the other end.',
      };

const addressesOf = ({ ip, ip6 }: Underlay): string => [ip, ...(ip6 === undefined ? [] : [ip6])].join(',');
