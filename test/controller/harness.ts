// A controller's gRPC services on a fake store, served on loopback, with clients.
import { Server, type Client, type ClientReadableStream } from '@grpc/grpc-js';
import type { Registry as PromRegistry } from 'prom-client';

import { asOfInterceptor } from '../../controller/as-of.js';
import { systemClock, type Clock } from '../../controller/clock.js';
import { ClusterEvents } from '../../controller/cluster-events.js';
import { endpointService } from '../../controller/endpoint-service.js';
import { inspectionService } from '../../controller/inspection-service.js';
import { ipamService } from '../../controller/ipam-service.js';
import { LeaseTimes } from '../../controller/lease-times.js';
import { controllerMetrics } from '../../controller/metrics.js';
import { networkService } from '../../controller/network-service.js';
import { nodeService } from '../../controller/node-service.js';
import { Problems } from '../../controller/problems.js';
import { Registry } from '../../controller/registry.js';
import { Sessions } from '../../controller/sessions.js';
import { statusService } from '../../controller/status-service.js';
import { Counters } from '../../controller/counters.js';
import { WeftError } from '../../core/errors.js';
import { EventLog } from '../../daemon/event-log.js';
import { channel, listenGrpc, serverOptions, stopGrpc } from '../../daemon/grpc.js';
import { hostPort } from '../../daemon/kinds.js';
import { silentLogger as log } from '../../daemon/log.js';
import { StatusServiceClient, StatusServiceService } from '../../proto/gen/weft/v1/agent.js';
import {
  EndpointServiceClient,
  EndpointServiceService,
  NetworkServiceClient,
  NetworkServiceService,
  NodeServiceClient,
  NodeServiceService,
} from '../../proto/gen/weft/v1/controller.js';
import { InspectionServiceService } from '../../proto/gen/weft/v1/inspection.js';
import { IpamServiceClient, IpamServiceService } from '../../proto/gen/weft/v1/ipam.js';
import { SessionServiceService } from '../../proto/gen/weft/v1/session.js';
import { FakeStore } from '../fakes/store.js';
import { until } from '../lab/wait.js';

export interface TestController {
  readonly address: string;
  readonly store: FakeStore;
  readonly sessions: Sessions;
  readonly registry: Registry;
  readonly events: ClusterEvents;
  readonly networks: NetworkServiceClient;
  readonly nodes: NodeServiceClient;
  readonly endpoints: EndpointServiceClient;
  readonly status: StatusServiceClient;
  readonly ipam: IpamServiceClient;
  readonly metrics: PromRegistry;
  stop(): Promise<void>;
}

export async function startTestController(
  options: { store?: FakeStore; listen?: string; clock?: Clock; asOf?: () => string | undefined } = {},
): Promise<TestController> {
  const {
    store = new FakeStore(),
    listen = '127.0.0.1:0',
    clock = systemClock,
    asOf = () => undefined,
  } = options;
  const counters = new Counters(store);
  const events = new ClusterEvents(new EventLog({ path: undefined, node: '', log }));
  const sessions = new Sessions({ version: '9.9.9', clock, log, nodes: store, events });
  const registry = new Registry({ store, counters, reports: sessions, clock });
  sessions.onReport((name) => registry.reported(name));
  const sources = { store, counters, reports: sessions, leaseTimes: new LeaseTimes({ store, clock, log }) };
  const problems = new Problems({ store, registry, reports: sessions });
  const isLeader = (): boolean => true;
  const metrics = controllerMetrics({
    version: '9.9.9',
    store,
    nodes: registry,
    sessions,
    etcd: undefined,
    isLeader,
  });
  const server = new Server({ ...serverOptions, interceptors: [metrics.interceptor, asOfInterceptor(asOf)] });
  server.addService(NetworkServiceService, networkService(sources));
  server.addService(NodeServiceService, nodeService({ store, registry, sessions }));
  server.addService(EndpointServiceService, endpointService({ sources, registry, sessions }));
  server.addService(InspectionServiceService, inspectionService({ store, registry, sessions }));
  const { leaseTimes } = sources;
  server.addService(IpamServiceService, ipamService({ store, sessions, registry, leaseTimes, clock }));
  server.addService(SessionServiceService, { connect: sessions.connect });
  const identity = () => ({
    name: 'ctl',
    version: '9.9.9',
    address: 'here',
    startedAt: '2026-01-01T00:00:00Z',
    etcd: ['http://e:1'],
  });
  server.addService(StatusServiceService, statusService({ identity, sources, registry, problems, isLeader }));
  const address = await listenGrpc(server, hostPort({ listen: true }).parse(listen, 'test'), undefined);
  const [credentials, channelOptions] = channel(address, undefined);
  const clients = {
    networks: new NetworkServiceClient(address, credentials, channelOptions),
    nodes: new NodeServiceClient(address, credentials, channelOptions),
    endpoints: new EndpointServiceClient(address, credentials, channelOptions),
    status: new StatusServiceClient(address, credentials, channelOptions),
    ipam: new IpamServiceClient(address, credentials, channelOptions),
  };
  return {
    ...clients,
    address,
    store,
    sessions,
    registry,
    events,
    metrics: metrics.registry,
    stop: async () => {
      for (const client of Object.values<Client>(clients)) client.close();
      sessions.close();
      registry.close();
      await stopGrpc(server, 100);
    },
  };
}

/** Collects the events of a watch. */
export class Collector<Event> {
  readonly events: Event[] = [];
  error: Error | undefined;

  constructor(readonly stream: ClientReadableStream<Event>) {
    stream.on('data', (event: Event) => this.events.push(event));
    stream.on('error', (error) => (this.error = error));
  }

  end(): void {
    this.stream.cancel();
  }
}

/** The code, message and next step that a call is refused with. @throws Error where it is not refused, or otherwise */
export async function failureOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof WeftError) return `${error.code} ${error.message}\n${error.next ?? ''}`;
    throw error;
  }
  throw new Error('nothing was refused');
}

/** Waits until it holds. @throws Error after the default deadline */
export async function eventually(what: string, holds: () => boolean): Promise<void> {
  await until(what, holds, { everyMs: 10 });
}
