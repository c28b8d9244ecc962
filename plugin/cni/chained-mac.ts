// The MAC address that a plugin chained after weft gave the container's interface (CNI's `tuning`).
//
// Port security binds it only where the runtime says so, since a container can change its address as well. weft's ADD has ended
// by then: libcni keeps the result of the whole chain in a folder of root's. Other runtimes say it by CHECK.
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import * as z from 'zod';

import { parseMac } from '../../core/address.js';
import { messageOf } from '../../core/errors.js';
import type { Endpoint } from '../../core/records.js';
import type { PluginHost } from '../../daemon/plugin-host.js';
import { RESULT, type Conf } from './request.js';

/** Of libcni, whose runtimes seldom choose another. */
const RESULTS = '/var/lib/cni/results';
/** Plugins take a few milliseconds each, and a container starts after the last. */
const LOOK_EVERY_MS = 50;
const LOOK_FOR_MS = 10_000;

const kept = z.object({ kind: z.literal('cniCacheV1'), result: RESULT });

export class ChainedMac {
  readonly #stopped = new AbortController();

  constructor(
    private readonly host: Pick<PluginHost, 'endpoints' | 'log'>,
    private readonly folder = RESULTS,
  ) {}

  stop(): void {
    this.#stopped.abort();
  }

  /** Takes what was said while the agent was away. */
  async resume(): Promise<void> {
    for (const endpoint of this.host.endpoints.list()) await this.#look(endpoint);
  }

  /** After an ADD: looks until the chain has ended. */
  async follow(endpoint: Endpoint): Promise<void> {
    for (let ms = 0; ms < LOOK_FOR_MS; ms += LOOK_EVERY_MS) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS).unref());
      if (this.#stopped.signal.aborted || this.host.endpoints.get(endpoint.id) === undefined) return;
      if (await this.#look(endpoint)) return;
    }
  }

  /** Binds the address that a result of the chain has. */
  async take({ id, ifname, mac }: Endpoint, result: Conf['prevResult']): Promise<void> {
    const said = result?.interfaces?.find(({ name, sandbox }) => name === ifname && sandbox)?.mac;
    if (said === undefined) return;
    try {
      const chained = parseMac(said);
      if (chained !== mac) await this.host.endpoints.describe(id, { mac: chained });
    } catch (error) {
      this.host.log.warn('the MAC address that a chained plugin set is not bound', {
        ...{ id, mac: said, error: messageOf(error) },
      });
    }
  }

  /** @returns whether libcni has the result */
  async #look(endpoint: Endpoint): Promise<boolean> {
    const { foreignKey: key, createdAt } = endpoint;
    if (key?.manager !== 'cni') return true;
    const file = join(this.folder, `${key.network}-${key.containerId}-${key.ifname}`);
    try {
      // One of an earlier container of the same id stays where its runtime was killed.
      if ((await stat(file)).mtimeMs < Date.parse(createdAt)) return false;
      const { result } = kept.parse(JSON.parse(await readFile(file, 'utf8')));
      await this.take(endpoint, result);
      return true;
    } catch {
      // Not there, or not written to its end.
      return false;
    }
  }
}
