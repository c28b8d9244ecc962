// Status of the node, for `weft status` and the controller.
import { containerMtu } from '../../core/compile.js';
import { textIn, subnetIn } from '../../core/families.js';
import { describeNetwork, firstGateway } from '../../core/drivers/index.js';
import type { Problem as Known } from '../../core/problem.js';
import type { Endpoint } from '../../core/records.js';
import {
  type Endpoint as EndpointMessage,
  Peer,
  Status,
  type StatusPlugin,
  type StatusPolicies,
} from '../../proto/gen/weft/v1/types.js';
import { problemMessage } from '../../daemon/problem-message.js';
import type { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { Store } from '../../store/store.js';
import type { Endpoints, Publisher } from '../endpoints/index.js';
import type { Capability } from '../kernel/index.js';
import type { Policies } from '../policy/index.js';
import type { Memberships } from '../networks/index.js';
import {
  type AgentMetrics,
  type AgentReadiness,
  FIRST_LIST,
  OUTAGE,
  OWN_ADDRESS,
  type Problems,
} from '../health/index.js';
import type { Peers } from '../underlay/index.js';
import { foldClosedPaths } from './closed-paths.js';
import type { SessionState } from './session.js';

/** A restored or emptied etcd is an event, not a state that ends: it is shown for this long. */
const RESTORED_SHOWN_MS = 600_000;

/** The sources of problems. */
export interface ProblemSources {
  store: Pick<Store, 'state' | 'view'>;
  etcd: readonly string[];
  problems: Problems;
  readiness: Pick<AgentReadiness, 'waiting' | 'isWaitingFor'>;
  displaced: Pick<DisplacedNodes, 'problems'>;
  controller: () => SessionState;
}

/** Sources that are there from the first moment of the start. */
export interface StartSources extends ProblemSources {
  metrics: AgentMetrics;
  firewall: string;
  capabilities: () => readonly Capability[];
  node: string;
  version: string;
  startedAt: string;
  /** End of the node's certificate; undefined without one. */
  certificateExpires: () => Date | undefined;
}

export interface StatusSources extends StartSources {
  memberships: Memberships;
  endpoints: Endpoints;
  publisher: Publisher;
  peers: Pick<Peers, 'list'>;
  policies: Pick<Policies, 'report'>;
  publicIp: () => { ip: string; ip6?: string };
  /** The programs that this node serves; they begin after the agent's own API. */
  plugins: readonly StatusPlugin[];
}

/** Status before the node has its certificate: etcd is not asked yet, nor the kernel. */
export function unidentifiedStatusOf({
  node: name,
  version,
  startedAt,
  readiness,
}: Pick<StartSources, 'node' | 'version' | 'startedAt' | 'readiness'>): Status {
  const waiting = readiness.waiting();
  const problems = waiting === undefined ? [] : [problemMessage(waiting)];
  return Status.fromPartial({ health: 'down', node: { name, version, startedAt }, problems });
}

/** Status during the start, before the node has an underlay and any network. */
export function startStatusOf(sources: StartSources): Status {
  const { store, readiness } = sources;
  const problems = problemsOf(sources);
  return {
    health: readiness.waiting() !== undefined ? 'down' : problems.length === 0 ? 'ok' : 'degraded',
    node: {
      name: sources.node,
      publicIp: '',
      publicIp6: undefined,
      version: sources.version,
      startedAt: sources.startedAt,
      firewall: sources.firewall,
      stepsApplied: sources.metrics.totals.applied,
      stepsFailed: sources.metrics.totals.failed,
      driftRepaired: sources.metrics.totals.repaired,
      capabilities: [...sources.capabilities()],
      certificateExpires: sources.certificateExpires()?.toISOString(),
    },
    store: {
      state: store.state.connected ? 'connected' : 'disconnected',
      endpoints: [...sources.etcd],
      since: store.state.since.toISOString(),
      revision: store.state.revision,
      pending: 0,
      error: store.state.error ?? '',
    },
    controller: { ...sources.controller(), leader: false, nodesUp: 0, nodesDown: 0 },
    networks: [],
    peers: [],
    plugins: [],
    problems: problems.map(problemMessage),
    warnings: sources.problems.warnings().map(problemMessage),
    policies: undefined,
  };
}

export function statusOf(sources: StatusSources): Status {
  const { store, memberships, endpoints, peers } = sources;
  const status = startStatusOf(sources);
  const { ip, ip6 } = sources.publicIp();
  return {
    ...status,
    node: status.node && { ...status.node, publicIp: ip, publicIp6: ip6 },
    store: status.store && { ...status.store, pending: sources.publisher.pending },
    networks: memberships.list().map((membership) => {
      const { network, lease } = membership;
      return {
        name: network.name,
        subnet: subnetIn(lease, 4)?.toString() ?? '',
        subnet6: subnetIn(lease, 6)?.toString(),
        gateway: firstGateway(membership)?.toString() ?? '',
        mtu: containerMtu(membership),
        vni: describeNetwork(network).vni,
        endpoints: endpoints.list().filter((endpoint) => endpoint.network === network.name).length,
        peers: Math.max(0, (store.view.leases.get(network.name)?.size ?? 0) - 1),
        expires: memberships.expires(network.name)?.toISOString(),
      };
    }),
    peers: peers.list().map((peer) => Peer.fromPartial(peer)),
    plugins: sources.plugins.map((plugin) => ({ ...plugin })),
    policies: policiesOf(sources.policies.report),
  };
}

const policiesOf = ({ digest, isolated, gaps }: Policies['report']): StatusPolicies => ({
  digest,
  isolated: [...isolated],
  gaps: gaps.map(problemMessage),
});

/** What problems of etcd are about. */
export const etcdAt = (urls: readonly string[]): string => `etcd at ${urls.join(', ')}`;

/** All current problems, as `weft status` lists them. */
export function problemsOf(sources: ProblemSources): Known[] {
  const { store, problems, readiness, displaced, etcd } = sources;
  // The failure that the start waits to repeat says more.
  const waiting = problems.get(FIRST_LIST) === undefined ? readiness.waiting() : undefined;
  const isTold = waiting !== undefined && readiness.isWaitingFor(etcdAt(etcd));
  const isCause = (problem: Known): number => (problem.isCause === true ? 1 : 0);
  const causesFirst = foldClosedPaths(problems.list()).toSorted((a, b) => isCause(b) - isCause(a));
  const list = [...(waiting === undefined ? [] : [waiting]), ...causesFirst, ...displaced.problems()];
  const etcdGone = isTold ? [] : etcdAway(sources);
  const controllerGone = controllerAway(sources);
  const others = [...restoredStore(sources), ...badRecords(store)];
  const outage = problems.get(OUTAGE) ?? problems.get(OWN_ADDRESS);
  if (outage === undefined) return [...list, ...etcdGone, ...others, ...controllerGone];
  const cause = withConsequences(outage, [...etcdGone, ...controllerGone]);
  return [...list.map((problem) => (problem === outage ? cause : problem)), ...others];
}

/** Servers that are away while nothing is reached are no problems of their own. */
const withConsequences = (cause: Known, away: readonly Known[]): Known => ({
  ...cause,
  consequences: [...away.map(({ what, why }) => `${what}: ${why}`), ...(cause.consequences ?? [])],
});

function etcdAway({ store, etcd }: ProblemSources): Known[] {
  const { connected, since, error } = store.state;
  if (connected) return [];
  return [
    {
      what: etcdAt(etcd),
      why: error ?? `it has not answered since ${since.toISOString()}`,
      fix: 'Start etcd, or check --etcd; containers keep their connectivity, and changes here are written later.',
    },
  ];
}

function controllerAway({ controller }: ProblemSources): Known[] {
  const { state, address, error: why } = controller();
  if (state !== 'disconnected') return [];
  return [
    {
      what: `the controller at ${address}`,
      why: why === '' ? 'it does not answer' : why,
      fix: 'Start it, or check --controller; this node works on without it.',
    },
  ];
}

function restoredStore({ store, etcd }: ProblemSources): Known[] {
  const { connected, restored } = store.state;
  if (!connected || restored === undefined || Date.now() >= restored.getTime() + RESTORED_SHOWN_MS) return [];
  return [
    {
      what: etcdAt(etcd),
      why: `it was restored from an older copy, or emptied, at ${restored.toISOString()}; the nodes write back what they have`,
      fix: 'See whether anything is missing: weft network ls, weft node ls. This line goes after ten minutes.',
    },
  ];
}

const badRecords = ({ view }: ProblemSources['store']): Known[] =>
  [...view.bad.values()].map(({ key, why }) => ({
    what: `the record ${key} in etcd`,
    why,
    fix: 'Correct or delete it; weft leaves it alone.',
  }));

/** An endpoint of this node as a message of the services. */
export function endpointMessage(endpoint: Endpoint, memberships: Memberships): EndpointMessage {
  const membership = memberships.get(endpoint.network);
  return {
    id: endpoint.id,
    name: endpoint.name,
    network: endpoint.network,
    node: endpoint.node,
    target: endpoint.target,
    ifname: endpoint.ifname,
    hostIfname: endpoint.hostIfname,
    mac: endpoint.mac,
    ip: textIn(endpoint, 4) ?? '',
    ip6: textIn(endpoint, 6),
    gateway: (membership && firstGateway(membership, endpoint)?.toString()) ?? '',
    mtu: membership === undefined ? 0 : containerMtu(membership),
    vlan: endpoint.vlan,
    aliases: endpoint.aliases,
    allowedAddresses: endpoint.allowedAddresses ?? [],
    drops: [],
    publish: endpoint.publish,
    manager: endpoint.manager,
    labels: endpoint.labels ?? {},
    warnings: [],
  };
}
