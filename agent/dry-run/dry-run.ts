// Dry run: the steps that the agent would take on this node, none of which is taken.
//
// The parts of the agent restore the state directory and take up etcd's records as they do at a start, on a kernel and a
// store that are only read; the steps are those of the comparison that would follow.
import { isHost, type Underlay } from '../../core/compile.js';
import { WeftError } from '../../core/errors.js';
import type { Sandbox } from '../../core/records.js';
import { withDeadline } from '../../core/deadline.js';
import type { HostPort } from '../../daemon/kinds.js';
import { silentLogger as log } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import {
  Addresses,
  EndpointResolvConf,
  Endpoints,
  EndpointTable,
  isToCome,
  mayBeMore,
  PublishedPorts,
  Publisher,
  recoverEndpoints,
} from '../endpoints/index.js';
import type { Clouds } from '../../cloud/index.js';
import { agentMetrics, networkScope, Problems } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import { ControlAddresses, Gateways, Memberships, RouteOverlaps } from '../networks/index.js';
import { Policies } from '../policy/index.js';
import { Attachments, AttachmentState } from '../pipework/index.js';
import { isGone, Reconciler, type SandboxKey } from '../reconcile/index.js';
import { State } from '../state/index.js';
import { describePreview, type PlannedStep, type PlannedSteps } from './describe.js';
import { readOnlyKernel, readOnlyStore } from './read-only.js';

export interface DryRunOptions {
  kernel: Kernel;
  store: Store;
  stateDir: string;
  node: string;
  underlay: Underlay;
  /** Networks that are joined without a container. */
  join: readonly string[];
  /** Networks whose bridge and gateway are another program's. */
  subnetOnly?: readonly string[];
  /** Controllers and etcd that containers do not reach, by the settings. */
  control?: readonly HostPort[];
  /** Connections that a container may have open; undefined: any number. */
  maxConnections?: number | undefined;
  servesNames?: boolean;
  signal: AbortSignal;
  /** Absent: routes of clouds are not looked at. */
  clouds?: Pick<Clouds, 'get'>;
  /** How long etcd may take to answer. */
  storeMs?: number;
  /** etcd has not answered for a while. */
  onWait?: () => void;
}

const STORE_MS = 5_000;
const SILENT_MS = 2_000;

/** @throws WeftError where the state directory, the kernel or the firewall cannot be read */
export async function dryRun(options: DryRunOptions): Promise<PlannedSteps> {
  const { store, signal, storeMs = STORE_MS } = options;
  const answer: PlannedSteps = { steps: [], notes: [], isComplete: true };
  const parts = assemble(options, answer);
  try {
    await parts.control.look();
    await restore(parts, answer);
    const silent = setTimeout(() => options.onWait?.(), SILENT_MS);
    try {
      await withDeadline(signal, storeMs, (until) => store.synced(until));
      await takeUpRecords(parts, options, answer);
    } catch (error) {
      if (store.isSynced || signal.aborted) throw error;
      answer.notes.push(
        `etcd has not answered within ${storeMs / 1000} s: these are the steps by the state directory alone, and what weft left behind is not known`,
      );
    } finally {
      clearTimeout(silent);
    }
    const planned = describePreview(await parts.reconciler.preview(), (record) => parts.targetOf(record));
    answer.steps.push(...planned.steps);
    answer.notes.push(...planned.notes);
    answer.isComplete &&= planned.isComplete;
    for (const { network } of parts.memberships.list()) {
      const unknown = parts.problems.get({ scope: networkScope(network.name), kind: 'cloud-routes' });
      if (unknown !== undefined) answer.notes.push(`${unknown.what}: ${unknown.why}`);
    }
    return answer;
  } finally {
    await parts.stop();
  }
}

type Parts = ReturnType<typeof assemble>;

/** The parts that records pass through on their way to the reconciler, which is never started. */
function assemble(options: DryRunOptions, answer: PlannedSteps) {
  const { stateDir, node, underlay, clouds } = options;
  const kernel = readOnlyKernel(options.kernel);
  const store = readOnlyStore(options.store, (network, subnet) => {
    const what = subnet === undefined ? 'a subnet' : `subnet ${subnet.toString()}`;
    note(answer.steps, { target: 'node', verb: 'acquire', what: `${what} of network ${network}` });
  });
  const state = new State(stateDir, { readOnly: true });
  const loaded = state.load();
  const metrics = agentMetrics();
  const problems = new Problems();
  const reconciler = new Reconciler({
    ...{ kernel, log, metrics, problems },
    onSandboxGone: () => undefined,
    onUnderlay: () => undefined,
    clouds: clouds && ((name) => clouds.get(name)),
    policies: {
      get hasNews() {
        return policies.hasNews;
      },
      take: () => policies.take(),
    },
  });
  const { instance } = loaded;
  const { subnetOnly = [] } = options;
  const control = new ControlAddresses({
    ...{ configured: options.control ?? [], told: state.control(), log },
    changed: () => memberships.controlChanged(),
  });
  const overlaps = new RouteOverlaps({
    ...{ kernel, store, problems, log, subnetOnly },
    memberships: () => [],
    changed: () => Promise.resolve(),
  });
  const memberships: Memberships = new Memberships({
    ...{ kernel, store, reconciler, state, log, problems, node, instance },
    runDir: undefined,
    // Nothing is renewed by the time that this is over.
    subnetTtlSeconds: 3600,
    underlay: () => underlay,
    control: () => control.current,
    maxConnections: options.maxConnections,
    ...(options.servesNames !== undefined && { servesNames: options.servesNames }),
    keepsOut: (network) => overlaps.keepsOut(network),
    subnetOnly,
  });
  const policies = new Policies({
    ...{ store, memberships, reconciler, state, problems, log, node },
    firewall: kernel.firewall,
  });
  const table = new EndpointTable();
  const publisher = new Publisher({
    ...{ store, log, metrics, problems, node, instance },
    current: () => table.list(),
  });
  const resolvConf = new EndpointResolvConf({
    files: { require: () => undefined, set: () => undefined, reset: () => undefined },
    text: () => '',
    endpoints: () => table.list(),
    log,
  });
  const addresses = new Addresses({
    ...{ store, memberships, node },
    nameOf: (id) => table.get(id)?.name,
    incomplete: mayBeMore(loaded),
  });
  const ports = new PublishedPorts({ kernel, store, memberships, reconciler, problems, log, node });
  const endpoints = new Endpoints({
    ...{ table, reconciler, memberships, addresses, publisher, ports, state, problems, log, resolvConf },
    policies,
  });
  memberships.listen(endpoints);
  const attachmentState = new AttachmentState(stateDir, { readOnly: true });
  const attachments = new Attachments({
    ...{ kernel, reconciler, problems, log },
    state: attachmentState,
    docker: { socketPath: '' },
    underlay: () => underlay,
    memberships: () => memberships.list(),
  });
  const gateways = new Gateways({ store, memberships, problems, node });
  return {
    ...{ kernel, store, loaded, problems, reconciler, memberships, endpoints, addresses, ports },
    ...{ attachments, attachmentState, gateways, overlaps, control, policies },
    targetOf: ({ kind, id }: SandboxKey): string | undefined =>
      kind === 'endpoint'
        ? endpoints.get(id)?.target
        : attachments.list().find((attachment) => attachment.id === id)?.target,
    stop: async (): Promise<void> => {
      gateways.stop();
      ports.stop();
      await publisher.stop();
      await memberships.stop();
      await reconciler.stop();
    },
  };
}

/** What the state directory remembers. */
async function restore(parts: Parts, answer: PlannedSteps): Promise<void> {
  const { kernel, loaded, memberships, endpoints, attachments, attachmentState } = parts;
  const unreadable = (path: string, why: string): void =>
    void answer.notes.push(`the state file ${path} cannot be read, and the agent would put it aside: ${why}`);
  for (const { path, why } of loaded.torn) unreadable(path, why);
  const isThere = (one: { target: string; sandbox: Sandbox }, what: string): boolean => {
    if (!isGone(kernel, one.sandbox)) return true;
    const step = { target: 'node', verb: 'delete', what: `${what}: its container ${one.target} is gone` };
    note(answer.steps, step);
    return false;
  };
  await parts.overlaps.look.now();
  await memberships.restore(loaded.networks);
  parts.policies.restore(loaded.policies);
  await endpoints.restore(
    loaded.endpoints.filter(
      (endpoint) =>
        isHost(endpoint) ||
        isToCome(endpoint) ||
        isThere(endpoint, `endpoint ${endpoint.name} of network ${endpoint.network}`),
    ),
  );
  const saved = attachmentState.load(unreadable);
  await attachments.restore({
    ...saved,
    attachments: saved.attachments.filter((one) => isThere(one, `attachment ${one.name}`)),
  });
}

/** What etcd says: as the agent takes up its first full list, and nothing is written to etcd. */
async function takeUpRecords(
  parts: Parts,
  { node, join }: DryRunOptions,
  answer: PlannedSteps,
): Promise<void> {
  const { kernel, store, loaded, problems, memberships, endpoints, addresses, ports } = parts;
  const holder = store.view.alive.get(node);
  if (holder !== undefined && holder !== loaded.instance) {
    answer.notes.push(
      `node ${node} is alive with another instance id, on another host or with another state directory: the agent would stay out of the cluster`,
    );
  }
  const before = new Set(endpoints.list().map(({ id }) => id));
  await recoverEndpoints({
    ...{ loaded, store, kernel, endpoints, addresses, memberships, problems, log, node },
  });
  for (const { id, name, network } of endpoints.list())
    if (!before.has(id))
      note(answer.steps, {
        target: 'node',
        verb: 'recover',
        what: `endpoint ${name} of network ${network} from etcd`,
      });
  await memberships.resume();
  await parts.policies.refresh();
  await parts.gateways.join();
  for (const name of join) {
    // One that is not there is waited for; why another cannot be joined is for the agent to say.
    await memberships.join(name, { withoutBridge: true }).catch((error: unknown) => {
      if (!(error instanceof WeftError)) throw error;
    });
  }
  for (const { network } of memberships.list()) await ports.follow(network.name);
  parts.reconciler.allowPruning();
}

function note(steps: PlannedStep[], step: PlannedStep): void {
  if (!steps.some(({ verb, what }) => verb === step.verb && what === step.what)) steps.push(step);
}
