// Stage 2, assemble: makes and connects the agent's parts. Nothing runs yet.
import { isBridged } from '../../core/drivers/index.js';
import { Dns, dnsMetrics, NetnsResolvConf } from '../dns/index.js';
import {
  Addresses,
  Attacher,
  ContainerChecks,
  EndpointPorts,
  EndpointResolvConf,
  Endpoints,
  EndpointTable,
  HostEndpoint,
  mayBeMore,
  PublishedPorts,
  Publisher,
} from '../endpoints/index.js';
import { NODE } from '../health/index.js';
import { bootId } from '../kernel/index.js';
import {
  configuredControl,
  ControlAddresses,
  Gateways,
  KeyRotation,
  Memberships,
  RouteOverlaps,
} from '../networks/index.js';
import { Policies } from '../policy/index.js';
import { Attachments, AttachmentState } from '../pipework/index.js';
import { PluginAddresses, PluginEndpoints, PluginNetworks, SET_ASIDE } from '../plugin-host/index.js';
import { type Look, type Observers, Reconciler, type SandboxKey } from '../reconcile/index.js';
import { containerNetworks, Containers, ContainerState } from '../runtime/index.js';
import { Tracer, TracePeers } from '../trace/index.js';
import { duplicateAddresses, measurePeers, Peers } from '../underlay/index.js';
import { happenings, type Happenings } from './happenings.js';
import { Hook } from './hook.js';
import type { Opened } from './open.js';

/** The parts of the agent. */
export interface Parts {
  reconciler: Reconciler;
  memberships: Memberships;
  policies: Policies;
  control: ControlAddresses;
  gateways: Gateways;
  keyRotation: KeyRotation;
  publisher: Publisher;
  addresses: Addresses;
  ports: PublishedPorts;
  endpoints: Endpoints;
  endpointPorts: EndpointPorts;
  attacher: Attacher;
  hostEndpoint: HostEndpoint;
  attachments: Attachments;
  attachmentState: AttachmentState;
  containers: Containers;
  dns: Dns;
  netnsResolvConf: NetnsResolvConf;
  overlaps: RouteOverlaps;
  told: Happenings;
  peers: Peers;
  tracer: Tracer;
  duplicateAddresses: Look;
  pluginNetworks: PluginNetworks;
  pluginAddresses: PluginAddresses;
  pluginEndpoints: PluginEndpoints;
}

export function assemble(opened: Opened): Parts {
  const { settings, log, shutdown, metrics, state, loaded, node, instance } = opened;
  const { kernel, store, problems, underlay } = opened;

  // Of two parts that need each other, the first gets a hook that is connected below.
  const sandboxGone = new Hook<[record: SandboxKey]>(undefined);
  const movedIn = new Hook<[names: readonly string[]]>(undefined);
  const runTarget = new Hook<[name: string], ReturnType<Containers['target']>>(undefined);
  const linksChanged = new Hook<[]>(undefined);
  const lookedAt = new Hook<Parameters<Observers['node']>>(undefined);
  const lookedInto = new Hook<Parameters<Observers['container']>>(undefined);
  const keepsClaim = new Hook<Parameters<PluginAddresses['keeps']>, boolean>(false);

  const told = happenings(opened.events, opened.scopeObject);
  const { onRepaired, onMembership, onEndpoint, onPath } = told;

  const duplicates = duplicateAddresses({ kernel, view: store.view, node, problems, log });
  shutdown.add('looking for duplicate addresses', () => duplicates.stop());
  const reconciler = new Reconciler({
    ...{ kernel, log, metrics, problems, onRepaired },
    onSandboxGone: sandboxGone.call,
    observers: { node: lookedAt.call, container: lookedInto.call },
    onMovedIn: movedIn.call,
    onUnderlay: linksChanged.call,
    onRoutes: () => overlaps.look.soon(),
    policies: {
      get hasNews() {
        return policies.hasNews;
      },
      take: () => policies.take(),
    },
    clouds: (name) => opened.clouds.get(name),
    // A network that is to move to a cloud: its lease waits for the routes.
    onCloudRoutes: (name) =>
      void memberships.republish(
        (network) => network.name === name && !isBridged(network) && network.beside !== undefined,
      ),
  });
  shutdown.add('the reconciler', () => reconciler.stop());
  const subnetOnly = withoutContainers(opened);
  const overlaps = new RouteOverlaps({
    ...{ kernel, store, problems, log, subnetOnly },
    memberships: () => memberships.list(),
    changed: () => memberships.routesChanged(),
  });
  shutdown.add('the routes of this host', () => overlaps.look.stop());
  const memberships: Memberships = new Memberships({
    ...{ kernel, store, reconciler, state, log, problems, node, instance, onMembership },
    runDir: settings.runDir,
    servesNames: settings.dns === 'on',
    flannel: settings.flannel === 'on',
    subnetTtlSeconds: settings.subnetTtl.seconds,
    underlay: () => underlay.current,
    control: () => control.current,
    maxConnections: settings.maxConnections,
    keepsOut: (network) => overlaps.keepsOut(network),
    subnetOnly,
  });
  const control: ControlAddresses = new ControlAddresses({
    configured: configuredControl(settings),
    told: state.control(),
    save: (addresses) => state.saveControl(addresses),
    log,
    changed: () => memberships.controlChanged(),
  });
  shutdown.add('the addresses of controllers', () => control.stop());
  shutdown.add('the memberships', () => memberships.stop());
  const policies: Policies = new Policies({
    ...{ store, memberships, reconciler, state, problems, log, node },
    firewall: kernel.firewall,
    changed: opened.changed.call,
  });
  const table = new EndpointTable();
  opened.endpointName.connect((id) => table.get(id)?.name);
  const publisher = new Publisher({
    ...{ store, log, metrics, problems, node, instance },
    current: () => table.list(),
    keeps: keepsClaim.call,
  });
  shutdown.add('the publisher', () => publisher.stop());
  const dns = new Dns({
    ...{ store, displaced: opened.displaced, memberships, kernel, problems, log, node },
    metrics: dnsMetrics(metrics.registry),
    listen: settings.dns === 'on',
    servers: settings.dnsServer ?? [],
  });
  const netnsResolvConf = new NetnsResolvConf({ stateDir: settings.stateDir, log });
  const resolvConf = new EndpointResolvConf({
    files: netnsResolvConf,
    text: (networks) => dns.resolvConf(networks),
    endpoints: () => table.list(),
    log,
  });
  const addresses = new Addresses({
    ...{ store, memberships, node },
    released: (network, ip) => publisher.claimReleased(network, ip),
    nameOf: (holder) => (holder === SET_ASIDE ? 'an --aux-address' : table.get(holder)?.name),
    incomplete: mayBeMore(loaded),
  });
  const ports = new PublishedPorts({ kernel, store, memberships, reconciler, problems, log, node });
  shutdown.add('the ports', () => ports.stop());
  const endpoints = new Endpoints({
    ...{ table, reconciler, memberships, addresses, publisher, ports, state, problems, log, resolvConf },
    onEndpoint,
    policies,
    onChange: (endpoint, there) => dns.ownEndpoint(endpoint, there),
    onNetworkChange: () => {
      void policies.refresh();
      dns.refresh();
      overlaps.look.soon();
    },
  });
  const endpointPorts = new EndpointPorts({ endpoints, memberships, ports, reconciler, log });
  const attacher = new Attacher({
    ...{ kernel, reconciler, memberships, endpoints, addresses, publisher, ports, resolvConf, log, node },
    docker: settings.docker,
    runs: runTarget.call,
  });
  const tracePeers = new TracePeers(() => memberships.list(), store.view);
  const tracer = new Tracer({ node, kernel, endpoints, peers: tracePeers });
  shutdown.add('traces', () => tracer.close());
  shutdown.add('names', () => dns.stop());
  // The object itself: a function for each method could leave a parameter out, and would compile.
  memberships.listen(endpoints);
  const attachmentState = new AttachmentState(settings.stateDir);
  const attachments = new Attachments({
    ...{ kernel, reconciler, problems, log },
    state: attachmentState,
    docker: settings.docker,
    underlay: () => underlay.current,
    memberships: () => memberships.list(),
  });
  const gateways = new Gateways({ store, memberships, problems, node });
  shutdown.add('the gateways', () => gateways.stop());
  const containers = new Containers({
    state: new ContainerState(settings.stateDir, settings.runDir),
    networks: containerNetworks(kernel, attacher, endpoints, dns),
    ...{ problems, log, bootId },
  });
  shutdown.add('watching the containers', () => containers.stop());
  const hostEndpoint = new HostEndpoint({
    ...{ kernel, reconciler, memberships, endpoints, addresses, publisher, log, node },
  });
  const forPlugins = { store, kernel, memberships, addresses, endpoints, publisher, state, log, node };
  const pluginNetworks = new PluginNetworks({ ...forPlugins, instance });
  const pluginAddresses = new PluginAddresses(forPlugins);
  const pluginEndpoints = new PluginEndpoints({
    ...{ ...forPlugins, endpointPorts, attacher, reconciler },
    servesNames: settings.dns === 'on',
  });
  const peers = new Peers({
    ...{ store, kernel, memberships, reconciler, overlaps, underlay, metrics, problems, log, node, onPath },
  });
  measurePeers(metrics.registry, () => peers.list());
  const keyRotation = new KeyRotation({
    ...{ state, memberships, store, log },
    greet: () => peers.greet(underlay.current.link),
  });

  sandboxGone.connect(({ kind, id }) => (kind === 'attachment' ? attachments : endpoints).sandboxGone(id));
  movedIn.connect((names) => pluginEndpoints.movedIn(names));
  runTarget.connect((name) => containers.target(name));
  linksChanged.connect(() => {
    // The links change, too, while the parts stop; the memberships have stopped before the reconciler.
    if (shutdown.signal.aborted) return;
    void underlay.look();
    void duplicates.now();
    void memberships.parentsChanged();
  });
  const checks = new ContainerChecks({
    ...{ endpoints, memberships, problems, view: store.view, servesNames: settings.dns === 'on' },
  });
  lookedAt.connect((actual) => checks.node(actual));
  lookedInto.connect((record, namespace, actual) => checks.container(record, namespace, actual));
  keepsClaim.connect((claim) => pluginAddresses.keeps(claim));

  return {
    ...{
      reconciler,
      memberships,
      gateways,
      keyRotation,
      publisher,
      addresses,
      ports,
      endpoints,
      endpointPorts,
    },
    ...{ attacher, hostEndpoint, attachments, attachmentState, containers, dns, netnsResolvConf, peers },
    ...{ overlaps, control, policies, duplicateAddresses: duplicates, told, tracer },
    ...{ pluginNetworks, pluginAddresses, pluginEndpoints },
  };
}

/** The networks of --subnet-only. One with containers of this node keeps its bridge until they are detached. */
function withoutContainers({ settings, loaded, problems }: Opened): string[] {
  return settings.subnetOnly.filter((name) => {
    const isUsed = loaded.endpoints.some(({ network }) => network === name);
    if (isUsed)
      problems.set(
        { scope: NODE, kind: 'subnet-only', id: name },
        {
          what: `network ${name}, which --subnet-only names`,
          why: 'containers of this node are attached to it, by the bridge that weft made',
          fix: 'Detach them and restart the agent: until then weft keeps the bridge.',
        },
      );
    return !isUsed;
  });
}
