// Addresses of controllers and etcd, which containers must not reach.
//
// Those of the settings, and what a controller tells of itself in the session: whether etcd is its own only it knows.
import { lookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';

import type { ControlAddress } from '../../core/firewall.js';
import type { HostPort } from '../../daemon/kinds.js';
import { hostPort } from '../../daemon/kinds.js';
import type { Logger } from '../../daemon/log.js';
import { messageOf } from '../../core/errors.js';

export interface ControlAddressesOptions {
  /** Of the settings. */
  configured: readonly HostPort[];
  log: Logger;
  /** Called when the addresses have changed. */
  changed: () => Promise<void>;
}

/** Names may get other addresses, and this node another one. */
const LOOK_EVERY_MS = 60_000;

export class ControlAddresses {
  #current: readonly ControlAddress[] = [];
  #told: readonly HostPort[] = [];
  #tick: NodeJS.Timeout | undefined;

  constructor(private readonly options: ControlAddressesOptions) {}

  get current(): readonly ControlAddress[] {
    return this.#current;
  }

  async start(): Promise<void> {
    this.#tick = setInterval(() => void this.#look(), LOOK_EVERY_MS);
    await this.#look();
  }

  stop(): void {
    clearInterval(this.#tick);
  }

  /** What a controller has said, HOST:PORT. */
  async told(addresses: readonly string[]): Promise<void> {
    const kind = hostPort({ listen: false });
    this.#told = addresses.map((text) => kind.parse(text, 'a controller'));
    await this.#look();
  }

  async #look(): Promise<void> {
    const own = new Set(
      Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? []),
    );
    const all = [...this.options.configured, ...this.#told];
    const found = await Promise.all(all.map((one) => this.#resolve(one, own)));
    const byText = new Map(found.flat().map((one) => [JSON.stringify(one), one]));
    const next = [...byText.keys()].toSorted().flatMap((text) => byText.get(text) ?? []);
    if (JSON.stringify(next) === JSON.stringify(this.#current)) return;
    this.#current = next;
    try {
      await this.options.changed();
    } catch (error) {
      this.options.log.warn('the controllers could not be closed to containers', { error: messageOf(error) });
    }
  }

  async #resolve({ host, port }: HostPort, own: ReadonlySet<string>): Promise<ControlAddress[]> {
    try {
      const addresses = await lookup(host, { all: true });
      return addresses.map(({ address: ip }) => ({ ip, port, here: own.has(ip) }));
    } catch {
      // What this node cannot resolve it closes when it can; those that it knew stay closed.
      return this.#current.filter((one) => one.port === port);
    }
  }
}
