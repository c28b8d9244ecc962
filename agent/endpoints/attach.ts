// Attach a container to a network, and detach it.
//
// A container is named by the operator's TARGET, or by its manager's key. A failed attach is rolled back.
import { parseInterface } from '../../core/address.js';
import { hostIfname, macOf, ownGateways, type Membership } from '../../core/compile.js';
import { gatewayFor, vlanFor } from '../../core/drivers/index.js';
import { familiesIn, FAMILIES } from '../../core/families.js';
import { failedPrecondition, notFound, WeftError } from '../../core/errors.js';
import type { ForeignKey } from '../../core/manager.js';
import { newId, type Endpoint, type Sandbox } from '../../core/records.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import type { Logger } from '../../daemon/log.js';
import { allOrNothing, type Rollback } from '../../daemon/rollback.js';
import type { Kernel, KernelNamespace } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { type Reconciler, sameSandbox } from '../reconcile/index.js';
import { canonicalForms, inSandbox, resolveTarget, type RunLookup, type Target } from '../targets/index.js';
import type { Addresses } from './addresses.js';
import { checkAddresses, checkPublishable, checkSame, type AttachRequest } from './attach-request.js';
import { lookAtLinks, type ContainerLinks } from './container-interfaces.js';
import { takeAddresses, type PreviousAddresses } from './endpoint-addresses.js';
import { insideOf, recordOf, type Endpoints } from './endpoints.js';
import { establish } from './establish.js';
import { checkOwn } from './managers.js';
import type { PublishedPorts } from './published-ports.js';
import type { Publisher } from './publisher.js';
import type { EndpointResolvConf } from './resolv-conf.js';

export interface AttacherOptions {
  kernel: Kernel;
  reconciler: Reconciler;
  memberships: Memberships;
  endpoints: Endpoints;
  addresses: Addresses;
  publisher: Publisher;
  ports: PublishedPorts;
  resolvConf: EndpointResolvConf;
  log: Logger;
  node: string;
  /** Address of the Docker engine for docker:NAME. */
  docker: EngineAddress;
  /** Containers of `weft run`. */
  runs: RunLookup;
}

export interface AttachOptions {
  /** Id and addresses that the endpoint had before its container restarted. */
  previous?: PreviousAddresses | undefined;
  /** The manager's key; absent: weft attaches. */
  key?: ForeignKey;
  /** Cancels the attach, which is then rolled back. */
  signal?: AbortSignal | undefined;
}

/** One attach: request, container and options. */
interface Attach extends AttachOptions {
  request: AttachRequest;
  target: Target;
  sandbox: Sandbox;
  namespace: KernelNamespace;
}

/** What an attach builds on, found before anything is allocated. */
interface Found {
  id: string;
  membership: Membership;
  inside: ContainerLinks;
}

export class Attacher {
  constructor(private readonly options: AttacherOptions) {}

  /** @throws WeftError, or the signal's reason; then nothing was changed */
  async attach(request: AttachRequest, how: AttachOptions = {}): Promise<Endpoint> {
    const { kernel, endpoints, resolvConf, docker, runs } = this.options;
    const target = await resolveTarget(request.target, docker, runs);
    if (request.dns) resolvConf.require(target.canonical);
    return inSandbox(kernel, target, (sandbox, namespace) =>
      endpoints.exclusively(sandbox.cookie, () =>
        this.#attachTo({ request, target, sandbox, namespace, ...how }),
      ),
    );
  }

  async #attachTo(attach: Attach): Promise<Endpoint> {
    const { request, target, sandbox, namespace, key, signal } = attach;
    const { memberships, addresses, reconciler, log } = this.options;
    signal?.throwIfAborted();
    const there = this.#existing(request.network, sandbox, key);
    if (there !== undefined) {
      checkSame(request, there);
      return there;
    }
    const membership = await memberships.join(request.network, { signal });
    checkRequest(request, membership);
    // The container may have an endpoint whose state file is torn.
    addresses.checkComplete();
    const inside = await lookAtLinks(namespace, target.canonical, request.ifname, (mac) =>
      reconciler.wantsPeer(mac),
    );
    const id = this.#freeId(attach.previous?.endpoint);
    const endpoint = await allOrNothing(log, id, (rollback) =>
      this.#make(attach, { id, membership, inside }, rollback),
    );
    // Not awaited: the caller asked for this network, not for those that it is routed with.
    void memberships.followRoutes();
    return endpoint;
  }

  async #make(attach: Attach, found: Found, rollback: Rollback): Promise<Endpoint> {
    const { id, membership, inside } = found;
    const { request, namespace, previous, signal } = attach;
    const { addresses, ports, reconciler, resolvConf } = this.options;
    const given = await takeAddresses(addresses, { membership, id, request, previous }, rollback, signal);
    const endpoint = this.#describe(attach, found, given);
    if (request.publish.length > 0) {
      rollback.add(() => ports.close(id));
      const families = familiesIn(endpoint);
      endpoint.publish = await ports.reserve(endpoint, request.publish, request.everywhere, families, signal);
    }
    return establish(this.options, {
      ...{ membership, endpoint, rollback, signal },
      program: async ({ host, container }) => {
        await reconciler.attach(
          recordOf(endpoint),
          host,
          insideOf(endpoint, container),
          namespace,
          inside.actual,
        );
        if (endpoint.dns === true) {
          rollback.add(() => resolvConf.set(endpoint));
          resolvConf.set(endpoint, endpoint);
        }
        if (endpoint.publish.length > 0) await ports.open(membership, endpoint);
      },
    });
  }

  #describe(
    { request, target, sandbox, key }: Attach,
    { id, membership, inside }: Found,
    given: Pick<Endpoint, 'ip' | 'ip6' | 'claimed'>,
  ): Endpoint {
    const { network } = membership;
    const vlan = vlanFor(network, request.vlan);
    const ofVlan = vlan === undefined ? {} : { vlan };
    return {
      id,
      name: request.name ?? target.name,
      // Names from other programs repeat across nodes.
      explicitName: request.name !== undefined && key === undefined,
      network: request.network,
      node: this.options.node,
      target: target.canonical,
      sandbox,
      ifname: inside.ifname,
      hostIfname: hostIfname(id),
      mac: request.mac ?? macOf(parseInterface(given.ip).address),
      ...given,
      ...ofVlan,
      defaultRoute:
        request.defaultRoute &&
        !network.internal &&
        !inside.hasDefaultRoute &&
        FAMILIES.some((family) => gatewayFor(membership, ofVlan, family) !== undefined),
      aliases: request.aliases,
      ...(request.allowedAddresses !== undefined && { allowedAddresses: [...request.allowedAddresses] }),
      publish: [],
      ...(request.dns ? { dns: true as const } : {}),
      ...(request.labels === undefined ? {} : { labels: request.labels }),
      manager: key?.manager ?? 'weft',
      ...(key === undefined ? {} : { foreignKey: key }),
      createdAt: new Date().toISOString(),
    };
  }

  /**
   * Makes the veth pair for a container whose namespace does not exist yet, on reserved addresses.
   * @throws WeftError; then nothing was changed
   */
  async connect(endpoint: Endpoint): Promise<void> {
    const { endpoints, memberships, reconciler, log } = this.options;
    const { id, network } = endpoint;
    const membership = memberships.get(network);
    if (membership === undefined) throw notFound(`this node is not on network ${network}`);
    await endpoints.inTurn(endpoint, () =>
      allOrNothing(log, id, (rollback) =>
        establish(this.options, {
          ...{ membership, endpoint, rollback },
          program: ({ host }) => reconciler.prepare(recordOf(endpoint), host),
        }),
      ),
    );
  }

  #existing(network: string, sandbox: Sandbox, key: ForeignKey | undefined): Endpoint | undefined {
    const { endpoints } = this.options;
    if (key === undefined) return endpoints.find(network, sandbox);
    const there = endpoints.findByKey(key);
    return there !== undefined && sameSandbox(there.sandbox, sandbox) ? there : undefined;
  }

  /** A new id if the previous endpoint still exists. */
  #freeId(wanted: string | undefined): string {
    return wanted === undefined || this.options.endpoints.get(wanted) !== undefined ? newId() : wanted;
  }

  /** @throws WeftError NOT_FOUND; the signal's reason before anything is removed */
  async detach(network: string, text: string, signal?: AbortSignal): Promise<Endpoint> {
    const endpoint = await this.#attached(network, text);
    checkOwn(endpoint);
    const { endpoints } = this.options;
    return endpoints.inTurn(endpoint, async (there) => {
      signal?.throwIfAborted();
      if (there === undefined) throw notAttached(network, text);
      await endpoints.remove(endpoint);
      return endpoint;
    });
  }

  /** Of all networks; none where it is no container of this node. @throws WeftError INVALID_ARGUMENT */
  async endpointsOf(text: string): Promise<Endpoint[]> {
    const forms = canonicalForms(text);
    const all = this.options.endpoints.list();
    const byName = all.filter(({ target }) => forms.includes(target));
    if (byName.length > 0) return byName;
    try {
      const { path } = await resolveTarget(text, this.options.docker, this.options.runs);
      const sandbox = this.options.kernel.identify(path);
      return sandbox === undefined ? [] : all.filter((one) => sameSandbox(one.sandbox, sandbox));
    } catch {
      return [];
    }
  }

  /** By target, or by namespace: a container is found under each of its names, and after it has ended. */
  async #attached(network: string, text: string): Promise<Endpoint> {
    const forms = canonicalForms(text);
    const { endpoints } = this.options;
    const byName = endpoints
      .list()
      .filter((endpoint) => endpoint.network === network && forms.includes(endpoint.target));
    if (byName.length === 1 && byName[0] !== undefined) return byName[0];
    let sandbox: Sandbox | undefined;
    try {
      sandbox = this.options.kernel.identify(
        (await resolveTarget(text, this.options.docker, this.options.runs)).path,
      );
    } catch (error) {
      if (byName.length === 0 && error instanceof WeftError && error.code !== 'NOT_FOUND') throw error;
    }
    const endpoint = (sandbox === undefined ? undefined : endpoints.find(network, sandbox)) ?? byName[0];
    if (endpoint === undefined) throw notAttached(network, text);
    return endpoint;
  }
}

/** @throws WeftError if the network does not support what is asked for */
function checkRequest(request: AttachRequest, membership: Membership): void {
  const { network } = membership;
  checkAddresses(request, network);
  vlanFor(network, request.vlan);
  if (request.publish.length > 0) checkPublishable(network);
  if (request.dns) checkAnswers(membership);
}

/** The DNS server listens on the gateways. */
function checkAnswers(membership: Membership): void {
  if (ownGateways(membership).length > 0) return;
  throw failedPrecondition(
    `network ${membership.network.name} has no gateway of this node's own that could answer names`,
    'Leave --dns out, or attach to a second network and give it there.',
  );
}

function notAttached(network: string, target: string): WeftError {
  return notFound(`${target} is not attached to network ${network} on this node`, 'See `weft endpoint ls`.');
}
