// The daemon of a node. This file makes the parts and ties them together; what each does is said in its own file.
import { alreadyExists, messageOf, unavailable, WeftError } from '../core/errors.js';
import type { Underlay } from '../core/compile.js';
import type { Endpoint, NodeRecord } from '../core/records.js';
import { startHttp, type Readiness } from '../daemon/http.js';
import { createLogger, type Logger } from '../daemon/log.js';
import type { Plugin } from '../daemon/plugin-host.js';
import { settingsOrExit } from '../daemon/settings.js';
import { installShutdown, type Shutdown } from '../daemon/shutdown.js';
import { readEtcdTls, readTls } from '../daemon/tls.js';
import { version } from '../daemon/version.js';
import type { Endpoint as WireEndpoint } from '../proto/gen/weft/v1/types.js';
import { openStore } from '../store/etcd-store.js';
import type { Change, Store } from '../store/store.js';
import { Addresses } from './addresses.js';
import { parseDetach, serveApi, type AgentDoor } from './api.js';
import { parseAttach } from './attach-request.js';
import { cleanup } from './cleanup.js';
import { nameApi } from './dns/api.js';
import { Dns } from './dns/dns.js';
import { NetnsResolvConf } from './dns/netns-resolv-conf.js';
import { dnsMetrics } from './dns/metrics.js';
import { Endpoints } from './endpoints.js';
import { Exposure } from './exposure.js';
import { mountHost } from './host-service.js';
import { openFirewall } from './kernel/firewall/index.js';
import { Gateways } from './gateways.js';
import type { Kernel } from './kernel/kernel.js';
import { openKernel } from './kernel/linux.js';
import { bootId } from './kernel/namespaces.js';
import { Memberships } from './memberships.js';
import { agentMetrics } from './metrics.js';
import { PluginAddresses, PluginEndpoints, SET_ASIDE } from './plugin-endpoints.js';
import { PluginNetworks } from './plugin-networks.js';
import { Peers } from './peers.js';
import { FilePortJournal } from './port-journal.js';
import { portDoor } from './port-door.js';
import { Ports } from './ports.js';
import { Problems } from './problems.js';
import { Publisher } from './publisher.js';
import { Reconciler } from './reconciler.js';
import { RouterAdvertisements } from './router-advertisements.js';
import { containerNetworks } from './runtime/container-networks.js';
import { ContainerState } from './runtime/container-state.js';
import { Containers } from './runtime/containers.js';
import { mountRuntime } from './runtime/service.js';
import { startSession } from './session.js';
import { agentProgram, agentSettingsFrom, type AgentSettings } from './settings.js';
import { State } from './state.js';
import { statusOf, wireEndpoint } from './status.js';
import { recoverEndpoints } from './recovery.js';
import { findUnderlay, sameUnderlay } from './underlay.js';
import { parseWire, parseWireDetach, wireMessage } from './wire-request.js';
import { WireState } from './wire-state.js';
import { Wires } from './wires.js';

/** `weft agent`. @param argv the words behind it; @param plugins doors for other programs, mounted once it serves */
export async function main(argv: readonly string[], plugins: readonly Plugin[] = []): Promise<void> {
  const settings = agentSettingsFrom(settingsOrExit(agentProgram, argv).values);
  const log = createLogger({ level: settings.logLevel, format: settings.logFormat });
  const shutdown = installShutdown(log);
  try {
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
  const problems = new Problems(() => {
    metrics.problems.set(problems.list().length);
    reported();
  });
  let ready: Readiness = { ready: false, reason: 'the agent is starting' };
  const http = await startHttp({
    listen: settings.http,
    registry: metrics.registry,
    readiness: () => ready,
    log,
  });
  shutdown.add('http', () => http.stop());

  let underlay = await waitForUnderlay(settings, kernel, log, shutdown.signal, (reason) => {
    ready = { ready: false, reason };
  });
  // Of use once the parts that it tells are there.
  let lookAtUnderlay = (): Promise<void> => Promise.resolve();
  const reconciler = new Reconciler({
    kernel,
    log,
    metrics,
    problems,
    onVanished: (record) => (wires.owns(record) ? wires : endpoints).vanished(record),
    onMovedIn: (names) => pluginEndpoints.movedIn(names),
    onUnderlay: () => void lookAtUnderlay(),
  });
  shutdown.add('the reconciler', () => reconciler.stop());
  const memberships = new Memberships({
    kernel,
    store,
    reconciler,
    state,
    log,
    metrics,
    problems,
    node,
    instance,
    runDir: settings.runDir,
    subnetTtlSeconds: settings.subnetTtl.seconds,
    underlay: () => underlay,
  });
  shutdown.add('the memberships', () => memberships.stop());
  const publisher = new Publisher({
    store,
    log,
    metrics,
    problems,
    node,
    current: () => endpoints.list(),
    keeps: (claim) => pluginAddresses.keeps(claim),
  });
  shutdown.add('telling the store', () => publisher.stop());
  const resolvConf = new NetnsResolvConf({ stateDir: settings.stateDir, log });
  const nameOf = (holder: string): string | undefined =>
    holder === SET_ASIDE ? 'an --aux-address' : endpoints.get(holder)?.name;
  const addresses = new Addresses({ store, memberships, node, nameOf });
  const ports = new Ports({ kernel, store, memberships, reconciler, problems, log, node });
  shutdown.add('the ports', () => ports.stop());
  const endpoints = new Endpoints({
    kernel,
    reconciler,
    memberships,
    addresses,
    publisher,
    ports,
    state,
    log,
    node,
    docker: settings.docker,
    resolvConf,
    resolvConfText: (networks) => dns.resolvConf(networks),
    onChange: (endpoint, there) => dns.ownEndpoint(endpoint, there),
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
    refusal: (network, ip) => endpoints.refusal(network, ip),
    isUsed: (network) => endpoints.isUsed(network),
  });
  const wireState = new WireState(settings.stateDir);
  const wires = new Wires({
    kernel,
    reconciler,
    state: wireState,
    log,
    docker: settings.docker,
    underlay: () => underlay,
    memberships: () => memberships.list(),
  });
  const gateways = new Gateways({ store, memberships, problems, node });
  shutdown.add('the gateways', () => gateways.stop());
  const containers = new Containers({
    state: new ContainerState(settings.stateDir, settings.runDir),
    networks: containerNetworks(kernel, endpoints, dns),
    problems,
    log,
    bootId,
  });
  const exposure = new Exposure({ kernel, reconciler, memberships, endpoints, publisher, node });
  shutdown.add('watching the containers', () => containers.stop());
  const forPlugins = { store, kernel, memberships, addresses, endpoints, publisher, state, log, node };
  const pluginAddresses = new PluginAddresses(forPlugins);
  const pluginEndpoints = new PluginEndpoints(forPlugins);
  const peers = new Peers({ store, kernel, memberships, metrics, problems, node });

  // What is remembered is put right first: the node must not wait for etcd.
  await memberships.restore(loaded.networks);
  await endpoints.restore(loaded.endpoints);
  await wires.restore(
    wireState.load((path, why) => {
      log.error('a file of the state directory cannot be read', { path, error: why });
    }),
  );
  resolvConf.keepOnly(endpoints.list().flatMap(({ dns, target }) => (dns === true ? [target] : [])));
  pluginAddresses.restore(loaded.reservations);
  await reconciler.start();
  dns.start();
  ports.start();
  containers.restore();

  const record = (): NodeRecord => ({
    name: node,
    instance,
    publicIp: underlay.ip.toString(),
    ...(underlay.ip6 === undefined ? {} : { publicIp6: underlay.ip6.toString() }),
    version,
    startedAt,
  });
  const announcement = store.announce(record, {
    ttlSeconds: settings.nodeTtl.seconds,
    onConflict: (other) => {
      log.error('this node’s name is taken', { node, other: other.publicIp, otherInstance: other.instance });
      problems.set('name', {
        what: `node ${node}`,
        why: `another agent of that name is alive, at ${other.publicIp}; this one is at ${underlay.ip.toString()}`,
        fix: 'Give one of them another name with --node.',
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
      ip: underlay.ip.toString(),
      ...(underlay.ip6 === undefined ? {} : { ip6: underlay.ip6.toString() }),
    }),
    controller: () => session.state(),
  };
  const door: AgentDoor = {
    attach: async (wire) => {
      // The address of an endpoint whose file is torn must not count as free; etcd knows it.
      if (!store.isSynced && loaded.torn.some(({ kind }) => kind === 'endpoint')) {
        throw unavailable(
          'a state file of this node is torn, and etcd, which knows what it said, has not answered yet',
          'Try again when etcd is back.',
        );
      }
      const end = metrics.attachSeconds.startTimer();
      try {
        const endpoint = await endpoints.attach(parseAttach(wire));
        containers.attached(wire, endpoint);
        end({ result: 'done' });
        reported();
        return wireEndpoint(endpoint, memberships);
      } catch (error) {
        end({ result: 'refused' });
        throw error;
      }
    },
    detach: async (wire) => {
      const { network, target } = parseDetach(wire);
      // Before it is gone: its gateway and MTU are the network's.
      const endpoint = await endpoints.detach(network, target);
      containers.detached(endpoint);
      reported();
      return wireEndpoint(endpoint, memberships);
    },
    pipework: async (wire) => wireMessage(await wires.attach(parseWire(wire))),
    pipeworkDetach: async (wire) => wireMessage(await wires.detach(parseWireDetach(wire))),
    status: () => Promise.resolve(statusOf(statusSources)),
    names: nameApi({ dns, store, networks: () => memberships.list().map(({ network }) => network.name) }),
    ...portDoor({ endpoints, ports, store, changed: () => reported() }),
  };
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
  const wire = (endpoint: Endpoint): WireEndpoint => wireEndpoint(endpoint, memberships);
  const api = await serveApi(settings.runDir, door, [
    (server) => mountRuntime(server, containers, wire, () => reported()),
    (server) => mountHost(server, exposure, wire, () => reported()),
  ]);
  shutdown.add('the api', () => api.stop());
  if (memberships.list().length > 0) ready = { ready: true };
  else ready = { ready: false, reason: `etcd at ${settings.etcd.join(', ')} has not answered yet` };
  log.info('the agent serves', {
    node,
    socket: api.path,
    underlay: underlay.ip.toString(),
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
      problem: (key, problem) => (problem === undefined ? problems.clear(key) : problems.set(key, problem)),
    });
    shutdown.add('a plugin', () => mounted.stop());
  }

  // One batch after the other, in etcd's order.
  let work = store.synced(shutdown.signal).then(async () => {
    await recoverEndpoints({ loaded, store, kernel, endpoints, memberships, problems, log, node });
    await memberships.resume();
    for (const { name } of store.view.networks.values()) await memberships.answerClaims(name);
    publisher.resync();
    await gateways.join();
    for (const { network } of memberships.list()) await ports.follow(network.name);
    // The records are complete now: what is weft's and in none of them is left over.
    reconciler.allowPruning();
    await reconciler.compare('start');
    ready = { ready: true };
  });
  const next = (what: string, step: () => Promise<void>): void => {
    work = work.then(step).catch((error: unknown) => {
      if (shutdown.signal.aborted) return;
      log.error('could not follow the store', { what, error: messageOf(error) });
    });
  };
  next('the first list', () => Promise.resolve());
  shutdown.add(
    'following the store',
    store.subscribe((changes) => {
      if (!store.isSynced) return;
      next('a change', () => follow(changes));
    }),
  );
  const follow = async (changes: readonly Change[]): Promise<void> => {
    await memberships.handle(changes);
    await gateways.handle(changes);
    await ports.handle(changes);
    publisher.handle(changes);
    pluginAddresses.handle(changes);
    metrics.leases.set(memberships.list().length);
    if (
      changes.some((change) => change.kind === 'node' && change.name === node && change.after === undefined)
    ) {
      announcement.refresh();
    }
    if (
      changes.some((change) => change.kind === 'alive' && change.name === node && change.after === instance)
    ) {
      problems.clear('name');
    }
  };
  let connected = store.state.connected;
  shutdown.add(
    'the state of the store',
    store.onState((now) => {
      metrics.storeConnected.set(now.connected ? 1 : 0);
      metrics.storeResyncs.set(now.resyncs);
      if (now.connected && !connected && store.isSynced) {
        publisher.kick();
        next('being connected again', async () => {
          await memberships.reconnected();
          publisher.resync();
        });
      }
      connected = now.connected;
      reported();
    }),
  );
  const gauges = setInterval(() => {
    metrics.endpoints.reset();
    for (const { network } of memberships.list()) {
      const count = endpoints.list().filter((endpoint) => endpoint.network === network.name).length;
      metrics.endpoints.set({ network: network.name }, count);
    }
    metrics.leases.set(memberships.list().length);
  }, 1000);
  shutdown.add('the gauges', () => clearInterval(gauges));
  const forwards = (): boolean => reconciler.wants('sysctl net/ipv6/conf/all/forwarding');
  const advertisements = new RouterAdvertisements({ kernel, problems, log, forwards });
  advertisements.start();
  shutdown.add('looking for deaf links', () => advertisements.stop());
  peers.start();
  shutdown.add('the samples', () => peers.stop());
  for (const name of settings.join)
    void joinWhenThere(name, memberships, store, problems, log, shutdown.signal);

  lookAtUnderlay = async (): Promise<void> => {
    try {
      const found = findUnderlay(await kernel.underlayLinks(), wishOf(settings));
      problems.clear('underlay');
      if (sameUnderlay(found, underlay)) return;
      log.info('the underlay changed', {
        from: underlay.ip.toString(),
        to: found.ip.toString(),
        mtu: found.mtu,
      });
      const moved = !found.ip.equals(underlay.ip);
      underlay = found;
      // The old address is no address of this host any more, and a connection from it is silent for ever.
      if (moved) store.reconnect();
      announcement.refresh();
      next('the underlay', () => memberships.underlayChanged());
    } catch (error) {
      // Cables are pulled and put back: what was right goes on until there is something better.
      problems.set('underlay', {
        what: 'the underlay',
        why: messageOf(error),
        fix: error instanceof WeftError ? (error.next ?? '') : 'See the log of the agent.',
      });
    }
  };
  // What was told while the agent started.
  await lookAtUnderlay();
}

const wishOf = (settings: AgentSettings): Parameters<typeof findUnderlay>[1] => ({
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

/** At boot the agent may be there before the network is. */
async function waitForUnderlay(
  settings: AgentSettings,
  kernel: Kernel,
  log: Logger,
  signal: AbortSignal,
  waiting: (reason: string) => void,
): Promise<Underlay> {
  for (let told = false; ; told = true) {
    try {
      return findUnderlay(await kernel.underlayLinks(), wishOf(settings));
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      waiting(error.message);
      if (!told) log.warn('waiting for the underlay', { error });
    }
    await pause(500, signal);
  }
}

/** As flanneld waits for its config: `--join` names networks that may come later. */
async function joinWhenThere(
  name: string,
  memberships: Memberships,
  store: Store,
  problems: Problems,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  for (let told = false; !signal.aborted; told = true) {
    try {
      await store.synced(signal);
      await memberships.join(name);
      problems.clear(`join ${name}`);
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!told) log.warn('waiting to join a network', { network: name, error: messageOf(error) });
      problems.set(`join ${name}`, {
        what: `network ${name}, which --join names`,
        why: messageOf(error),
        fix: (error instanceof WeftError ? error.next : undefined) ?? 'It is tried again every second.',
      });
    }
    await pause(1000, signal).catch(() => undefined);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        reject(alreadyExists('the agent is ending'));
      },
      { once: true },
    );
  });
}
