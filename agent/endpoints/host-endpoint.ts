// The host's own endpoint on a network.
//
// `weft expose` makes it and `weft hide` removes it. Its address is on the bridge, where other endpoints have a veth pair. It
// is saved and published like any other endpoint.
import { HOST_TARGET, isHost } from '../../core/compile.js';
import { addressingOf, driverOf, type Driver } from '../../core/drivers/index.js';
import { failedPrecondition, notFound } from '../../core/errors.js';
import type { KernelObject } from '../../core/objects/index.js';
import { describeStep } from '../../core/plan.js';
import { newId, type Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Addresses } from './addresses.js';
import { checkAddresses, checkSame, type AttachRequest } from './attach-request.js';
import { takeAddresses } from './endpoint-addresses.js';
import { recordOf, type Endpoints } from './endpoints.js';
import { establish } from './establish.js';
import type { Kernel } from '../kernel/index.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import type { Memberships } from '../networks/index.js';
import type { Publisher } from './publisher.js';
import type { Reconciler } from '../reconcile/index.js';
import { allOrNothing, type Rollback } from '../../daemon/rollback.js';

export interface HostEndpointOptions {
  kernel: Kernel;
  reconciler: Reconciler;
  memberships: Memberships;
  endpoints: Endpoints;
  addresses: Addresses;
  publisher: Publisher;
  log: Logger;
  node: string;
}

type HostLink = NonNullable<ReturnType<Driver['hostLink']>>;

/** Network namespace of the calling process. */
const OWN_NAMESPACE = '/proc/self/ns/net';

export class HostEndpoint {
  readonly #locks = new KeyedMutex();

  constructor(private readonly options: HostEndpointOptions) {}

  /**
   * A repeated call returns the existing endpoint.
   * @throws WeftError, or the signal's reason; then nothing was changed
   */
  expose(request: AttachRequest, signal?: AbortSignal): Promise<Endpoint> {
    return this.#locks.run(request.network, () => this.#expose(request, signal));
  }

  async #expose(request: AttachRequest, signal: AbortSignal | undefined): Promise<Endpoint> {
    signal?.throwIfAborted();
    const there = this.#hostOn(request.network);
    if (there !== undefined) {
      checkSame(request, there);
      return there;
    }
    const { memberships, addresses, log } = this.options;
    const known = memberships.known(request.network);
    if (known !== undefined && addressingOf(known) !== 'subnets') throw notExposed(known.name, known.driver);
    const membership = await memberships.join(request.network, { signal });
    const link = driverOf(membership.network).hostLink(membership);
    if (link === undefined) throw notExposed(request.network, membership.network.driver);
    checkAddresses(request, membership.network);
    const id = newId();
    return allOrNothing(log, id, async (rollback) => {
      const given = await takeAddresses(addresses, { membership, id, request }, rollback, signal);
      const endpoint: Endpoint = { ...this.#bare(request, link, id), ...given };
      return establish(this.options, {
        ...{ membership, endpoint, rollback, signal },
        program: ({ host }) => this.#program(endpoint, host, rollback),
      });
    });
  }

  #bare(request: AttachRequest, link: HostLink, id: string): Omit<Endpoint, 'ip' | 'ip6'> {
    const { kernel, node } = this.options;
    const sandbox = kernel.identify(OWN_NAMESPACE);
    if (sandbox === undefined) throw new Error(`${OWN_NAMESPACE} cannot be opened`);
    return {
      id,
      name: request.name ?? node,
      explicitName: request.name !== undefined,
      network: request.network,
      node,
      target: HOST_TARGET,
      sandbox,
      ifname: link.name,
      hostIfname: link.name,
      mac: link.mac,
      defaultRoute: false,
      aliases: request.aliases,
      publish: [],
      manager: 'weft',
      createdAt: new Date().toISOString(),
    };
  }

  async #program(endpoint: Endpoint, host: readonly KernelObject[], rollback: Rollback): Promise<void> {
    const { reconciler, memberships } = this.options;
    const [failure] = await reconciler.set([[recordOf(endpoint), host]]);
    if (failure !== undefined) {
      throw failedPrecondition(
        `the kernel refused ${describeStep(failure.step).what}: ${failure.message}`,
        'See `weft status` for other problems of this node.',
      );
    }
    // After the address: a route needs its source address to exist.
    rollback.add(() => memberships.expose(endpoint.network, undefined));
    await memberships.expose(endpoint.network, endpoint);
  }

  /** @throws WeftError NOT_FOUND; the signal's reason before anything is removed */
  hide(network: string, signal?: AbortSignal): Promise<Endpoint> {
    return this.#locks.run(network, async () => {
      signal?.throwIfAborted();
      const there = this.#hostOn(network);
      if (there === undefined) {
        throw notFound(
          `this host is not exposed to network ${network}`,
          'See `weft endpoint ls` for its endpoints.',
        );
      }
      await this.options.endpoints.remove(there);
      return there;
    });
  }

  #hostOn(network: string): Endpoint | undefined {
    return this.options.endpoints.list().find((endpoint) => endpoint.network === network && isHost(endpoint));
  }
}

function notExposed(network: string, driver: string): Error {
  return failedPrecondition(
    `network ${network}: a host can be exposed to overlays only, and its driver is ${driver}`,
    'On a bridge network reach the host at the gateway, on a LAN at its own address.',
  );
}
