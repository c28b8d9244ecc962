// Docker's events and API: names and existence of networks and containers.
//
// A plugin call does not carry the names, and Docker answers no question while it waits for the plugin. All of this runs in
// the background: the plugin works without it.
import { setTimeout as delay } from 'node:timers/promises';

import * as z from 'zod';

import { messageOf } from '../../core/errors.js';
import { askEngine, streamEngine } from '../../daemon/engine.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import type { PluginHost } from '../../daemon/plugin-host.js';
import { PLUGIN } from './plugin-state.js';

/** A container's endpoint on one network, as Docker reports it. */
export interface ConnectedContainer {
  container: string;
  name: string;
  /** Docker's id of the endpoint. */
  endpoint: string;
  aliases: string[];
  labels: Readonly<Record<string, string>>;
}

const event = z.object({
  Type: z.string(),
  Action: z.string(),
  Actor: z.object({ ID: z.string(), Attributes: z.record(z.string(), z.string()).nullish() }),
});
const networkList = z.array(z.object({ Id: z.string(), Name: z.string() }));
const network = z.object({
  Name: z.string(),
  Containers: z
    .record(z.string(), z.object({ Name: z.string(), EndpointID: z.string() }))
    .nullish()
    .transform((value) => value ?? {}),
});
const container = z.object({
  Id: z.string(),
  Name: z.string(),
  Config: z.object({ Labels: z.record(z.string(), z.string()).nullish() }).nullish(),
  NetworkSettings: z.object({
    Networks: z
      .record(z.string(), z.object({ EndpointID: z.string(), Aliases: z.array(z.string()).nullish() }))
      .nullish()
      .transform((value) => value ?? {}),
  }),
});

const AGAIN_MS = 1_000;
/** A restart of Docker is shorter, without containers that it must wait for. */
const AWAY_MS = 5_000;
/** The event of a network's creation has its name, and follows the answer at once. */
const NAME_MS = 2_000;
const KEEP_NAMES = 1_000;

export interface DockerEventsOptions {
  host: PluginHost;
  engine: EngineAddress;
  /** A container was connected to a network, or renamed. */
  onContainer: (id: string) => void;
  /** A container has started; its networks were reported before. */
  onStarted: (id: string) => void;
  /** Whether Docker has networks of weft's. */
  isUsed: () => boolean;
  /** Something was removed, or the stream was interrupted: compare with what Docker has. */
  onChange: () => void;
}

export class DockerEvents {
  #connected = false;
  #lostAt = performance.now();
  #why = '';
  readonly #names = new Map<string, string>();
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(private readonly options: DockerEventsOptions) {}

  /** Whether the stream of events is open. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Follows Docker's events until the agent stops, across restarts of Docker. */
  async follow(): Promise<void> {
    const { host, engine, onChange } = this.options;
    const filters = encodeURIComponent(JSON.stringify({ type: ['network', 'container'] }));
    const watch = setInterval(() => this.#report(), AGAIN_MS);
    for (let logged = false; !host.signal.aborted;) {
      try {
        await streamEngine(engine, `/events?filters=${filters}`, {
          signal: host.signal,
          opened: () => {
            this.#connected = true;
            this.#report();
            logged = false;
            onChange();
          },
          line: (text) => this.#line(text),
        });
      } catch (error) {
        if (!logged) host.log.debug('cannot read Docker’s events', { error: messageOf(error) });
        logged = true;
        this.#why = messageOf(error);
      }
      if (this.#connected) this.#lostAt = performance.now();
      this.#connected = false;
      await delay(AGAIN_MS, undefined, { signal: host.signal }).catch(() => undefined);
    }
    clearInterval(watch);
  }

  /** A problem as long as Docker uses weft and cannot be asked; its own restart is none. */
  #report(): void {
    const { host, isUsed } = this.options;
    const isAway = !this.#connected && performance.now() - this.#lostAt > AWAY_MS;
    host.problem(
      { plugin: PLUGIN, kind: 'plugin-engine' },
      isAway && isUsed()
        ? {
            what: 'Docker’s API',
            why: `${this.#why === '' ? 'it has not answered yet' : this.#why}; until it is read, containers have ids for names, and a new network its subnet`,
            fix: 'Start Docker, or give the agent its socket with --docker.',
          }
        : undefined,
    );
  }

  #line(text: string): void {
    const parsed = event.safeParse(tryJson(text));
    if (!parsed.success) return;
    const { Type, Action, Actor } = parsed.data;
    const attributes = Actor.Attributes ?? {};
    if (Type === 'network' && Action === 'create' && attributes['name'] !== undefined) {
      this.#learn(Actor.ID, attributes['name']);
    } else if (Type === 'network' && Action === 'connect') {
      if (attributes['container'] !== undefined) this.options.onContainer(attributes['container']);
    } else if (Type === 'container' && Action === 'rename') this.options.onContainer(Actor.ID);
    else if (Type === 'container' && Action === 'start') this.options.onStarted(Actor.ID);
    else if (['destroy', 'remove', 'die', 'disconnect'].includes(Action)) this.options.onChange();
  }

  #learn(id: string, name: string): void {
    if (this.#names.size >= KEEP_NAMES) this.#names.clear();
    this.#names.set(id, name);
    for (const done of this.#waiting.get(id) ?? []) done();
  }

  /** Docker's name of a network that it has just made; asked for if the event does not arrive. */
  async nameOf(id: string): Promise<string | undefined> {
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting);
    if (!this.#names.has(id) && this.#connected) {
      await new Promise<void>((resolve) => {
        waiting.add(resolve);
        setTimeout(resolve, NAME_MS).unref();
      });
    }
    this.#waiting.delete(id);
    return this.#names.get(id) ?? (await this.network(id).catch(() => undefined))?.name;
  }

  /** Ids of Docker's networks. @throws WeftError UNAVAILABLE */
  async networks(): Promise<Set<string>> {
    const found = networkList.parse(await this.#ask('/networks'));
    return new Set(found.map(({ Id }) => Id));
  }

  /** A network with the endpoints of its running containers; undefined if Docker has no network of that id. */
  async network(
    id: string,
  ): Promise<{ name: string; endpoints: Set<string>; containers: string[] } | undefined> {
    const answer = await this.#ask(`/networks/${encodeURIComponent(id)}`);
    if (answer === undefined) return undefined;
    const { Name, Containers } = network.parse(answer);
    const endpoints = new Set(Object.values(Containers).map(({ EndpointID }) => EndpointID));
    return { name: Name, endpoints, containers: Object.keys(Containers) };
  }

  async container(id: string): Promise<ConnectedContainer[]> {
    const answer = await this.#ask(`/containers/${encodeURIComponent(id)}/json`);
    if (answer === undefined) return [];
    const { Id, Name, Config, NetworkSettings } = container.parse(answer);
    return Object.values(NetworkSettings.Networks).map(({ EndpointID, Aliases }) => ({
      container: Id,
      name: Name.replace(/^\//, ''),
      endpoint: EndpointID,
      aliases: Aliases ?? [],
      labels: Config?.Labels ?? {},
    }));
  }

  /** Undefined for 404. */
  async #ask(path: string): Promise<unknown> {
    const { status, body } = await askEngine(this.options.engine, path);
    if (status === 404) return undefined;
    if (status !== 200) throw new Error(`Docker answered ${status} for ${path}: ${body.slice(0, 200)}`);
    return JSON.parse(body) as unknown;
  }
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
