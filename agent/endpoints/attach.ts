// Attaching a container to a network and detaching it, all or nothing, by the TARGET that people name it with. What a failed
// attach did so far is taken back.
import { randomBytes } from 'node:crypto';

import { parseInterface } from '../../core/address.js';
import { compileEndpoint, hostIfname, macOf, ownGateways, type Membership } from '../../core/compile.js';
import { gatewayFor, vlanFor } from '../../core/drivers/index.js';
import { failedPrecondition, invalidArgument, notFound, WeftError } from '../../core/errors.js';
import type { Actual } from '../../core/objects.js';
import type { Endpoint, Sandbox } from '../../core/records.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import type { Logger } from '../../daemon/log.js';
import type { Addresses } from './addresses.js';
import { checkAddresses, checkSame, type AttachRequest } from './attach-request.js';
import { lookAtLinks } from './container-interfaces.js';
import { takeAddresses, type PreviousAddresses } from './endpoint-addresses.js';
import type { EndpointResolvConf } from './resolv-conf.js';
import { insideOf, recordOf, type Endpoints } from './endpoints.js';
import type { Kernel, KernelNamespace } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { checkPublishable, type PublishedPorts } from './published-ports.js';
import type { Publisher } from './publisher.js';
import type { Reconciler } from '../reconcile/index.js';
import { canonicalForms, resolveTarget, type RunLookup, type Target } from '../targets/index.js';
import { Rollback } from '../../daemon/rollback.js';

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
  /** Address of the Docker engine that docker:NAME means. */
  docker: EngineAddress;
  /** The containers that weft itself runs. */
  runs: RunLookup;
}

export class Attacher {
  constructor(private readonly options: AttacherOptions) {}

  /** @throws WeftError; then nothing was changed */
  async attach(request: AttachRequest, previous: PreviousAddresses = {}): Promise<Endpoint> {
    const target = await resolveTarget(request.target, this.options.docker, this.options.runs);
    if (request.dns) this.options.resolvConf.require(target.canonical);
    const opened = await this.#open(target);
    try {
      if (opened.isNode) {
        throw invalidArgument(
          `${target.canonical} has the network of this host itself, which cannot be attached`,
          'Give the container a network namespace of its own.',
        );
      }
      return await this.options.endpoints.exclusively(opened.sandbox.cookie, () =>
        this.#attachTo(request, target, opened.sandbox, opened.namespace, previous),
      );
    } finally {
      opened.namespace.close();
    }
  }

  async #open(target: Target): ReturnType<Kernel['openNamespace']> {
    try {
      return await this.options.kernel.openNamespace(target.path);
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') throw error;
      throw notFound(`container ${target.canonical} is gone: ${error.message}`, error.next, { cause: error });
    }
  }

  async #attachTo(
    request: AttachRequest,
    target: Target,
    sandbox: Sandbox,
    namespace: KernelNamespace,
    previous: PreviousAddresses,
  ): Promise<Endpoint> {
    const there = this.options.endpoints.find(request.network, sandbox);
    if (there !== undefined) {
      checkSame(request, there);
      return there;
    }
    const membership = await this.options.memberships.join(request.network);
    const { network } = membership;
    checkAddresses(request, network);
    const vlan = vlanFor(network, request.vlan);
    if (request.publish.length > 0) checkPublishable(network);
    if (request.dns) checkAnswers(membership);
    // What is in no record may be in a torn one.
    this.options.addresses.checkComplete();
    const inside = await lookAtLinks(namespace, target.canonical, request.ifname, (mac) =>
      this.options.reconciler.wantsPeer(mac),
    );
    const id = this.#freeId(previous.endpoint);
    const rollback = new Rollback();
    try {
      const { addresses } = this.options;
      const given = await takeAddresses(addresses, membership, request, id, rollback, previous);
      const endpoint: Endpoint = {
        id,
        name: request.name ?? target.name,
        explicitName: request.name !== undefined,
        network: request.network,
        node: this.options.node,
        target: target.canonical,
        sandbox,
        ifname: inside.ifname,
        hostIfname: hostIfname(id),
        mac: request.mac ?? macOf(parseInterface(given.ip).address),
        ...given,
        ...(vlan === undefined ? {} : { vlan }),
        defaultRoute:
          request.defaultRoute &&
          !network.internal &&
          !inside.hasDefaultRoute &&
          gatewayFor(membership, vlan === undefined ? {} : { vlan }, 4) !== undefined,
        aliases: request.aliases,
        publish: [],
        ...(request.dns ? { dns: true as const } : {}),
        createdAt: new Date().toISOString(),
      };
      if (request.publish.length > 0) {
        rollback.push(() => this.options.ports.close(id));
        endpoint.publish = await this.options.ports.reserve(
          endpoint,
          request.publish,
          request.everywhere,
          endpoint.ip6 === undefined ? [4] : [4, 6],
        );
      }
      await this.#program(membership, endpoint, namespace, inside.actual, rollback);
      // Not waited for: what the network is routed with is not what was asked for here.
      void this.options.memberships.followRoutes();
      return endpoint;
    } catch (error) {
      await rollback.run(this.options.log, id);
      throw error;
    }
  }

  /** Another one where the endpoint that it was is still there. */
  #freeId(wanted: string | undefined): string {
    return wanted === undefined || this.options.endpoints.get(wanted) !== undefined
      ? randomBytes(8).toString('hex')
      : wanted;
  }

  async #program(
    membership: Membership,
    endpoint: Endpoint,
    namespace: KernelNamespace,
    actual: Actual,
    rollback: Rollback,
  ): Promise<void> {
    const { reconciler, publisher, resolvConf, endpoints } = this.options;
    if (endpoint.explicitName) {
      rollback.push(() => publisher.forget(endpoint));
      await publisher.reserveName(endpoint);
    }
    const { host, container } = compileEndpoint(membership, endpoint);
    await reconciler.attach(recordOf(endpoint.id), host, insideOf(endpoint, container), namespace, actual);
    rollback.push(() => reconciler.detach(recordOf(endpoint.id)));
    if (endpoint.dns === true) {
      resolvConf.set(endpoint, endpoint);
      rollback.push(() => Promise.resolve(resolvConf.set(endpoint)));
    }
    if (endpoint.publish.length > 0) await this.options.ports.open(membership, endpoint);
    endpoints.put(endpoint);
  }

  /** @throws WeftError NOT_FOUND */
  async detach(network: string, text: string): Promise<Endpoint> {
    const endpoint = await this.#attached(network, text);
    if (endpoint.door === 'docker') {
      throw failedPrecondition(
        `${endpoint.target} was connected to network ${network} by Docker`,
        'Take it off with docker network disconnect.',
      );
    }
    const { endpoints } = this.options;
    return endpoints.inTurn(endpoint, async (there) => {
      if (there === undefined) throw notAttached(network, text);
      await endpoints.remove(endpoint);
      return endpoint;
    });
  }

  /** By the target's words, or by its namespace, so that a container is found under each of its names, and when gone. */
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

/** Names are answered on the gateways. */
function checkAnswers(membership: Membership): void {
  if (ownGateways(membership).length > 0) return;
  throw failedPrecondition(
    `network ${membership.network.name} has no gateway of this node's own that could answer names`,
    'Leave --dns out, or attach to another network, too, and give it there.',
  );
}

function notAttached(network: string, target: string): WeftError {
  return notFound(`${target} is not attached to network ${network} on this node`, 'See `weft endpoint ls`.');
}
