// Addresses of controllers and etcd, which containers must not reach.
//
// Those of the settings, and what a controller tells of itself in the session: whether etcd is its own only it knows. What it
// said last holds until it says otherwise, also after a restart.
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

import type { ControlAddress } from '../../core/firewall.js';
import type { HostPort } from '../../daemon/kinds.js';
import { hostPort } from '../../daemon/kinds.js';
import type { Logger } from '../../daemon/log.js';
import { messageOf } from '../../core/errors.js';

export interface ControlAddressesOptions {
  /** Of the settings. */
  configured: readonly HostPort[];
  /** What a controller said in an earlier run, HOST:PORT. */
  told?: readonly string[];
  /** Keeps what a controller says. */
  save?: (addresses: readonly string[]) => void;
  log: Logger;
  /** Called when the addresses have changed. */
  changed: () => Promise<void>;
}

/** Controllers by the settings, and etcd where they close it. */
export const configuredControl = ({
  controller,
  closeEtcd,
  etcd,
}: {
  controller: readonly HostPort[];
  closeEtcd: 'on' | 'off';
  etcd: readonly string[];
}): HostPort[] => [...controller, ...(closeEtcd === 'on' ? etcd.map(placeOf) : [])];

/** Where an etcd of a URL serves. */
function placeOf(url: string): HostPort {
  const { hostname, port, protocol } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  // As etcd's clients do.
  const usual = protocol === 'https:' ? 443 : 80;
  return { host, port: port === '' ? usual : Number(port), text: url };
}

/** Names may get other addresses, and this node another one. */
const LOOK_EVERY_MS = 60_000;

export class ControlAddresses {
  #current: readonly ControlAddress[] = [];
  #told: readonly HostPort[];
  #tick: NodeJS.Timeout | undefined;

  constructor(private readonly options: ControlAddressesOptions) {
    this.#told = (options.told ?? []).flatMap((text) => attemptParse(text));
    // Before the first comparison, which must not open what is closed; names are looked up later.
    const own = ownAddresses();
    const all = [...options.configured, ...this.#told].filter(({ host }) => isIP(host) !== 0);
    this.#current = distinct(all.map(({ host: ip, port }) => ({ ip, port, here: own.has(ip) })));
  }

  get current(): readonly ControlAddress[] {
    return this.#current;
  }

  async start(): Promise<void> {
    this.#tick = setInterval(() => void this.look(), LOOK_EVERY_MS);
    await this.look();
  }

  stop(): void {
    clearInterval(this.#tick);
  }

  /** What a controller has said, HOST:PORT. */
  async told(addresses: readonly string[]): Promise<void> {
    this.#told = addresses.map(parse);
    try {
      this.options.save?.(addresses);
    } catch (error) {
      this.options.log.warn('the addresses of controllers were not saved', { error: messageOf(error) });
    }
    await this.look();
  }

  /** Looks names up, and compares. */
  async look(): Promise<void> {
    const own = ownAddresses();
    const all = [...this.options.configured, ...this.#told];
    const next = distinct((await Promise.all(all.map((one) => this.#resolve(one, own)))).flat());
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

const parse = (text: string): HostPort => hostPort({ listen: false }).parse(text, 'a controller');

/** None where a file was torn. */
function attemptParse(text: string): HostPort[] {
  try {
    return [parse(text)];
  } catch {
    return [];
  }
}

const ownAddresses = (): Set<string> =>
  new Set(Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? []));

function distinct(addresses: readonly ControlAddress[]): ControlAddress[] {
  const byText = new Map(addresses.map((one) => [JSON.stringify(one), one]));
  return [...byText.keys()].toSorted().flatMap((text) => byText.get(text) ?? []);
}
