// Looks from the inside of containers, whenever the reconciler compares them: what keeps one from its network, and whether
// the node's name server answers it.
import { randomInt } from 'node:crypto';

import { canResolve, RESOLVER_IP } from '../../core/compile.js';
import { driverOf } from '../../core/drivers/index.js';
import type { Actual } from '../../core/objects/index.js';
import { addressesOf, type Endpoint } from '../../core/records.js';
import type { View } from '../../store/store.js';
import { DNS_PORT } from '../dns/index.js';
import { DNS, endpointScope, networkScope, type Problem, type Problems } from '../health/index.js';
import type { KernelNamespace } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import type { Observers, SandboxKey } from '../reconcile/index.js';
import { inOneSandbox } from './endpoint-table.js';
import type { Endpoints } from './endpoints.js';
import { addressFaults, containerText, closedPorts, closedProblem, routeFaults } from './inside-faults.js';

/** A process may open its port a moment after its container was attached. */
const CLOSED_AFTER_MS = 4000;
/** Between questions to the name server from one network. */
const ASK_EVERY_MS = 9000;
/** Questions in a row without an answer that are no accident. */
const SILENT_AFTER = 2;

export interface ContainerChecksOptions {
  endpoints: Pick<Endpoints, 'get' | 'list' | 'resolves'>;
  memberships: Pick<Memberships, 'get' | 'list'>;
  view: Pick<View, 'endpoints'>;
  problems: Problems;
  /** Whether containers ask this node for names. */
  servesNames: boolean;
  /** Milliseconds; monotonic. */
  now?: () => number;
}

/** Questions of the containers of one network. */
interface Asks {
  /** When they may ask again. */
  at: number;
  /** How many in a row had no answer. */
  unanswered: number;
  /** The endpoint that asked last. */
  by: string;
}

export class ContainerChecks implements Observers {
  /** Since when nobody listens at a published port, by the endpoint's id. */
  readonly #closedSince = new Map<string, number>();
  readonly #asks = new Map<string, Asks>();
  readonly #now: () => number;

  constructor(private readonly options: ContainerChecksOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  /** Links that somebody made ports of bridges of overlays: behind them are containers that weft did not attach. */
  node(actual: Actual): void {
    this.#forgetGone();
    for (const membership of this.options.memberships.list()) {
      const { network } = membership;
      const driver = driverOf(network);
      if (driver.addressing(network) !== 'subnets' || membership.subnetOnly === true) continue;
      const links = new Set(driver.links(membership));
      const found = new Map<string, Problem>();
      for (const { object, owned } of actual.objects.values())
        if (object.kind === 'port' && !owned && links.has(object.master))
          found.set(object.link, foreignProblem(object.link, object.master, network.name));
      this.options.problems.replace(networkScope(network.name), 'foreign-port', found);
    }
  }

  #forgetGone(): void {
    const { endpoints, problems } = this.options;
    for (const id of this.#closedSince.keys())
      if (endpoints.get(id) === undefined) this.#closedSince.delete(id);
    const networks = new Set(endpoints.list().map(({ network }) => network));
    problems.keepOnly(DNS, 'unanswered', networks);
    for (const network of this.#asks.keys()) if (!networks.has(network)) this.#asks.delete(network);
  }

  container({ kind, id }: SandboxKey, namespace: KernelNamespace, actual: Actual): void {
    const { endpoints, memberships, problems } = this.options;
    const endpoint = kind === 'endpoint' ? endpoints.get(id) : undefined;
    const membership = endpoint && memberships.get(endpoint.network);
    if (endpoint === undefined || membership === undefined) return void this.#closedSince.delete(id);
    const { network } = membership;
    const scope = endpointScope(endpoint);
    problems.replace(scope, 'inside-route', routeFaults(actual, endpoint, membership));
    const beside = endpoints.list().filter((one) => inOneSandbox(one, endpoint));
    const owner = (ip: string): string | undefined => this.#ownerOf(endpoint, ip);
    problems.replace(scope, 'inside-address', addressFaults(actual, endpoint, network, beside, owner));
    this.#checkPorts(endpoint, namespace);
    if (this.options.servesNames && canResolve(membership, endpoint) && endpoints.resolves(endpoint))
      this.#checkNames(endpoint, namespace);
  }

  #ownerOf({ network }: Endpoint, ip: string): string | undefined {
    const all = [...(this.options.view.endpoints.get(network)?.values() ?? [])];
    const owner = all.find((one) => addressesOf(one).includes(ip));
    return owner && `endpoint ${owner.name} on node ${owner.node}`;
  }

  #checkPorts(endpoint: Endpoint, namespace: KernelNamespace): void {
    const { id, publish } = endpoint;
    const key = { scope: endpointScope(endpoint), kind: 'published-port' } as const;
    const listeners = publish.length === 0 ? [] : namespace.listeners();
    const closed = closedPorts(endpoint, listeners);
    if (closed.length === 0) {
      this.#closedSince.delete(id);
      return this.options.problems.clear(key);
    }
    const since = this.#closedSince.get(id) ?? this.#now();
    this.#closedSince.set(id, since);
    if (this.#now() - since >= CLOSED_AFTER_MS)
      this.options.problems.set(key, closedProblem(endpoint, closed, listeners));
  }

  /** One container of each network asks; where it gets no answer, the next one does. */
  #checkNames(endpoint: Endpoint, namespace: KernelNamespace): void {
    const { network, id } = endpoint;
    const last = this.#asks.get(network) ?? { at: -Infinity, unanswered: 0, by: '' };
    if (this.#now() < last.at) return;
    if (last.unanswered > 0 && last.by === id && this.#hasOthers(endpoint)) return;
    // Not again before this one has an answer.
    this.#asks.set(network, { ...last, at: Infinity });
    namespace.ask(RESOLVER_IP, DNS_PORT, question()).then(
      (isAnswered) => this.#heard(endpoint, isAnswered ? 0 : last.unanswered + 1),
      // It could not ask, for want of descriptors: that says nothing.
      () => this.#asks.set(network, last),
    );
  }

  #hasOthers({ network, id }: Endpoint): boolean {
    const { endpoints } = this.options;
    return endpoints
      .list()
      .some((one) => one.network === network && one.id !== id && endpoints.resolves(one));
  }

  #heard(endpoint: Endpoint, unanswered: number): void {
    const { network, id } = endpoint;
    // Of a container that is gone nobody knows why.
    if (this.options.endpoints.get(id) === undefined) return void this.#asks.delete(network);
    const at = this.#now() + (unanswered === 0 ? ASK_EVERY_MS : 0);
    this.#asks.set(network, { at, unanswered, by: id });
    const key = { scope: DNS, kind: 'unanswered', id: network } as const;
    if (unanswered === 0) this.options.problems.clear(key);
    else if (unanswered >= SILENT_AFTER) this.options.problems.set(key, unansweredProblem(endpoint));
  }
}

const unansweredProblem = (endpoint: Endpoint): Problem => ({
  what: `the name server of this node (${RESOLVER_IP}), asked from ${containerText(endpoint)}`,
  why: 'its questions by UDP port 53 get no answer, though the agent serves them',
  fix: 'See which rule of this host, or of the container itself, drops UDP port 53: nft list ruleset; iptables -S INPUT. Containers reach no names until it is gone.',
});

const foreignProblem = (link: string, bridge: string, network: string): Problem => ({
  what: `link ${link}, a port of ${bridge}`,
  why: `that is the bridge of network ${network}, and weft did not attach what is behind the link: its addresses may be those of others`,
  fix: `See whose it is (ip -d link show ${link} names its namespace), take it off (ip link set ${link} nomaster), and use weft attach ${network}.`,
});

/** A query for the start of authority of `weft`, which the node knows by itself (RFC 1035 §4.1). */
function question(): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(randomInt(0x10000), 0);
  header.writeUInt16BE(1, 4);
  return Buffer.concat([header, Buffer.from('\x04weft\0'), Buffer.from([0, 6, 0, 1])]);
}
