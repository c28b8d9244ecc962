// Looks after what Docker does not tell the plugin: names and aliases of containers, where their interface went, and
// containers and networks that went without a word. In the background, when Docker tells that something changed and every
// 10 seconds; what seems to be gone must seem so twice.
import { IpAddress } from '../../core/address.js';
import { messageOf } from '../../core/errors.js';
import { parseName } from '../../core/network.js';
import type { PluginHost } from '../../daemon/plugin-host.js';
import type { DockerEvents } from './docker-events.js';
import type { DockerEndpoints } from './endpoint.js';
import { ageOf, isAddressOf, type PluginState } from './plugin-state.js';
import type { Networks } from './network.js';

export interface UpkeepOptions {
  host: PluginHost;
  memory: PluginState;
  networks: Networks;
  endpoints: DockerEndpoints;
  events: DockerEvents;
  everyMs?: number;
}

const EVERY_MS = 10_000;
/** Docker's own work comes first: what is found is not urgent. */
const SOON_MS = 2_000;
/** Younger records may be in the middle of what Docker does with them. */
const SETTLED_MS = 20_000;
/** Of an endpoint that the plugin has forgotten: after its restart nothing is in the middle of anything any more. */
const FORGOTTEN_MS = 10_000;
/** An address without an endpoint, a pool without a network. */
const ORPHAN_MS = 60_000;

/** What seems to be gone, by id. */
interface Gone {
  endpoints: Set<string>;
  /** Endpoints that the plugin has no record of. */
  forgotten: Set<string>;
  networks: Set<string>;
}

const nothing = (): Gone => ({ endpoints: new Set(), forgotten: new Set(), networks: new Set() });

export class Upkeep {
  #suspects: Gone = nothing();
  #timer: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(private readonly options: UpkeepOptions) {}

  start(): void {
    this.#timer = setInterval(() => this.look(), this.options.everyMs ?? EVERY_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    await this.#running;
  }

  lookSoon(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.look();
    }, SOON_MS);
  }

  look(): void {
    this.#running ??= this.#look()
      .catch((error: unknown) =>
        this.options.host.log.debug('looking after Docker', { error: messageOf(error) }),
      )
      .finally(() => (this.#running = undefined));
  }

  async #look(): Promise<void> {
    const { memory, host, networks } = this.options;
    for (const { id } of host.endpoints.list()) await host.endpoints.lookInside(id);
    const gone = await this.#unknownToDocker();
    for (const id of this.#withoutSandbox()) gone.endpoints.add(id);
    for (const id of this.#forgotten()) gone.forgotten.add(id);
    const before = this.#suspects;
    this.#suspects = gone;
    for (const id of gone.endpoints) {
      const endpoint = before.endpoints.has(id) ? memory.endpoints.get(id) : undefined;
      if (endpoint !== undefined) await this.options.endpoints.forget(endpoint);
    }
    for (const id of gone.forgotten) if (before.forgotten.has(id)) await host.endpoints.disconnect(id);
    for (const id of gone.networks) if (before.networks.has(id)) await networks.delete(id);
    for (const network of memory.networks.list())
      if (network.state === 'leaving') await networks.delete(network.id);
    this.#sweepOrphans();
    await this.#setAside();
    await this.#learnNames();
  }

  /** Endpoints whose container's namespace was there, and is not. */
  #withoutSandbox(): string[] {
    const { memory, host } = this.options;
    return memory.endpoints
      .list()
      .filter(({ id, endpoint }) => memory.joined.has(id) && host.endpoints.isAlive(endpoint) === false)
      .map(({ id }) => id);
  }

  /** The same of endpoints whose records were lost, so that what Docker said of them meant nothing. */
  #forgotten(): string[] {
    const { memory, host } = this.options;
    const known = new Set(memory.endpoints.list().map(({ endpoint }) => endpoint));
    return host.endpoints
      .list()
      .filter(({ id }) => !known.has(id) && host.endpoints.isAlive(id, FORGOTTEN_MS) === false)
      .map(({ id }) => id);
  }

  /** What Docker would know if it were still there. Nothing where Docker does not answer. */
  async #unknownToDocker(): Promise<Gone> {
    const { memory, events } = this.options;
    const found = nothing();
    if (!events.hears || memory.networks.list().length === 0) return found;
    const there = await events.networks();
    for (const record of memory.networks.list()) {
      if (!there.has(record.id)) {
        if (ageOf(record) > SETTLED_MS) found.networks.add(record.id);
        continue;
      }
      const old = memory.endpointsOf(record.id).filter((endpoint) => ageOf(endpoint) > SETTLED_MS);
      const running = old.length === 0 ? undefined : (await events.network(record.id))?.endpoints;
      for (const { id } of old) if (running?.has(id) === false) found.endpoints.add(id);
    }
    return found;
  }

  #sweepOrphans(): void {
    const { memory, host } = this.options;
    for (const reservation of host.addresses.list()) {
      const ip = reservation.ip.split('/')[0] ?? '';
      const isUsed = memory.endpoints.list().some((endpoint) => isAddressOf(endpoint, ip));
      if (!isUsed && ageOf(reservation) > ORPHAN_MS) host.addresses.release(reservation.network, ip);
    }
    for (const pool of memory.pools.list()) {
      const owner = pool.network === undefined ? undefined : memory.networks.get(pool.network);
      if (owner === undefined && ageOf(pool) > 10 * ORPHAN_MS) memory.pools.delete(pool.id);
    }
  }

  /** Another host that wanted the same address set aside may have given it back. */
  async #setAside(): Promise<void> {
    const { memory, host } = this.options;
    for (const network of memory.networks.list()) {
      if (network.state !== 'ready' || network.network === undefined) continue;
      for (const { aux } of memory.poolsOf(network)) {
        for (const ip of aux) await host.addresses.setAside(network.network, IpAddress.parse(ip));
      }
    }
  }

  async #learnNames(): Promise<void> {
    const { memory, events } = this.options;
    if (!events.hears) return;
    for (const id of new Set(memory.unnamed().map(({ network }) => network))) {
      for (const container of (await events.network(id))?.containers ?? []) await this.learn(container);
    }
  }

  /** Docker, which starts the container meanwhile, is not asked again for what it has answered. */
  async learnMissed(container: string): Promise<void> {
    if (this.options.memory.unnamed().length > 0) await this.learn(container);
  }

  /** What a container is called on its networks; it is asked for when Docker has told of it. */
  async learn(container: string): Promise<void> {
    const { memory, host, events } = this.options;
    if (memory.endpoints.list().length === 0) return;
    try {
      for (const { name, endpoint: id, aliases } of await events.container(container)) {
        const record = memory.endpoints.get(id);
        if (record === undefined) continue;
        await host.endpoints.describe(record.endpoint, {
          name,
          target: `docker:${name}`,
          aliases: aliases.filter(isName),
        });
        if (!record.named) memory.endpoints.put({ ...record, named: true });
      }
    } catch (error) {
      host.log.debug('could not learn a container’s name yet', { container, error: messageOf(error) });
    }
  }
}

function isName(text: string): boolean {
  try {
    parseName(text);
    return true;
  } catch {
    return false;
  }
}
