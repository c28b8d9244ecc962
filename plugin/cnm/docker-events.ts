// What Docker tells afterwards, and what can be asked of it while it does not wait: what networks and containers are called,
// and what there still is. Everything here happens in the background: the plugin works without it.
import { setTimeout as delay } from 'node:timers/promises';

import { z } from 'zod';

import { messageOf } from '../../core/errors.js';
import { askEngine, streamEngine } from '../../daemon/engine.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import type { PluginHost } from '../../daemon/plugin-host.js';

/** A container's network, as Docker shows it. */
export interface ConnectedContainer {
  container: string;
  name: string;
  /** Docker's id of the endpoint. */
  endpoint: string;
  aliases: string[];
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
  NetworkSettings: z.object({
    Networks: z
      .record(z.string(), z.object({ EndpointID: z.string(), Aliases: z.array(z.string()).nullish() }))
      .nullish()
      .transform((value) => value ?? {}),
  }),
});

const AGAIN_MS = 1_000;
/** A network's name comes with the event of its creation, which follows the answer at once. */
const NAME_MS = 2_000;
const KEEP_NAMES = 1_000;

export interface DockerEventsOptions {
  host: PluginHost;
  engine: EngineAddress;
  /** A container came to a network, or has another name. */
  onContainer: (id: string) => void;
  /** It runs now; that it came to its networks was told before. */
  onStarted: (id: string) => void;
  /** Something went, or Docker was away: what it still has is worth a look. */
  onChange: () => void;
}

export class DockerEvents {
  #hears = false;
  readonly #names = new Map<string, string>();
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(private readonly options: DockerEventsOptions) {}

  /** Whether Docker's events come in now. */
  get hears(): boolean {
    return this.#hears;
  }

  /** Follows Docker until the agent ends, through every restart of either. */
  async follow(): Promise<void> {
    const { host, engine, onChange } = this.options;
    const filters = encodeURIComponent(JSON.stringify({ type: ['network', 'container'] }));
    for (let told = false; !host.signal.aborted;) {
      try {
        await streamEngine(engine, `/events?filters=${filters}`, {
          signal: host.signal,
          opened: () => {
            this.#hears = true;
            told = false;
            onChange();
          },
          line: (text) => this.#line(text),
        });
      } catch (error) {
        if (!told) host.log.debug('Docker is not heard', { error: messageOf(error) });
        told = true;
      }
      this.#hears = false;
      await delay(AGAIN_MS, undefined, { signal: host.signal }).catch(() => undefined);
    }
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

  /** What Docker calls a network that it has just made; asks for it where the event does not come. */
  async nameOf(id: string): Promise<string | undefined> {
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting);
    if (!this.#names.has(id) && this.#hears) {
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

  /** A network with the endpoints of its running containers; undefined where Docker has none of that id. */
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
    const { Id, Name, NetworkSettings } = container.parse(answer);
    return Object.values(NetworkSettings.Networks).map(({ EndpointID, Aliases }) => ({
      container: Id,
      name: Name.replace(/^\//, ''),
      endpoint: EndpointID,
      aliases: Aliases ?? [],
    }));
  }

  /** Undefined: there is none. */
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
