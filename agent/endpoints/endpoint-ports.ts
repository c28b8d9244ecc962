// Publish and unpublish ports of an endpoint that exists.
//
// Its container keeps running.
import type { Membership } from '../../core/compile.js';
import { familiesIn } from '../../core/families.js';
import { notFound, resourceExhausted, type WeftError } from '../../core/errors.js';
import { MAX_PORTS, satisfies, type PublishRequest } from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import { allOrNothing } from '../../daemon/rollback.js';
import { checkPublishable, type AttachRequest } from './attach-request.js';
import { recordOf, type Endpoints } from './endpoints.js';
import type { Memberships } from '../networks/index.js';
import type { PublishedPorts } from './published-ports.js';
import type { Reconciler } from '../reconcile/index.js';

export interface EndpointPortsOptions {
  endpoints: Endpoints;
  memberships: Memberships;
  ports: PublishedPorts;
  reconciler: Reconciler;
  log: Logger;
}

export interface PublishOptions {
  /** Other changes of the endpoint in the same write. */
  about?: Partial<Pick<Endpoint, 'defaultRoute'>>;
  signal?: AbortSignal | undefined;
}

export class EndpointPorts {
  constructor(private readonly options: EndpointPortsOptions) {}

  /**
   * Opens ports of the host for an endpoint of this node, all or none. Ports that it has already are returned unchanged.
   * @throws WeftError NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION on an internal network, INVALID_ARGUMENT
   */
  async publish(
    id: string,
    { publish: requests, everywhere }: Pick<AttachRequest, 'publish' | 'everywhere'>,
    { about = {}, signal }: PublishOptions = {},
  ): Promise<PublishedPort[]> {
    return this.#change(id, async (there) => {
      signal?.throwIfAborted();
      const membership = await this.options.memberships.join(there.network, { signal });
      checkPublishable(membership.network);
      const had = (request: PublishRequest): PublishedPort | undefined =>
        there.publish.find((published) => satisfies(published, request, everywhere));
      const fresh = requests.filter((request) => had(request) === undefined);
      if (there.publish.length + fresh.length > MAX_PORTS) {
        throw resourceExhausted(
          `endpoint ${there.name} would have ${there.publish.length + fresh.length} ports`,
          `At most ${MAX_PORTS} are allowed.`,
        );
      }
      const { ports, log } = this.options;
      const container = familiesIn(there);
      return allOrNothing(log, id, async (rollback) => {
        const made = await ports.reserve(there, fresh, everywhere, container, signal);
        rollback.add(() => ports.close(id, made));
        const after = { ...there, ...about, publish: [...there.publish, ...made] };
        await ports.open(membership, after, made);
        signal?.throwIfAborted();
        await this.#replace(membership, there, after);
        return [...requests.flatMap((request) => had(request) ?? []), ...made];
      });
    });
  }

  /** Closes ports of an endpoint of this node. @throws WeftError NOT_FOUND if none of them matches */
  async unpublish(
    id: string,
    isMeant: (published: PublishedPort) => boolean,
    signal?: AbortSignal,
  ): Promise<PublishedPort[]> {
    return this.#change(id, async (there) => {
      signal?.throwIfAborted();
      const closed = there.publish.filter(isMeant);
      if (closed.length === 0) {
        throw notFound(
          `endpoint ${there.name} of network ${there.network} has no such port`,
          `See its ports: weft port ls ${there.name}.`,
        );
      }
      const after = { ...there, publish: there.publish.filter((published) => !closed.includes(published)) };
      await this.#replace(this.options.memberships.get(there.network), there, after);
      await this.options.ports.close(id, closed);
      return closed;
    });
  }

  async #change<T>(id: string, change: (there: Endpoint) => Promise<T>): Promise<T> {
    const unknown = (): WeftError =>
      notFound(`there is no endpoint ${id} on this node`, 'See `weft endpoint ls`.');
    const endpoint = this.options.endpoints.get(id);
    if (endpoint === undefined) throw unknown();
    return this.options.endpoints.inTurn(endpoint, async (there) => {
      if (there === undefined) throw unknown();
      return change(there);
    });
  }

  async #replace(membership: Membership | undefined, before: Endpoint, endpoint: Endpoint): Promise<void> {
    this.options.endpoints.put(endpoint);
    // Only the first port and the last one change the endpoint's link.
    if (membership === undefined || before.publish.length > 0 === endpoint.publish.length > 0) return;
    const { host } = this.options.endpoints.compile(membership, endpoint);
    await this.options.reconciler.set([[recordOf(endpoint), host]]);
  }
}
