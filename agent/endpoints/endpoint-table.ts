// Endpoints of this node in memory, by id and by manager's key.
import type { ForeignKey } from '../../core/manager.js';
import type { Endpoint, Sandbox } from '../../core/records.js';
import { sameSandbox } from '../reconcile/index.js';

export class EndpointTable {
  readonly #byId = new Map<string, Endpoint>();
  /** Ids by the text of the foreign key. */
  readonly #byKey = new Map<string, string>();

  list(): Endpoint[] {
    return [...this.#byId.values()];
  }

  get(id: string): Endpoint | undefined {
    return this.#byId.get(id);
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** By its manager's key. */
  findByKey(key: ForeignKey): Endpoint | undefined {
    return this.#byId.get(this.#byKey.get(textOf(key)) ?? '');
  }

  /** By its container. */
  find(network: string, sandbox: Sandbox): Endpoint | undefined {
    return this.list().find(
      (endpoint) => endpoint.network === network && sameSandbox(endpoint.sandbox, sandbox),
    );
  }

  set(endpoint: Endpoint): void {
    this.#byId.set(endpoint.id, endpoint);
    if (endpoint.foreignKey !== undefined) this.#byKey.set(textOf(endpoint.foreignKey), endpoint.id);
  }

  delete(id: string): void {
    const key = this.#byId.get(id)?.foreignKey;
    this.#byId.delete(id);
    // A later endpoint may have taken the key.
    if (key !== undefined && this.#byKey.get(textOf(key)) === id) this.#byKey.delete(textOf(key));
  }
}

/** Equal for equal keys: the order of a manager's fields is fixed. */
const textOf = (key: ForeignKey): string =>
  JSON.stringify(
    key.manager === 'docker'
      ? [key.manager, key.network, key.endpoint]
      : [key.manager, key.network, key.containerId, key.ifname],
  );

/** Whether the container's namespace does not exist yet. */
export const isToCome = (endpoint: Endpoint): boolean => endpoint.sandbox.cookie === '';

/**
 * Whether two endpoints are of one container. Before there is a namespace its path is all that is known; later a path may lead
 * to another container than before.
 */
export const inOneSandbox = (a: Endpoint, b: Endpoint): boolean =>
  a.id !== b.id &&
  (isToCome(a) || isToCome(b) ? a.sandbox.path === b.sandbox.path : sameSandbox(a.sandbox, b.sandbox));
