// The endpoints of this node in memory, by id.
import type { Endpoint, Sandbox } from '../../core/records.js';
import { sameSandbox } from '../reconcile/index.js';

export class EndpointTable {
  readonly #byId = new Map<string, Endpoint>();

  list(): Endpoint[] {
    return [...this.#byId.values()];
  }

  get(id: string): Endpoint | undefined {
    return this.#byId.get(id);
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** By its container. */
  find(network: string, sandbox: Sandbox): Endpoint | undefined {
    return this.list().find(
      (endpoint) => endpoint.network === network && sameSandbox(endpoint.sandbox, sandbox),
    );
  }

  set(endpoint: Endpoint): void {
    this.#byId.set(endpoint.id, endpoint);
  }

  delete(id: string): void {
    this.#byId.delete(id);
  }
}
