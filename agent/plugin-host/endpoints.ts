// Endpoints, as a door for other programs may use them: connected, learnt about and let go one by one, where `weft attach`
// does all at once. The records are the same; addresses are reserved before (plugin-addresses.ts).
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';

import { compileEndpoint, hostIfname, transitIfname } from '../../core/compile.js';
import { messageOf } from '../../core/errors.js';
import type { Actual } from '../../core/objects/index.js';
import { plan } from '../../core/plan.js';
import type { PublishRequest } from '../../core/publish.js';
import type { Endpoint, Sandbox } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { ConnectRequest, HostEndpoints } from '../../daemon/plugin-host.js';
import { type EndpointPorts, type Endpoints, isToCome } from '../endpoints/index.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { sameSandbox } from '../reconcile/index.js';

/** Milliseconds after a container's end was moved inside, when its engine mostly is done; the second time for a slow one. */
const LOOK_MS = [800, 3000] as const;
/** A namespace that has not come by now does not come any more. */
const COMES_MS = 60_000;
/** Milliseconds after Join. An engine is done by then, and what is missing inside has been taken away by somebody. */
const DONE_MS = 30_000;

/** What the endpoints of a door rest on. */
export interface PluginEndpointsParts {
  kernel: Kernel;
  log: Logger;
  node: string;
  memberships: Pick<Memberships, 'get'>;
  endpoints: Pick<Endpoints, 'list' | 'get' | 'connect' | 'disconnect' | 'describe'>;
  endpointPorts: Pick<EndpointPorts, 'publish' | 'unpublish'>;
}

export class PluginEndpoints implements HostEndpoints {
  constructor(private readonly options: PluginEndpointsParts) {}

  list(): Endpoint[] {
    return this.options.endpoints.list().filter(({ door }) => door === 'docker');
  }

  get(id: string): Endpoint | undefined {
    return this.options.endpoints.get(id);
  }

  transit(id: string): string {
    return transitIfname(id);
  }

  async connect(request: ConnectRequest): Promise<void> {
    const { id, network, name, target, mac, ip, ip6 } = request;
    const endpoint: Endpoint = {
      id,
      name,
      explicitName: false,
      network,
      node: this.options.node,
      target,
      sandbox: { path: request.sandbox, cookie: '', bootId: '' },
      ifname: transitIfname(id),
      hostIfname: hostIfname(id),
      mac,
      ip,
      ...(ip6 !== undefined && { ip6 }),
      defaultRoute: false,
      aliases: [],
      publish: [],
      door: 'docker',
      createdAt: new Date().toISOString(),
    };
    await this.options.endpoints.connect(endpoint);
  }

  disconnect(id: string): Promise<void> {
    return this.options.endpoints.disconnect(id);
  }

  async describe(id: string, about: Parameters<HostEndpoints['describe']>[1]): Promise<void> {
    await this.options.endpoints.describe(id, { ...about, ...(await this.#inside(id, about)) });
  }

  async publish(
    id: string,
    ports: readonly PublishRequest[],
    about: Pick<Endpoint, 'defaultRoute'>,
  ): Promise<void> {
    if (ports.length > 0)
      await this.options.endpointPorts.publish(id, { publish: [...ports], everywhere: false }, about);
  }

  async unpublish(id: string): Promise<void> {
    const there = this.get(id);
    if (there !== undefined && there.publish.length > 0)
      await this.options.endpointPorts.unpublish(id, () => true);
  }

  isAlive(id: string, comesWithinMs = COMES_MS): boolean | undefined {
    const endpoint = this.get(id);
    if (endpoint === undefined) return false;
    let now: Sandbox | undefined;
    try {
      now = this.options.kernel.identify(endpoint.sandbox.path);
    } catch {
      return undefined;
    }
    if (isToCome(endpoint)) {
      if (now !== undefined) return true;
      // An agent in a container that is not shown where Docker keeps namespaces knows nothing of them.
      if (!existsSync(dirname(endpoint.sandbox.path))) return undefined;
      return Date.now() - Date.parse(endpoint.createdAt) < comesWithinMs ? undefined : false;
    }
    return now !== undefined && sameSandbox(now, endpoint.sandbox);
  }

  /** Whoever moves a container's end inside goes on to name it; then it is looked for there. */
  movedIn(names: readonly string[]): void {
    for (const { id } of this.options.endpoints.list().filter(isToCome)) {
      if (!names.includes(transitIfname(id))) continue;
      const look = (): void => {
        this.lookInside(id).catch((error: unknown) => {
          this.options.log.debug('could not look inside yet', { id, error: messageOf(error) });
        });
      };
      for (const ms of LOOK_MS) setTimeout(look, ms).unref();
    }
  }

  async lookInside(id: string): Promise<void> {
    const found = await this.#inside(id);
    if (found !== undefined) await this.options.endpoints.describe(id, found);
  }

  /**
   * Where the container's end has come to, and what it is called there; undefined where that is known, or not to be seen
   * yet, or where the engine is still at work inside: what weft put there would be in its way (EEXIST).
   */
  async #inside(
    id: string,
    about: Partial<Endpoint> = {},
  ): Promise<Pick<Endpoint, 'sandbox' | 'ifname'> | undefined> {
    const endpoint = this.get(id);
    if (endpoint === undefined || !isToCome(endpoint)) return undefined;
    const { path } = endpoint.sandbox;
    if (this.options.kernel.identify(path) === undefined) return undefined;
    const { namespace, sandbox, isNode } = await this.options.kernel.openNamespace(path);
    try {
      if (isNode) return undefined;
      const actual = await namespace.observe([]);
      for (const { object, owned } of actual.objects.values()) {
        if (object.kind !== 'link' || object.type !== 'peer' || !owned || object.mac !== endpoint.mac)
          continue;
        if (object.name.startsWith(transitIfname(id))) continue;
        const found = { sandbox, ifname: object.name };
        return this.#isDone({ ...endpoint, ...about, ...found }, actual) ? found : undefined;
      }
      return undefined;
    } finally {
      namespace.close();
    }
  }

  /** Docker puts the same inside as weft would: it is done when nothing is left to do. */
  #isDone(endpoint: Endpoint, actual: Actual): boolean {
    const membership = this.options.memberships.get(endpoint.network);
    if (membership === undefined || Date.now() - Date.parse(endpoint.createdAt) > DONE_MS) return true;
    const { steps, conflicts } = plan(actual, compileEndpoint(membership, endpoint).container, {
      prune: false,
    });
    return steps.length === 0 && conflicts.length === 0;
  }
}
