// Which endpoints are their containers' way out. Docker says so while it starts or stops a container, and waits for the
// answer; it is written down when it has gone on, and of a container that was stopped meanwhile not at all.
import { messageOf } from '../../core/errors.js';
import type { PluginHost } from '../../daemon/plugin-host.js';

/** Milliseconds. Sooner than anybody looks at the routes inside the container (agent/plugin-host/endpoints.ts). */
const WRITE_AFTER_MS = 600;

export class WayOut {
  readonly #toWrite = new Map<string, { defaultRoute: boolean; timer: NodeJS.Timeout }>();

  constructor(private readonly host: PluginHost) {}

  /** @param endpoint weft's id of it */
  set(endpoint: string, defaultRoute: boolean): void {
    this.drop(endpoint);
    const timer = setTimeout(() => void this.#write(endpoint), WRITE_AFTER_MS);
    this.#toWrite.set(endpoint, { defaultRoute, timer });
  }

  drop(endpoint: string): void {
    clearTimeout(this.#toWrite.get(endpoint)?.timer);
    this.#toWrite.delete(endpoint);
  }

  /** Writes what has waited. */
  async stop(): Promise<void> {
    await Promise.all([...this.#toWrite.keys()].map((endpoint) => this.#write(endpoint)));
  }

  async #write(endpoint: string): Promise<void> {
    const { host } = this;
    const defaultRoute = this.#toWrite.get(endpoint)?.defaultRoute;
    this.drop(endpoint);
    if (defaultRoute === undefined) return;
    try {
      await host.endpoints.describe(endpoint, { defaultRoute });
    } catch (error) {
      host.log.warn('could not write down a default route', { endpoint, error: messageOf(error) });
    }
  }
}
