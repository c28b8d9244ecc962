// Which endpoints have their containers' default route.
//
// Docker sets it while it starts or stops a container, and waits for the answer. It is saved after Docker has gone on, and not
// at all if the container was stopped meanwhile.
import { messageOf } from '../../core/errors.js';
import type { PluginHost } from '../../daemon/plugin-host.js';

/** Docker has set it by then: weft puts back a default route that it knows of and that is missing. */
const WRITE_AFTER_MS = 600;

export class WayOut {
  readonly #toWrite = new Map<string, { defaultRoute: boolean; timer: NodeJS.Timeout }>();

  constructor(private readonly host: PluginHost) {}

  /** @param endpoint weft's id */
  set(endpoint: string, defaultRoute: boolean): void {
    this.drop(endpoint);
    const timer = setTimeout(() => void this.#write(endpoint), WRITE_AFTER_MS);
    this.#toWrite.set(endpoint, { defaultRoute, timer });
  }

  drop(endpoint: string): void {
    clearTimeout(this.#toWrite.get(endpoint)?.timer);
    this.#toWrite.delete(endpoint);
  }

  /** Saves what is pending. */
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
      host.log.warn('could not save a default route', { endpoint, error: messageOf(error) });
    }
  }
}
