// The daemon of a node. This file makes the parts and ties them together; what each does is said in its own file.
import { messageOf, WeftError } from '../core/errors.js';
import type { Endpoint, NodeRecord } from '../core/records.js';
import { startHttp } from '../daemon/http.js';
import { createLogger, type Logger } from '../daemon/log.js';
import type { Plugin } from '../daemon/plugin-host.js';
import { settingsOrExit } from '../daemon/settings.js';
import { installShutdown, type Shutdown } from '../daemon/shutdown.js';
import { readEtcdTls, readTls } from '../daemon/tls.js';
import { version } from '../daemon/version.js';
import type { Endpoint as EndpointMessage } from '../proto/gen/weft/v1/types.js';
import { openStore } from '../store/etcd-store.js';
import type { Store } from '../store/store.js';
import {
  Addresses,
  Attacher,
  earlierLifeEnds,
  EndpointPorts,
  EndpointResolvConf,
  Endpoints,
  HostEndpoint,
  mayBeMore,
  PublishedPorts,
  Publisher,
  recoverEndpoints,
} from './endpoints/index.js';
import {
  agentApi,
  mountHostEndpoint,
  serveApi,
  startGauges,
  startSession,
  statusOf,
  endpointMessage,
} from './api/index.js';
import { cleanup } from './cleanup.js';
import { Dns, dnsMetrics, NetnsResolvConf } from './dns/index.js';
import { bootId, checkPrivileges, type Kernel, openFirewall, openKernel } from './kernel/index.js';
import { Gateways, joinWhenThere, Memberships } from './networks/index.js';
import { agentMetrics, AgentReadiness, NAME_CONFLICT, NODE, Problems } from './health/index.js';
import { NodeUnderlay, Peers, RouterAdvertisements, type UnderlaySettings } from './underlay/index.js';
import { PluginAddresses, PluginEndpoints, PluginNetworks, SET_ASIDE } from './plugin-host/index.js';
import { FilePortJournal, State } from './state/index.js';
import { Reconciler } from './reconcile/index.js';
import { containerNetworks, Containers, ContainerState, mountRuntime } from './runtime/index.js';
import { agentProgram, agentSettingsFrom, type AgentSettings } from './settings.js';
import { StoreFollower } from './store-follower.js';
import { Attachments, AttachmentState } from './pipework/index.js';

/** `weft agent`. @param argv the words behind it; @param plugins doors for other programs, mounted once it serves */
export async function main(argv: readonly string[], plugins: readonly Plugin[] = []): Promise<void> {
  const settings = agentSettingsFrom(settingsOrExit(agentProgram, argv).values);
  const log = createLogger({ level: settings.logLevel, format: settings.logFormat });
  const shutdown = installShutdown(log);
  // Whoever started the agent with less: nobody else may write to its files, nor connect to its sockets.
  process.umask(process.umask(0o077) | 0o022);
  try {
    checkPrivileges();
    await (settings.cleanup ? runCleanup(settings, log, shutdown) : run(settings, log, shutdown, plugins));
  } catch (error) {
    if (shutdown.signal.aborted) return;
    log.error('the agent cannot go on', { error: error instanceof WeftError ? error : messageOf(error) });
    if (!(error instanceof WeftError)) log.debug('where it happened', { error });
    shutdown.end('a failure', 1);
  }
}

async function open(settings: AgentSettings, log: Logger): Promise<{ kernel: Kernel; store: Store }> {
  const tls = readEtcdTls(settings);
  const firewall = await openFirewall(settings.firewall, { log });
  const journal = new FilePortJournal(settings.stateDir, bootId);
  const kernel = await openKernel({ firewall, journal });
  const store = openStore({
    endpoints: [...settings.etcd],
    prefix: settings.prefix,
    ...(tls === undefined ? {} : { tls }),
    log,
  });
  return { kernel, store };
}

async function runCleanup(settings: AgentSettings, log: Logger, shutdown: Shutdown): Promise<void> {
  const { kernel, store } = await open(settings, log);
  shutdown.add('the kernel', () => kernel.close());
  shutdown.add('the store', () => store.close());
  const { node, runDir, stateDir } = settings;
  await cleanup({ kernel, store, log, node, runDir, stateDir, signal: shutdown.signal });
  shutdown.end('cleaned up', 0);
}

async function run(
  settings: AgentSettings,
  log: Logger,
  shutdown: Shutdown,
  plugins: readonly Plugin[],
): Promise<void> {
  const tls = readTls(settings);
  const state = new State(settings.stateDir);
  const loaded = state.load();
  const { node } = settings;
  const { instance } = loaded;
  const startedAt = new Date().toISOString();
  const metrics = agentMetrics();
  const { kernel, store } = await open(settings, log);
  shutdown.add('the kernel', () => kernel.close());
  shutdown.add('the store', () => store.close());

  let reported = (): void => {};
  const problems = new Problems(() => reported());
  const readiness = new AgentReadiness(problems);
  const http = await startHttp({
    listen: settings.http,
    registry: metrics.registry,
    readiness: () => readiness.now(),
    log,
  });
  shutdown.add('http', () => http.stop());

  const underlay = await NodeUnderlay.find(
    { kernel, problems, log, settings: underlaySettings(settings) },
    shutdown.signal,
    (reason) => readiness.waitsFor(reason),
  );
  const reconciler = new Reconciler({
    kernel,
    log,
    metrics,
    problems,
    onSandboxGone: ({ kind, id }) => (kind === 'attachment' ? attachments : endpoints).sandboxGone(id),
    onMovedIn: (names) => pluginEndpoints.movedIn(names),
    onUnderlay: () => void underlay.look(),
  });
  shutdown.add('the reconciler', () => reconciler.stop());
  const memberships = new Memberships({
    kernel,
    store,
    reconciler,
    state,
    log,
    problems,
    node,
    instance,
    runDir: settings.runDir,
    subnetTtlSeconds: settings.subnetTtl.seconds,
    underlay: () => underlay.current,
  });
  shutdown.add('the memberships', () => memberships.stop());
  const publisher = new Publisher({
    store,
    log,
    metrics,
    problems,
    node,
    instance,
    current: () => endpoints.list(),
    keeps: (claim) => pluginAddresses.keeps(claim),
  });
  shutdown.add('telling the store', () => publisher.stop());
  const netnsResolvConf = new NetnsResolvConf({ stateDir: settings.stateDir, log });
  const resolvConf = new EndpointResolvConf({
    files: netnsResolvConf,
    text: (networks) => dns.resolvConf(networks),
    endpoints: () => endpoints.list(),
    log,
  });
  const nameOf = (holder: string): string | undefined =>
    holder === SET_ASIDE ? 'an --aux-address' : endpoints.get(holder)?.name;
  const addresses = new Addresses({ store, memberships, node, nameOf, incomplete: mayBeMore(loaded) });
  const ports = new PublishedPorts({ kernel, store, memberships, reconciler, problems, log, node });
  shutdown.add('the ports', () => ports.stop());
  const endpoints = new Endpoints({
    reconciler,
    memberships,
    addresses,
    publisher,
    ports,
    state,
    problems,
    log,
    resolvConf,
    onChange: (endpoint, there) => dns.ownEndpoint(endpoint, there),
  });
  const endpointPorts = new EndpointPorts({ endpoints, memberships, ports, reconciler });
  const attacher = new Attacher({
    kernel,
    reconciler,
    memberships,
    endpoints,
    addresses,
    publisher,
    ports,
    resolvConf,
    log,
    node,
    docker: settings.docker,
    runs: (name) => containers.target(name),
  });
  const dns = new Dns({
    ...{ store, memberships, kernel, problems, log, node },
    metrics: dnsMetrics(metrics.registry),
    listen: settings.dns === 'on',
    servers: settings.dnsServer ?? [],
  });
  shutdown.add('names', () => dns.stop());
  memberships.listen({
    changed: async (network) => {
      await endpoints.changed(network);
      dns.refresh();
    },
    left: (network) => endpoints.left(network),
    refusal: (network, ip, endpoint) => endpoints.refusal(network, ip, endpoint),
    isUsed: (network) => endpoints.isUsed(network),
  });
  const attachmentState = new AttachmentState(settings.stateDir);
  const attachments = new Attachments({
    kernel,
    reconciler,
    state: attachmentState,
    problems,
    log,
    docker: settings.docker,
    underlay: () => underlay.current,
    memberships: () => memberships.list(),
  });
  const gateways = new Gateways({ store, memberships, problems, node });
  shutdown.add('the gateways', () => gateways.stop());
  const containers = new Containers({
    state: new ContainerState(settings.stateDir, settings.runDir),
    networks: containerNetworks(kernel, attacher, endpoints, dns),
    problems,
    log,
    bootId,
  });
  const exposure = new HostEndpoint({
    kernel,
    reconciler,
    memberships,
    endpoints,
    addresses,
    publisher,
    log,
    node,
  });
  shutdown.add('watching the containers', () => containers.stop());
  const forPlugins = { store, kernel, memberships, addresses, endpoints, publisher, state, log, node };
  const pluginAddresses = new PluginAddresses(forPlugins);
  const pluginEndpoints = new PluginEndpoints({ ...forPlugins, endpointPorts });
  const peers = new Peers({ store, kernel, memberships, metrics, problems, node });

  // What is remembered is put right first: the node must not wait for etcd.
  await memberships.restore(loaded.networks);
  await endpoints.restore(loaded.endpoints);
  await attachments.restore(
    attachmentState.load((path, why) => {
      log.error('a file of the state directory cannot be read', { path, error: why });
      problems.set(
        { scope: NODE, kind: 'state-file', id: path },
        {
          what: `the state file ${path}`,
          why: `it cannot be read: ${why}`,
          fix: 'The attachment that it was about is not known any more; put it right with weft pipework, then delete the file.',
        },
      );
    }),
  );
  netnsResolvConf.keepOnly(endpoints.list().flatMap(({ dns, target }) => (dns === true ? [target] : [])));
  pluginAddresses.restore(loaded.reservations);
  await reconciler.start();
  dns.start();
  ports.start();
  containers.restore();

  const record = (): NodeRecord => ({
    name: node,
    instance,
    publicIp: underlay.current.ip.toString(),
    ...(underlay.current.ip6 === undefined ? {} : { publicIp6: underlay.current.ip6.toString() }),
    version,
    startedAt,
  });
  const announcement = store.announce(record, {
    ttlSeconds: settings.nodeTtl.seconds,
    onConflict: (other) => {
      log.error('this node’s name is taken', { node, other: other.publicIp, otherInstance: other.instance });
      problems.set(NAME_CONFLICT, {
        what: `node ${node}`,
        why: `another agent of that name is alive, at ${other.publicIp}; this one is at ${underlay.current.ip.toString()}`,
        fix: `Give one of them another name with --node. This one stays out until the other is removed (weft node rm ${node}), or until it is restarted while the other is down.`,
      });
    },
  });
  shutdown.add('the announcement', () => announcement.stop());

  const statusSources = {
    store,
    etcd: settings.etcd,
    memberships,
    endpoints,
    publisher,
    peers,
    problems,
    metrics,
    firewall: kernel.firewall.kind,
    capabilities: kernel.capabilities(),
    node,
    version,
    startedAt,
    publicIp: () => ({
      ip: underlay.current.ip.toString(),
      ...(underlay.current.ip6 === undefined ? {} : { ip6: underlay.current.ip6.toString() }),
    }),
    controller: () => session.state(),
  };
  const door = agentApi({
    ...{
      store,
      memberships,
      attacher,
      endpoints,
      endpointPorts,
      ports,
      containers,
      attachments,
      dns,
      metrics,
    },
    status: () => Promise.resolve(statusOf(statusSources)),
    changed: () => reported(),
  });
  const session = startSession({
    controllers: settings.controller.map(({ text }) => text),
    tls,
    hello: { node, instance, version },
    status: () => statusOf(statusSources),
    handle: (request) =>
      request.$case === 'attach' ? door.attach(request.value) : door.detach(request.value),
    log,
  });
  reported = () => session.changed();
  shutdown.add('the session', () => session.stop());
  const wire = (endpoint: Endpoint): EndpointMessage => endpointMessage(endpoint, memberships);
  const api = await serveApi(settings.runDir, door, [
    (server) => mountRuntime(server, containers, wire, () => reported()),
    (server) => mountHostEndpoint(server, exposure, wire, () => reported()),
  ]);
  shutdown.add('the api', () => api.stop());
  if (memberships.list().length > 0) readiness.begins();
  else readiness.waitsFor(`etcd at ${settings.etcd.join(', ')} has not answered yet`);
  shutdown.add('the gauges', startGauges(statusSources));
  log.info('the agent serves', {
    node,
    socket: api.path,
    underlay: underlay.current.ip.toString(),
    firewall: kernel.firewall.kind,
  });

  for (const plugin of plugins) {
    const mounted = await plugin({
      node,
      log,
      signal: shutdown.signal,
      stateDir: settings.stateDir,
      cnmSocket: settings.cnmSocket,
      docker: settings.docker,
      networks: new PluginNetworks({ store, kernel, memberships, endpoints, log, instance }),
      addresses: pluginAddresses,
      endpoints: pluginEndpoints,
      problem: ({ plugin, ...about }, problem) =>
        problems.put({ scope: { kind: 'plugin', plugin }, ...about }, problem),
    });
    shutdown.add('a plugin', () => mounted.stop());
  }

  const follower = new StoreFollower(
    {
      ...{ store, memberships, gateways, ports, publisher, pluginAddresses, announcement },
      ...{ metrics, problems, log, node, instance },
      signal: shutdown.signal,
      changed: () => reported(),
    },
    async () => {
      const own = { node, instance, publicIp: () => underlay.current.ip.toString() };
      if (loaded.fresh) await earlierLifeEnds(store, own, shutdown.signal);
      await recoverEndpoints({
        ...{ loaded, store, kernel, endpoints, addresses, memberships },
        problems,
        log,
        node,
      });
      await memberships.resume();
      for (const { name } of store.view.networks.values()) await memberships.answerClaims(name);
      publisher.resync();
      await gateways.join();
      for (const { network } of memberships.list()) await ports.follow(network.name);
      // The records are complete now: what is weft's and in none of them is left over.
      reconciler.allowPruning();
      await reconciler.compare('start');
      readiness.begins();
    },
  );
  shutdown.add('following the store', () => follower.stop());
  const forwards = (): boolean => reconciler.wants('sysctl net/ipv6/conf/all/forwarding');
  const advertisements = new RouterAdvertisements({ kernel, problems, log, forwards });
  advertisements.start();
  shutdown.add('looking for deaf links', () => advertisements.stop());
  peers.start();
  shutdown.add('the samples', () => peers.stop());
  for (const name of settings.join)
    void joinWhenThere(name, { memberships, store, problems, log, signal: shutdown.signal });

  await underlay.follow({
    changed: (moved) => {
      // The old address is no address of this host any more, and a connection from it is silent for ever.
      if (moved) store.reconnect();
      announcement.refresh();
      follower.next('the underlay', () => memberships.underlayChanged());
    },
    back: () => peers.greet(underlay.current.link),
  });
}

const underlaySettings = (settings: AgentSettings): UnderlaySettings => ({
  ...(settings.underlayIp === undefined
    ? {}
    : {
        ips: [
          settings.underlayIp.ip,
          ...(settings.underlayIp.ip6 === undefined ? [] : [settings.underlayIp.ip6]),
        ],
      }),
  ...(settings.underlayIface === undefined ? {} : { iface: settings.underlayIface }),
});
