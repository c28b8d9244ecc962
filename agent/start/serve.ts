// Stage 4, serve: announces the node and opens the agent's API.
//
// The session with the controllers and the plugins follow.
import { setTimeout as delay } from 'node:timers/promises';

import { publicAddresses } from '../../core/compile.js';
import { messageOf, nextOf } from '../../core/errors.js';
import type { Manager } from '../../core/manager.js';
import type { Endpoint, NodeRecord } from '../../core/records.js';
import { isTooOld, tooOld } from '../../core/versions.js';
import type { Plugin, PluginHost } from '../../daemon/plugin-host.js';
import { ownValues } from '../../daemon/settings.js';
import { version } from '../../daemon/version.js';
import type { Access } from '../../proto/gen/weft/v1/agent.js';
import type { Endpoint as EndpointMessage, StatusPlugin } from '../../proto/gen/weft/v1/types.js';
import type { Announcement } from '../../store/store.js';
import {
  agentApi,
  endpointMessage,
  etcdAt,
  HttpRoutes,
  handleRequest,
  measureNode,
  mountHostEndpoint,
  mountInspection,
  mountKeys,
  type Mount,
  startSession,
  statusOf,
  type StatusSources,
} from '../api/index.js';
import { clockProblem, countDenials, NAME_CONFLICT, NODE } from '../health/index.js';
import { nodeIdentityFolder } from '../identity/index.js';
import { inspector, measureTraffic, Sandboxes, trafficOf } from '../inspect/index.js';
import { mountRuntime } from '../runtime/index.js';
import type { Parts } from './assemble.js';
import { type Opened, startSources } from './open.js';

/** A look into the containers that is not older is good enough for the status, in milliseconds. */
const LOOKED_MS = 2000;
/** How long the status waits for one. */
const LOOK_WITHIN_MS = 1000;

/** The node's announcement in etcd, which waits for `appear`. */
export interface Announced {
  announcement: Announcement;
  appear: () => void;
}

export async function serve(opened: Opened, parts: Parts, plugins: readonly Plugin[]): Promise<Announced> {
  const { settings, shutdown, log, node, kernel, underlay, readiness, changed } = opened;
  const { memberships, containers, hostEndpoint } = parts;
  let appear = (): void => undefined;
  const announcement = announce(opened, new Promise((resolve) => (appear = resolve)));
  countDenials(opened.metrics.registry, () => parts.policies.denials());
  const serving: StatusPlugin[] = [];
  const sources = statusSources(opened, parts, serving);
  const api = agentApi({
    ...parts,
    ...{ store: opened.store, metrics: opened.metrics, kernel },
    status: async () => {
      // What is wrong inside of containers nobody tells; a person who asks wants to know how it is now.
      const look = parts.reconciler.lookInside(LOOKED_MS).catch(() => undefined);
      await Promise.race([look, delay(LOOK_WITHIN_MS, undefined, { ref: false })]);
      return statusOf(sources);
    },
    access: () => accessOf(opened, session.state().address),
    changed: changed.call,
  });
  const sandboxes = new Sandboxes({
    ...{ kernel, memberships },
    isUsed: (name) => parts.endpoints.list().some(({ network }) => network === name),
    attach: (request, signal) => api.attach(request, signal),
    detach: (request) => api.detach(request, shutdown.signal),
  });
  shutdown.add('temporary containers', () => sandboxes.stop());
  const answering = inspector({
    ...{ sandboxes },
    ...parts,
    ...{ node, version, kernel, store: opened.store, problems: opened.problems, status: () => api.status() },
    ...{ settings, events: opened.events, metrics: () => opened.metrics.registry.metrics() },
  });
  measureTraffic(opened.metrics.registry, settings.endpointMetrics === 'on', () =>
    trafficOf({ ...parts, kernel }),
  );
  const session = startSession({
    controllers: settings.controller.map(({ text }) => text),
    // Read for each connection: the certificate is renewed.
    get tls() {
      return opened.tls();
    },
    hello: { node, instance: opened.instance, version },
    onAuthorities: (hashes) => opened.identity?.mustTrust(hashes),
    // What all nodes would report a controller finds by itself; and a report does not grow with the cluster.
    status: () => statusOf({ ...sources, displaced: { problems: () => [] }, peers: { list: () => [] } }),
    onControl: (addresses) => void parts.control.told(addresses),
    events: opened.events,
    onState: parts.told.onSession,
    onTime: (controller, withinMs) => {
      const key = { scope: NODE, kind: 'clock' } as const;
      opened.metrics.clockOffset.set((Date.now() - withinMs / 2 - controller) / 1000);
      opened.problems.put(key, clockProblem(Date.now(), controller, withinMs, session.state().address));
    },
    onVersion: (its, address) => checkVersion(opened, its, address),
    handle: (request) => handleRequest(request, api, parts.tracer, shutdown.signal),
    answering,
    log,
  });
  opened.session.connect(() => session.state());
  changed.connect(() => session.changed());
  shutdown.add('the session', () => session.stop());
  const toMessage = (endpoint: Endpoint): EndpointMessage => endpointMessage(endpoint, memberships);
  // Once more: requests end before the parts that handle them.
  shutdown.add('requests', () => opened.socket.stop());
  if (memberships.list().length > 0) readiness.begins();
  else
    readiness.waitsFor(() => ({
      what: etcdAt(settings.etcd),
      why: opened.store.state.error ?? 'it has not answered yet',
      fix: 'Start etcd, or check --etcd; until then the node joins no network.',
    }));
  const routes = new HttpRoutes(log, opened.audit);
  const mounts: readonly Mount[] = [
    (server) => mountRuntime(server, containers, toMessage, changed.call),
    (server) => mountHostEndpoint(server, hostEndpoint, toMessage, changed.call),
    (server) => mountInspection(server, answering),
    (server) => mountKeys(server, node, parts.keyRotation, changed.call),
  ];
  opened.socket.serve(api, mounts, routes);
  measureNode(opened.metrics.registry, { ...sources, kernel });
  log.info('the agent serves', {
    node,
    socket: opened.socket.path,
    underlay: underlay.current.ip.toString(),
    firewall: kernel.firewall.kind,
  });
  const routed: Manager[] = [];
  for (const plugin of plugins) await mount(plugin, opened, parts, { routes, routed, serving });
  const path = await openHttp(routes, opened);
  if (path !== undefined) serving.push(...routed.map((manager) => ({ manager, socket: path })));
  return { announcement, appear };
}

/** How this node reaches the controller. @param controller HOST:PORT; empty: it has none */
function accessOf({ settings, identity }: Opened, controller: string): Access {
  const own = identity === undefined ? undefined : nodeIdentityFolder(settings.stateDir).paths;
  const { tlsCa: ca, tlsCert: cert, tlsKey: key } = settings;
  return { controller, ca, cert, key, ...own };
}

function announce(
  { settings, store, underlay, node, instance, startedAt, ...opened }: Opened,
  after: Promise<void>,
): Announcement {
  const { log, problems, shutdown } = opened;
  const record = (): NodeRecord => {
    const here = underlay.current;
    const { ip, ip6 } = publicAddresses(here);
    return {
      ...{ name: node, instance, version, startedAt, publicIp: ip.toString() },
      ...(ip6 === undefined ? {} : { publicIp6: ip6.toString() }),
      ...(here.ip.equals(ip) ? {} : { underlayIp: here.ip.toString() }),
      ...(here.ip6 === undefined || ip6?.equals(here.ip6) === true
        ? {}
        : { underlayIp6: here.ip6.toString() }),
    };
  };
  const announcement = store.announce(record, {
    after,
    ttlSeconds: settings.nodeTtl.seconds,
    onConflict: (other) => {
      log.error('this node’s name is taken', { node, other: other.publicIp, otherInstance: other.instance });
      problems.set(NAME_CONFLICT, {
        what: `node ${node}`,
        why: `another agent of that name is alive, at ${other.publicIp}; this one is at ${record().publicIp}`,
        fix: `Give one of them another name with --node. This one stays out until the other is removed (weft node rm ${node}), or until it is restarted while the other is down.`,
      });
    },
  });
  shutdown.add('the announcement', () => announcement.stop());
  return announcement;
}

function statusSources(opened: Opened, parts: Parts, plugins: StatusSources['plugins']): StatusSources {
  const { memberships, endpoints, publisher, peers, policies } = parts;
  return {
    ...startSources(opened),
    ...{ memberships, endpoints, publisher, peers, plugins, policies },
    publicIp: () => {
      const { ip, ip6 } = publicAddresses(opened.underlay.current);
      return { ip: ip.toString(), ...(ip6 === undefined ? {} : { ip6: ip6.toString() }) };
    },
  };
}

interface Mounting {
  routes: HttpRoutes;
  /** The managers of plugins that have a route. */
  routed: Manager[];
  /** The plugins that serve somewhere, for the status. */
  serving: StatusPlugin[];
}

async function mount(
  plugin: Plugin,
  opened: Opened,
  parts: Parts,
  { routes, routed, serving }: Mounting,
): Promise<void> {
  const { settings, shutdown, log, node, problems } = opened;
  const { manager } = plugin;
  const { cniSocket } = settings;
  const host: PluginHost = {
    ...{ node, log },
    signal: shutdown.signal,
    stateDir: settings.stateDir,
    networks: parts.pluginNetworks.of(manager),
    addresses: parts.pluginAddresses.of(manager),
    endpoints: parts.pluginEndpoints.of(manager),
    route: (name, handler) => {
      if (cniSocket === undefined) return false;
      routes.add(name, handler);
      routed.push(manager);
      return true;
    },
    problem: ({ plugin, ...about }, problem) =>
      problems.put({ scope: { kind: 'plugin', plugin }, ...about }, problem),
  };
  const mounted = await plugin.mount(host, ownValues(plugin.settings, settings));
  const { socket } = mounted;
  if (socket !== undefined) serving.push({ manager, socket });
  shutdown.add('a plugin', () => mounted.stop());
}

/** A failure is a problem and does not stop the agent: commands and Docker do not need it. */
async function openHttp(
  routes: HttpRoutes,
  { settings, shutdown, log, problems }: Opened,
): Promise<string | undefined> {
  const { cniSocket } = settings;
  if (cniSocket === undefined) return undefined;
  try {
    const socket = await routes.open(cniSocket);
    shutdown.add('the HTTP socket', () => socket.stop());
    return cniSocket;
  } catch (error) {
    log.warn('the HTTP socket cannot be served', { socket: cniSocket, error: messageOf(error) });
    problems.set(
      { scope: { kind: 'plugin', plugin: 'cni' }, kind: 'plugin-socket' },
      {
        what: 'the socket of the CNI plugin',
        why: messageOf(error),
        fix: nextOf(error) ?? 'Check --cni-socket; none turns it off.',
      },
    );
    return undefined;
  }
}

function checkVersion({ problems }: Opened, its: string, address: string): void {
  const key = { scope: NODE, kind: 'controller-version' } as const;
  if (isTooOld(its)) problems.set(key, { what: `the controller at ${address}`, ...tooOld(its, 'its host') });
  else problems.clear(key);
}
