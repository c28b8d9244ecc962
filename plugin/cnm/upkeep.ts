// Periodic comparison of the plugin's records with Docker.
//
// Docker does not pass names and aliases of containers to the plugin, nor where an interface was moved, and may delete
// containers and networks without a call. Runs in the background, after an event of Docker's and every 10 seconds. An absent
// object is removed when it is absent in two comparisons.
import { IpAddress } from '../../core/address.js';
import { messageOf } from '../../core/errors.js';
import { labelsIn } from '../../core/labels.js';
import { isName } from '../../core/network.js';
import type { PluginHost } from '../../daemon/plugin-host.js';
import type { DockerEvents } from './docker-events.js';
import type { DockerEndpoints } from './endpoint.js';
import { ageOf, isAddressOf, type DockerEndpoint, type PluginState } from './plugin-state.js';
import type { Networks } from './network.js';

export interface UpkeepOptions {
  host: PluginHost;
  state: PluginState;
  networks: Networks;
  endpoints: DockerEndpoints;
  events: DockerEvents;
  everyMs?: number;
}

const EVERY_MS = 10_000;
/** Lets Docker finish first: the findings are not urgent. */
const SOON_MS = 2_000;
/** Docker may still be at work on younger records. */
const SETTLED_MS = 20_000;
/** For an endpoint without a record: after the plugin's restart no call of Docker's is in progress. */
const FORGOTTEN_MS = 10_000;
/** Age at which an address without an endpoint is released; a pool without a network is kept ten times as long. */
const ORPHAN_MS = 60_000;

/** Objects that are absent, by id. */
interface Absent {
  endpoints: Set<string>;
  /** Endpoints without a record of the plugin. */
  forgotten: Set<string>;
  networks: Set<string>;
}

const nothing = (): Absent => ({ endpoints: new Set(), forgotten: new Set(), networks: new Set() });

export class Upkeep {
  #suspects: Absent = nothing();
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
        this.options.host.log.debug('the comparison with Docker failed', { error: messageOf(error) }),
      )
      .finally(() => (this.#running = undefined));
  }

  async #look(): Promise<void> {
    const { state, host, networks } = this.options;
    for (const { id } of host.endpoints.list()) await host.endpoints.lookInside(id);
    const absent = await this.#unknownToDocker();
    for (const id of this.#withoutSandbox()) absent.endpoints.add(id);
    for (const id of this.#forgotten()) absent.forgotten.add(id);
    const before = this.#suspects;
    this.#suspects = absent;
    for (const id of absent.endpoints) {
      const endpoint = before.endpoints.has(id) ? state.endpoints.get(id) : undefined;
      if (endpoint !== undefined) await this.options.endpoints.forget(endpoint);
    }
    for (const id of absent.forgotten) if (before.forgotten.has(id)) await host.endpoints.disconnect(id);
    for (const id of absent.networks) if (before.networks.has(id)) await networks.delete(id);
    for (const network of state.networks.list())
      if (network.state === 'leaving') await networks.delete(network.id);
    this.#sweepOrphans();
    await this.#setAside();
    await this.#learnNames();
  }

  /** Endpoints whose container's namespace existed and was deleted. */
  #withoutSandbox(): string[] {
    const { state, host } = this.options;
    return state.endpoints
      .list()
      .filter(({ id, endpoint }) => state.joined.has(id) && host.endpoints.isAlive(endpoint) === false)
      .map(({ id }) => id);
  }

  /** The same for endpoints whose records were lost, so that Docker's calls about them had no effect. */
  #forgotten(): string[] {
    const { state, host } = this.options;
    const known = new Set(state.endpoints.list().map(({ endpoint }) => endpoint));
    return host.endpoints
      .list()
      .filter(({ id }) => !known.has(id) && host.endpoints.isAlive(id, FORGOTTEN_MS) === false)
      .map(({ id }) => id);
  }

  /** Records that Docker does not have; empty while Docker does not answer. */
  async #unknownToDocker(): Promise<Absent> {
    const { state, events } = this.options;
    const found = nothing();
    if (!events.connected || state.networks.list().length === 0) return found;
    const there = await events.networks();
    for (const record of state.networks.list()) {
      if (!there.has(record.id)) {
        if (ageOf(record) > SETTLED_MS) found.networks.add(record.id);
        continue;
      }
      const old = state.endpointsOf(record.id).filter((endpoint) => ageOf(endpoint) > SETTLED_MS);
      const running = old.length === 0 ? undefined : (await events.network(record.id))?.endpoints;
      for (const { id } of old) if (running?.has(id) === false) found.endpoints.add(id);
    }
    return found;
  }

  #sweepOrphans(): void {
    const { state, host } = this.options;
    for (const reservation of host.addresses.list()) {
      const ip = reservation.ip.split('/')[0] ?? '';
      const isUsed = state.endpoints.list().some((endpoint) => isAddressOf(endpoint, ip));
      if (!isUsed && ageOf(reservation) > ORPHAN_MS) host.addresses.release(reservation.network, ip);
    }
    for (const pool of state.pools.list()) {
      const owner = pool.network === undefined ? undefined : state.networks.get(pool.network);
      if (owner === undefined && ageOf(pool) > 10 * ORPHAN_MS) state.pools.delete(pool.id);
    }
  }

  /** Sets addresses aside again that another host may have released. */
  async #setAside(): Promise<void> {
    const { state, host } = this.options;
    for (const network of state.networks.list()) {
      if (network.state !== 'ready' || network.network === undefined) continue;
      for (const { aux } of state.poolsOf(network)) {
        for (const ip of aux) await host.addresses.setAside(network.network, IpAddress.parse(ip));
      }
    }
  }

  async #learnNames(): Promise<void> {
    const { events } = this.options;
    if (!events.connected) return;
    for (const id of new Set(this.#unlearnt().map(({ network }) => network))) {
      for (const container of (await events.network(id))?.containers ?? []) await this.learn(container);
    }
  }

  /** Endpoints whose container's name or labels are not known. */
  #unlearnt(): DockerEndpoint[] {
    const { state, host } = this.options;
    const isUnlabelled = ({ endpoint }: DockerEndpoint): boolean => {
      const there = host.endpoints.get(endpoint);
      return there !== undefined && there.labels === undefined;
    };
    return [...new Set([...state.unnamed(), ...state.endpoints.list().filter(isUnlabelled)])];
  }

  /** Asks only if something is missing: Docker is starting the container meanwhile. */
  async learnMissed(container: string): Promise<void> {
    if (this.#unlearnt().length > 0) await this.learn(container);
  }

  /** Asks Docker for a container's name, labels, and aliases on its networks, after an event. */
  async learn(container: string): Promise<void> {
    const { state, host, events } = this.options;
    if (state.endpoints.list().length === 0) return;
    try {
      for (const { name, endpoint: id, aliases, labels } of await events.container(container)) {
        const record = state.endpoints.get(id);
        if (record === undefined) continue;
        await host.endpoints.describe(record.endpoint, {
          name,
          target: `docker:${name}`,
          aliases: aliases.filter(isName),
          labels: labelsIn(labels),
        });
        if (!record.named) state.endpoints.put({ ...record, named: true });
      }
    } catch (error) {
      host.log.debug('could not learn a container’s name yet', { container, error: messageOf(error) });
    }
  }
}
