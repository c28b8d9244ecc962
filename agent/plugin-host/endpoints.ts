// Endpoints for plugins: attach in one call, or connect step by step.
//
// `attach` needs an existing namespace. Otherwise an endpoint is connected, described and disconnected on reserved addresses
// (addresses.ts). The records are those of `weft attach`.
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';

import { hostIfname, RESOLVER_IP, transitIfname } from '../../core/compile.js';
import { messageOf } from '../../core/errors.js';
import type { Manager } from '../../core/manager.js';
import type { Actual } from '../../core/objects/index.js';
import { describeStep, plan } from '../../core/plan.js';
import type { Endpoint, Sandbox } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { ConnectRequest, HostEndpoints } from '../../daemon/plugin-host.js';
import { type Attacher, type EndpointPorts, type Endpoints, isToCome } from '../endpoints/index.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { type Reconciler, sameSandbox } from '../reconcile/index.js';
import { viewOf } from './container-view.js';

/**
 * Milliseconds between looks at a container's link that was moved inside: the kernel tells of nothing in there, and an address
 * that has moved is announced once its manager is done.
 */
const LOOK_EVERY_MS = 100;
/** Slow managers are done by then. */
const LOOK_FOR_MS = 3000;
/** After this a namespace that does not exist is not expected any more. */
const COMES_MS = 60_000;
/** After the endpoint was made. Its manager is done by then, and a missing object was deleted. */
const DONE_MS = 30_000;

export interface PluginEndpointsParts {
  kernel: Kernel;
  log: Logger;
  node: string;
  memberships: Pick<Memberships, 'get'>;
  endpoints: Pick<
    Endpoints,
    'list' | 'get' | 'findByKey' | 'disconnect' | 'describe' | 'resolves' | 'compile'
  >;
  attacher: Pick<Attacher, 'attach' | 'connect'>;
  reconciler: Pick<Reconciler, 'compare'>;
  /** Whether this node answers names. */
  servesNames: boolean;
  endpointPorts: Pick<EndpointPorts, 'publish' | 'unpublish'>;
}

export class PluginEndpoints {
  /** Endpoints whose link was just moved inside. */
  readonly #looking = new Set<string>();

  constructor(private readonly options: PluginEndpointsParts) {}

  /** The endpoints as one manager's plugin sees them. */
  of(manager: Manager): HostEndpoints {
    const { endpoints, attacher } = this.options;
    const get = (id: string): Endpoint | undefined => {
      const found = endpoints.get(id);
      return found?.manager === manager ? found : undefined;
    };
    return {
      list: () => endpoints.list().filter((endpoint) => endpoint.manager === manager),
      get,
      find: (key) => endpoints.findByKey(key),
      attach: ({ key, sandbox, ...request }, signal) =>
        attacher.attach(
          { ...request, target: `netns:${sandbox}`, dns: false, everywhere: false },
          { key, signal },
        ),
      connect: (request) => this.#connect(manager, request),
      view: (id) => {
        const endpoint = get(id);
        const membership = endpoint && this.options.memberships.get(endpoint.network);
        if (endpoint === undefined || membership === undefined) return undefined;
        const compiled = endpoints.compile(membership, endpoint);
        return viewOf({ membership, endpoint, compiled, servesNames: this.options.servesNames });
      },
      repair: async (id) => {
        if (get(id) === undefined || (await this.#missing(id)).length === 0) return [];
        await this.options.reconciler.compare('asked');
        return this.#missing(id);
      },
      transit: transitIfname,
      resolver: (id) => {
        const endpoint = get(id);
        return endpoint !== undefined && endpoints.resolves(endpoint) ? RESOLVER_IP : undefined;
      },
      disconnect: async (id) => {
        if (get(id) !== undefined) await endpoints.disconnect(id);
      },
      describe: (id, about) => this.#describe(id, about),
      publish: async (id, ports, about) => {
        if (ports.length === 0) return;
        await this.options.endpointPorts.publish(id, { publish: [...ports], everywhere: false }, { about });
      },
      unpublish: async (id) => {
        const open = get(id)?.publish ?? [];
        if (open.length > 0) await this.options.endpointPorts.unpublish(id, () => true);
      },
      lookInside: (id) => this.#lookInside(id),
      isAlive: (id, comesWithinMs) => this.#isAlive(get(id), comesWithinMs),
    };
  }

  async #connect(manager: Manager, request: ConnectRequest): Promise<void> {
    const { id, key, network, name, target, mac, ip, ip6 } = request;
    await this.options.attacher.connect({
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
      ...(request.allowedAddresses !== undefined && {
        allowedAddresses: [...request.allowedAddresses],
      }),
      publish: [],
      manager,
      foreignKey: key,
      createdAt: new Date().toISOString(),
    });
  }

  async #describe(id: string, about: Parameters<HostEndpoints['describe']>[1]): Promise<void> {
    await this.options.endpoints.describe(id, { ...about, ...(await this.#inside(id, about)) });
  }

  /** What the container lacks of an endpoint, in words. */
  async #missing(id: string): Promise<string[]> {
    const { kernel, memberships, endpoints } = this.options;
    const endpoint = endpoints.get(id);
    const membership = endpoint && memberships.get(endpoint.network);
    if (endpoint === undefined || membership === undefined) return ['the endpoint'];
    const { namespace } = await kernel.openNamespace(endpoint.sandbox.path);
    try {
      // Settings belong to the container, too.
      const wanted = endpoints
        .compile(membership, endpoint)
        .container.filter(({ kind }) => kind !== 'sysctl');
      const { steps, conflicts } = plan(await namespace.observe([]), wanted, { prune: false });
      return [...steps.map((step) => describeStep(step).what), ...conflicts.map(({ why }) => why)];
    } finally {
      namespace.close();
    }
  }

  #isAlive(endpoint: Endpoint | undefined, comesWithinMs = COMES_MS): boolean | undefined {
    if (endpoint === undefined) return false;
    let now: Sandbox | undefined;
    try {
      now = this.options.kernel.identify(endpoint.sandbox.path);
    } catch {
      return undefined;
    }
    if (isToCome(endpoint)) {
      if (now !== undefined) return true;
      // An agent in a container may not see the manager's folder of namespaces.
      if (!existsSync(dirname(endpoint.sandbox.path))) return undefined;
      return Date.now() - Date.parse(endpoint.createdAt) < comesWithinMs ? undefined : false;
    }
    return now !== undefined && sameSandbox(now, endpoint.sandbox);
  }

  /** A manager renames and configures a container's link after it has moved it inside: look until it has. */
  movedIn(names: readonly string[]): void {
    for (const { id } of this.options.endpoints.list().filter(isToCome)) {
      if (!names.includes(transitIfname(id)) || this.#looking.has(id)) continue;
      this.#looking.add(id);
      void this.#lookOften(id).finally(() => this.#looking.delete(id));
    }
  }

  async #lookOften(id: string): Promise<void> {
    for (let ms = 0; ms < LOOK_FOR_MS; ms += LOOK_EVERY_MS) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS).unref());
      const endpoint = this.options.endpoints.get(id);
      if (endpoint === undefined || !isToCome(endpoint)) return;
      await this.#lookInside(id).catch((error: unknown) => {
        this.options.log.debug('could not look inside yet', { id, error: messageOf(error) });
      });
    }
  }

  async #lookInside(id: string): Promise<void> {
    const found = await this.#inside(id);
    if (found !== undefined) await this.options.endpoints.describe(id, found);
  }

  /**
   * Namespace and name of the container's link. Undefined if they are known already or not visible yet, or if the manager still
   * configures the link: an object that weft added would make it fail with EEXIST.
   */
  async #inside(
    id: string,
    about: Partial<Endpoint> = {},
  ): Promise<Pick<Endpoint, 'sandbox' | 'ifname'> | undefined> {
    const endpoint = this.options.endpoints.get(id);
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

  /** The manager configures the same objects as weft would: it is done when the plan is empty. */
  #isDone(endpoint: Endpoint, actual: Actual): boolean {
    const membership = this.options.memberships.get(endpoint.network);
    if (membership === undefined || Date.now() - Date.parse(endpoint.createdAt) > DONE_MS) return true;
    const { container } = this.options.endpoints.compile(membership, endpoint);
    // Settings were not observed, and fail no other program.
    const objects = container.filter(({ kind }) => kind !== 'sysctl');
    const { steps, conflicts } = plan(actual, objects, { prune: false });
    return steps.length === 0 && conflicts.length === 0;
  }
}
