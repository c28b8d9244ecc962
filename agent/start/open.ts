// Stage 1, open: opens state directory, kernel, store, HTTP and underlay.
import { join } from 'node:path';

import { Clouds } from '../../cloud/index.js';
import { messageOf } from '../../core/errors.js';
import { AuditLog } from '../../daemon/audit.js';
import { readEtcdAccess } from '../../daemon/etcd-access.js';
import { followEtcd } from '../../daemon/etcd-events.js';
import { EventLog } from '../../daemon/event-log.js';
import { countEvents } from '../../daemon/event-metrics.js';
import { eventService } from '../../daemon/event-service.js';
import { readTls, type Tls } from '../../daemon/tls.js';
import { plainTextWarnings } from '../../daemon/plain-text.js';
import { startHttp } from '../../daemon/http.js';
import { executable } from '../../daemon/executable.js';
import { packageRoot, version } from '../../daemon/version.js';
import { EventServiceService } from '../../proto/gen/weft/v1/events.js';
import type { Status } from '../../proto/gen/weft/v1/types.js';
import { DisplacedNodes } from '../../store/displaced-nodes.js';
import { openStore } from '../../store/etcd-store.js';
import type { Store } from '../../store/store.js';
import {
  type ApiSocket,
  networkWriter,
  openSocket,
  startStatusOf,
  unidentifiedStatusOf,
  type SessionState,
  type StartSources,
} from '../api/index.js';
import {
  agentMetrics,
  AgentReadiness,
  countDrops,
  NODE,
  problemEvents,
  Problems,
  type ScopeObject,
  scopeObjects,
  type AgentMetrics,
} from '../health/index.js';
import { mayBeMore } from '../endpoints/index.js';
import { bootId, openFirewall, openKernel, PumpProcesses, type Kernel } from '../kernel/index.js';
import type { AgentSettings } from '../settings.js';
import { InterfaceLoanFiles, PumpFiles, State, WireguardKeys, type Loaded } from '../state/index.js';
import { NodeUnderlay, type UnderlaySettings } from '../underlay/index.js';
import { Hook } from './hook.js';
import { identify, type Daemon, type Launch } from './identify.js';

/** Access to the kernel and the store, without any state of weft's. */
export interface Access {
  kernel: Kernel;
  store: Store;
}

/** What the agent's parts depend on. */
export interface Opened extends Daemon, Access {
  node: string;
  instance: string;
  /** RFC 3339. */
  startedAt: string;
  /** TLS of the next connection to a controller; undefined: plain text. */
  tls: () => Tls | undefined;
  state: State;
  /** The records of the state directory. */
  loaded: Loaded;
  metrics: AgentMetrics;
  problems: Problems;
  /** What happened on this node. */
  events: EventLog;
  /** The name of an endpoint by its id. */
  endpointName: Hook<[id: string], string | undefined>;
  scopeObject: ScopeObject;
  readiness: AgentReadiness;
  displaced: DisplacedNodes;
  underlay: NodeUnderlay;
  socket: ApiSocket;
  audit: AuditLog;
  clouds: Clouds;
  /** The state of the session with the controllers. */
  session: Hook<[], SessionState>;
  /** Something that a report to the controller shows has changed. */
  changed: Hook<[]>;
}

/** Opens the kernel of a node. @throws WeftError FAILED_PRECONDITION where it or the firewall cannot be used */
export type KernelOf = (launch: Launch, options: { readOnly: boolean }) => Promise<Kernel>;

export interface AccessOptions {
  /** The state directory belongs to an agent that may run, and etcd is only followed. */
  readOnly?: boolean;
  /** Networks whose containers are followed from the start; absent: all. */
  networks?: Iterable<string> | undefined;
  /** As openStore has them. */
  leftOut?: Iterable<string> | undefined;
  onLeftOut?: (networks: readonly string[]) => void;
  /** Being opened; absent: that of this host. */
  kernel?: Promise<Kernel>;
}

/** @throws as KernelOf */
export async function openAccess(
  daemon: Daemon,
  { readOnly = false, networks, leftOut = [], onLeftOut, ...given }: AccessOptions = {},
): Promise<Access> {
  const { settings, identity, log, shutdown } = daemon;
  const access = readEtcdAccess(settings);
  const controllers = settings.controller.map(({ text }) => text);
  // First: etcd answers while the kernel is opened.
  const store = openStore({
    endpoints: [...settings.etcd],
    prefix: settings.prefix,
    ...(identity !== undefined && settings.etcd.every(isSecure) && { tls: () => identity.tls }),
    ...access,
    readOnly,
    ...(networks && { networks, leftOut }),
    ...(onLeftOut && { onLeftOut }),
    writer: networkWriter(controllers, controllerTls(daemon)),
    log,
  });
  const kernel = await (given.kernel ?? kernelOfHost(daemon, { readOnly }));
  shutdown.add('the kernel', () => kernel.close());
  shutdown.add('the store', () => store.close());
  return { kernel, store };
}

async function kernelOfHost({ settings, log }: Launch, { readOnly }: { readOnly: boolean }): Promise<Kernel> {
  const firewall = await openFirewall(settings.firewall, { log });
  const loans = new InterfaceLoanFiles(settings.stateDir, bootId, { readOnly });
  const keys = new WireguardKeys(settings.stateDir, { readOnly });
  const pumpDir = join(settings.runDir, 'pumps');
  return await openKernel({
    firewall,
    loans,
    privateKey: (publicKey) => keys.privateKey(publicKey),
    pumps: new PumpProcesses(
      new PumpFiles(pumpDir, { readOnly }),
      pumpDir,
      pumpCommand(settings.stateDir),
      version,
    ),
  });
}

/** The clouds as their own tools would find them. */
export const cloudsOf = ({ settings: { gceEndpoint }, shutdown: { signal } }: Launch): Clouds =>
  new Clouds({ signal, environment: process.env, gceEndpoint });

/** Of a checkout it is in no bundle: it needs little, and starts as fast without. */
function pumpCommand(stateDir: string): string[] {
  const heap = '--max-semi-space-size=1';
  return executable === undefined
    ? [process.execPath, heap, join(packageRoot, 'build/programs/pump.js')]
    : [process.execPath, `--node-options=${heap}`, '__pump', stateDir];
}

/**
 * Settles when the node has a certificate and an underlay address; at boot the agent may start before the network is up.
 * @param kernelOf opens the kernel of the node
 */
export async function open(launch: Launch, kernelOf: KernelOf = kernelOfHost): Promise<Opened> {
  const { log, shutdown } = launch;
  const { node, stateDir } = launch.settings;
  // Wrong files end the agent at once.
  readTls(launch.settings);
  // The kernel takes tens of milliseconds to check the rules of the firewall, on another thread.
  const opening = kernelOf(launch, { readOnly: false });
  // Its failure counts when it is waited for.
  opening.catch(() => undefined);
  const state = new State(stateDir);
  const loaded = state.load();
  const startedAt = new Date().toISOString();
  const metrics = agentMetrics();
  const changed = new Hook<[]>(undefined);
  const events = new EventLog({ path: join(stateDir, 'events', 'agent.jsonl'), node, log });
  shutdown.add('the events', () => events.close());
  countEvents(metrics.registry, events);
  const endpointName = new Hook<[id: string], string | undefined>(undefined);
  const scopeObject = scopeObjects(node, endpointName.call);
  const problems = new Problems(changed.call, problemEvents(events, scopeObject));
  const readiness = new AgentReadiness(problems);
  const http = await startHttp({
    listen: launch.settings.http,
    registry: metrics.registry,
    readiness: () => readiness.now(),
    log,
  });
  shutdown.add('http', () => http.stop());
  const audit = new AuditLog(join(stateDir, 'audit', 'agent.log'), log);
  shutdown.add('the audit log', () => audit.close());
  let status = (): Status => unidentifiedStatusOf({ node, version, startedAt, readiness });
  const answers = { status: () => status(), waiting: () => readiness.waiting() };
  const socket = await openSocket(launch.settings.runDir, answers, audit, [
    (server) => server.addService(EventServiceService, eventService(events)),
  ]);
  shutdown.add('the socket', () => socket.stop());
  const daemon = await identify(launch, ({ message, next = 'See the log of the agent.' }) =>
    readiness.waitsFor(() => ({ what: 'a certificate', why: message, fix: next })),
  );
  readiness.waitsFor(undefined);
  const { settings } = daemon;
  const tls = controllerTls(daemon);
  const { kernel, store } = await openAccess(daemon, {
    ...{ kernel: opening, networks: networksOf(loaded), leftOut: loaded.otherNetworks },
    onLeftOut: (networks) => {
      try {
        state.saveOtherNetworks(networks);
      } catch (error) {
        // Without it the next start asks etcd for more than it needs.
        log.warn('the names of other networks could not be saved', { error: messageOf(error) });
      }
    },
  });
  const plain = plainTextWarnings({
    etcd: settings.etcd,
    insecure: settings.controller.length > 0 && tls() === undefined,
  });
  problems.replace(NODE, 'plain-text', new Map(plain.map((warning) => [warning.what, warning])));
  countDrops(metrics.registry, () => kernel.firewall.drops());
  const session = new Hook<[], SessionState>({ state: 'none', address: '', error: '' });
  const displaced = new DisplacedNodes(store.view);
  store.subscribe((changes) => displaced.handle(changes));
  shutdown.add('the state of etcd', followEtcd(store, events, settings.etcd));
  const sources = startSources({
    ...{ settings, store, problems, readiness, displaced, metrics, kernel, session, startedAt },
    identity: daemon.identity,
  });
  status = () => startStatusOf(sources);
  const underlay = await NodeUnderlay.find(
    { kernel, state, problems, log, settings: underlaySettings(settings) },
    shutdown.signal,
    ({ message, next = 'See the log of the agent.' }) =>
      readiness.waitsFor(() => ({ what: 'the underlay', why: message, fix: next })),
  );
  readiness.waitsFor(undefined);
  const clouds = cloudsOf(daemon);
  return {
    ...daemon,
    ...{ node, instance: loaded.instance, startedAt, tls, socket, audit, session, clouds },
    ...{ state, loaded, metrics, kernel, store, problems, readiness, displaced, underlay, changed },
    ...{ events, endpointName, scopeObject },
  };
}

/** Networks that this node is on; undefined: etcd alone may know some of its endpoints, in any network. */
const networksOf = (loaded: Loaded): string[] | undefined =>
  mayBeMore(loaded)
    ? undefined
    : [
        ...loaded.networks.map(({ network }) => network.name),
        ...loaded.endpoints.map(({ network }) => network),
      ];

/** Of the next connection to a controller: a node's own certificate is renewed. */
function controllerTls({ settings, identity }: Daemon): () => Tls | undefined {
  const brought = readTls(settings);
  return () => brought ?? (settings.insecure ? undefined : identity?.tls);
}

type SourcesOfStart = Pick<
  Opened,
  | 'settings'
  | 'identity'
  | 'store'
  | 'problems'
  | 'readiness'
  | 'displaced'
  | 'metrics'
  | 'kernel'
  | 'session'
  | 'startedAt'
>;

/** Sources of the status that are there during the whole start. */
export const startSources = ({ settings, kernel, session, ...parts }: SourcesOfStart): StartSources => ({
  store: parts.store,
  problems: parts.problems,
  readiness: parts.readiness,
  displaced: parts.displaced,
  metrics: parts.metrics,
  startedAt: parts.startedAt,
  version,
  node: settings.node,
  etcd: settings.etcd,
  firewall: kernel.firewall.kind,
  capabilities: () => kernel.capabilities(),
  certificateExpires: () => parts.identity?.info.to,
  controller: session.call,
});

const isSecure = (url: string): boolean => url.startsWith('https:');

export function underlaySettings({ underlayIp, underlayIface, publicIp }: AgentSettings): UnderlaySettings {
  return {
    ...(underlayIp !== undefined && {
      ips: [underlayIp.ip, ...(underlayIp.ip6 === undefined ? [] : [underlayIp.ip6])],
    }),
    ...(underlayIface !== undefined && { iface: underlayIface }),
    ...(publicIp !== undefined && { nat: publicIp }),
  };
}
