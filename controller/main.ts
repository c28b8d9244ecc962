// `weft controller`: makes the parts, connects them, and serves.
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { Server } from '@grpc/grpc-js';

import { Clouds } from '../cloud/index.js';
import { messageOf, WeftError } from '../core/errors.js';
import { AuditLog, auditInterceptor } from '../daemon/audit.js';
import { boundsInterceptor } from '../daemon/call-bounds.js';
import { EventLog } from '../daemon/event-log.js';
import { countEvents } from '../daemon/event-metrics.js';
import { eventService } from '../daemon/event-service.js';
import { frontOf, publicServerOptions, stopGrpc } from '../daemon/grpc.js';
import { followEtcd } from '../daemon/etcd-events.js';
import { startHttp, type Readiness } from '../daemon/http.js';
import { createLogger, type Logger } from '../daemon/log.js';
import { settingsOrExit } from '../daemon/settings.js';
import { installShutdown, type Shutdown } from '../daemon/shutdown.js';
import { readEtcdAccess } from '../daemon/etcd-access.js';
import { version } from '../daemon/version.js';
import { StatusServiceService } from '../proto/gen/weft/v1/agent.js';
import {
  EndpointServiceService,
  NetworkServiceService,
  NodeServiceService,
  PolicyServiceService,
} from '../proto/gen/weft/v1/controller.js';
import { EventServiceService } from '../proto/gen/weft/v1/events.js';
import { TraceServiceService } from '../proto/gen/weft/v1/trace.js';
import { IdentityServiceService } from '../proto/gen/weft/v1/identity.js';
import { InspectionServiceService } from '../proto/gen/weft/v1/inspection.js';
import { RecordServiceService } from '../proto/gen/weft/v1/record.js';
import { IpamServiceService } from '../proto/gen/weft/v1/ipam.js';
import { SessionServiceService } from '../proto/gen/weft/v1/session.js';
import { openStore } from '../store/etcd-store.js';
import type { Store } from '../store/store.js';
import { asOfInterceptor } from './as-of.js';
import { cleanUp } from './cleanup.js';
import { systemClock as clock } from './clock.js';
import { CloudRoutes } from './cloud-routes.js';
import { ClusterEvents } from './cluster-events.js';
import { startEmbeddedEtcd } from './embedded-etcd.js';
import { endpointService } from './endpoint-service.js';
import { identityService } from './identity-service.js';
import { inspectionService } from './inspection-service.js';
import { ipamService } from './ipam-service.js';
import { LeaseTimes } from './lease-times.js';
import type { Sources } from './messages.js';
import { controllerMetrics } from './metrics.js';
import { networkService } from './network-service.js';
import { nodeService } from './node-service.js';
import { writeNodeToken } from './node-token.js';
import { servePage } from './page.js';
import { policyService } from './policy-service.js';
import { Problems } from './problems.js';
import { recordService } from './record-service.js';
import { Registry } from './registry.js';
import { rightsInterceptor, type Guard } from './rights.js';
import { advertised, hostOf, Security } from './security.js';
import { Sessions } from './sessions.js';
import { controllerProgram, type ControllerSettings } from './settings.js';
import { statusService } from './status-service.js';
import { traceService } from './trace/trace-service.js';
import { Counters } from './counters.js';

/** @param argv the words behind `weft controller` */
export async function main(argv: readonly string[]): Promise<void> {
  const { values, file } = settingsOrExit(controllerProgram, argv);
  const log = createLogger({ level: values.logLevel, format: values.logFormat });
  if (file !== undefined) log.debug('settings read', { file });
  const shutdown = installShutdown(log);
  try {
    await run(values, log, shutdown);
  } catch (error) {
    if (shutdown.signal.aborted) return;
    log.error('the controller cannot go on', {
      error: error instanceof WeftError ? error : messageOf(error),
    });
    if (!(error instanceof WeftError)) log.debug('where it happened', { error });
    shutdown.end('a failure', 1);
  }
}

async function run(settings: ControllerSettings, log: Logger, shutdown: Shutdown): Promise<void> {
  const startedAt = new Date().toISOString();
  const access = readEtcdAccess(settings);
  const ips = await advertised(settings);
  const security = await Security.open(settings, ips, log);

  const etcd =
    settings.etcd === undefined
      ? await startEmbeddedEtcd({ stateDir: settings.stateDir, ...security.etcdServing(), log })
      : undefined;
  if (etcd !== undefined) shutdown.add('the embedded etcd', () => etcd.stop());
  const urls = etcd === undefined ? (settings.etcd ?? []) : [etcd.url];
  const store = openStore({
    endpoints: [...urls],
    prefix: settings.prefix,
    ...(etcd !== undefined && { tls: security.etcdTls }),
    ...access,
    log,
  });
  shutdown.add('the store', () => store.close());

  const counters = new Counters(store);
  const ownEvents = new EventLog({
    path: join(settings.stateDir, 'events', 'controller.jsonl'),
    node: '',
    log,
  });
  shutdown.add('the events', () => ownEvents.close());
  const events = new ClusterEvents(ownEvents);
  const sessions = new Sessions({
    ...{ version, clock, log, nodes: store, events },
    authorities: () => security.authorities(store),
    control: () => [
      ...ips.map((ip) => `${hostOf(ip)}:${portOf(address)}`),
      ...(etcd === undefined ? [] : etcdUrls().map((url) => new URL(url).host)),
    ],
    entered: (caller) => security.recall(caller, store),
  });
  security.onAuthorities(() => sessions.authoritiesChanged());
  const registry = new Registry({ store, counters, reports: sessions, clock });
  sessions.onReport((node) => registry.reported(node));
  events.follow(registry, store, shutdown.signal);
  shutdown.add('the state of etcd', followEtcd(store, ownEvents, urls));
  const sources = {
    store,
    counters,
    reports: sessions,
    leaseTimes: new LeaseTimes({ store, clock, log }),
  } satisfies Sources;
  const problems = new Problems({
    ...{ store, registry, reports: sessions },
    security: () => security.problems(store),
  });
  let leading = false;
  const isLeader = (): boolean => leading;
  const metrics = controllerMetrics({
    ...{ version, store, nodes: registry, sessions, etcd, isLeader },
    certificateExpires: () => security.info()?.to,
  });

  countEvents(metrics.registry, ownEvents);
  const { gceEndpoint } = settings;
  const cloudRoutes = new CloudRoutes({
    clouds: new Clouds({ signal: shutdown.signal, environment: process.env, gceEndpoint }),
    onRemoved: () => metrics.cleanedUp.inc(),
    ...{ store, log },
  });

  let address = settings.listen.text;
  const guard: Guard = {
    isPlain: (peer) => front.isPlain(peer),
    isRefused: (serial) => store.credentials.isRefused(serial),
    onUnrestricted: (serial) => security.sawUnrestricted(serial),
  };
  const rights = rightsInterceptor(guard);
  const audit = new AuditLog(join(settings.stateDir, 'audit', 'controller.log'), log);
  shutdown.add('the audit log', () => audit.close());
  const server = new Server({
    ...publicServerOptions,
    interceptors: [
      metrics.interceptor,
      boundsInterceptor((peer) => front.isPlain(peer)),
      auditInterceptor({
        write: (entry) => {
          audit.write(entry);
          events.audited(entry);
        },
      }),
      rights,
      asOfInterceptor(() => (store.state.connected ? undefined : store.state.since.toISOString())),
    ],
  });
  server.addService(NetworkServiceService, networkService(sources));
  server.addService(
    NodeServiceService,
    nodeService({ store, registry, sessions, expel: (name) => security.expel(name, store) }),
  );
  server.addService(EndpointServiceService, endpointService({ sources, registry, sessions }));
  server.addService(EventServiceService, eventService(events));
  server.addService(TraceServiceService, traceService({ store, sessions }));
  server.addService(InspectionServiceService, inspectionService({ store, registry, sessions }));
  const { leaseTimes } = sources;
  server.addService(IpamServiceService, ipamService({ store, sessions, registry, leaseTimes, clock }));
  server.addService(PolicyServiceService, policyService({ sources, clock }));
  server.addService(SessionServiceService, { connect: sessions.connect });
  server.addService(RecordServiceService, recordService(sources));
  const identity = () => ({
    ...{ name: hostname(), version, address, startedAt, etcd: etcdUrls() },
    certificateExpires: security.info()?.to.toISOString(),
  });
  const etcdUrls = (): readonly string[] =>
    etcd === undefined ? urls : ips.map((ip) => withHost(security.etcdServing().listen, hostOf(ip)));
  server.addService(
    IdentityServiceService,
    identityService({
      ...{ store, log, etcd: etcdUrls, prefix: settings.prefix, hasOwnEtcd: etcd !== undefined },
      authority: () => security.authority,
      init: () => security.init(store, shutdown.signal),
      rotate: () => security.rotate(store, shutdown.signal),
      servesPlainText: () => security.plain,
      address: () => `${hostOf(ips[0] ?? settings.listen.host)}:${portOf(address)}`,
      admit: (subject) => security.admit(subject, store),
      expel: async (name) => {
        await security.expel(name, store);
        sessions.expel(name);
      },
    }),
  );
  server.addService(
    StatusServiceService,
    statusService({
      identity,
      sources,
      registry,
      problems,
      isLeader,
      warnings: () => [...security.warnings(store), ...cloudRoutes.warnings()],
    }),
  );

  const http = await startHttp({
    listen: settings.http,
    registry: metrics.registry,
    readiness: () => readiness(store),
    log,
  });
  shutdown.add('http', () => http.stop());
  await security.settle(store, shutdown.signal);
  const { tls, plain, requireCertificate } = security;
  const front = frontOf(server, { tls, plain, requireCertificate });
  security.serve(front, etcd);
  await security.enableUsers(store, shutdown.signal);
  address = await front.listen(settings.listen);
  shutdown.add('gRPC', async () => {
    sessions.close();
    await stopGrpc(server, 500);
  });
  if (settings.ui !== undefined) {
    const page = await servePage({
      ...{ listen: settings.ui, port: Number(portOf(address)), names: [...ips, hostname()], guard, log },
      tls: () => security.tls,
    });
    shutdown.add('the page', () => page.stop());
    log.info('the page is served', { url: page.url });
  }

  const { nodeToken } = settings;
  if (nodeToken !== undefined && security.authority !== undefined) {
    const { credentials } = store;
    await writeNodeToken({ path: nodeToken, authority: security.authority.hash, credentials, log });
  }
  const followed = Promise.all([
    security.follow(store, shutdown.signal),
    security.closePlainText(store, shutdown.signal),
    security.dropFormer(store, shutdown.signal),
  ]).catch((error: unknown) => {
    if (!shutdown.signal.aborted) throw error;
  });
  shutdown.add('the certificates', async () => void (await followed));

  const lead = async (signal: AbortSignal): Promise<void> => {
    leading = true;
    try {
      await Promise.all([
        cleanUp({ store, log, signal, onRemoved: (count) => metrics.cleanedUp.inc(count) }),
        cloudRoutes.lead(signal),
      ]);
    } finally {
      leading = false;
    }
  };
  const campaign = store
    .campaign('controller', `${hostname()} ${randomUUID()}`, lead, shutdown.signal)
    .catch((error: unknown) => {
      if (!shutdown.signal.aborted) throw error;
    });
  shutdown.add('the election', () => campaign);

  await untilReady(store, shutdown.signal);
  log.info('the controller is ready', {
    grpc: address,
    http: http.address,
    etcd: urls.join(','),
    tls: tls !== undefined,
    plainText: plain,
  });
}

/** A URL of the embedded etcd as others reach it: it may listen on all addresses. */
function withHost(url: string, host: string): string {
  const { protocol, hostname: name, port } = new URL(url);
  return `${protocol}//${name === '0.0.0.0' || name === '[::]' ? host : name}:${port}`;
}

const portOf = (address: string): string => address.slice(address.lastIndexOf(':') + 1);

/** Settles when /readyz answers 200. */
async function untilReady(store: Store, signal: AbortSignal): Promise<void> {
  await store.synced(signal);
  await new Promise<void>((resolve) => {
    const look = (): void => {
      if (!store.state.connected) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = store.onState(look);
    look();
  });
}

function readiness(store: Store): Readiness {
  const { connected, error } = store.state;
  if (!store.isSynced)
    return { ready: false, reason: `etcd has not been read yet${error === undefined ? '' : `: ${error}`}` };
  if (!connected)
    return { ready: false, reason: `etcd is not reached${error === undefined ? '' : `: ${error}`}` };
  return { ready: true };
}
