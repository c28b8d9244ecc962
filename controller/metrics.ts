// Prometheus metrics of a controller (https://prometheus.io/docs/practices/naming/).
import { ServerInterceptingCall, status, type ServerInterceptor } from '@grpc/grpc-js';
import { Counter, Gauge, Histogram, Registry as PromRegistry } from 'prom-client';

import { collectProcessMetrics } from '../daemon/process-metrics.js';
import type { Store } from '../store/store.js';
import type { EmbeddedEtcd } from './embedded-etcd.js';
import type { Registry } from './registry.js';
import type { Sessions } from './sessions.js';

export interface ControllerMetrics {
  readonly registry: PromRegistry;
  /** Counts and times every call of a gRPC server. */
  readonly interceptor: ServerInterceptor;
  readonly cleanedUp: Counter;
}

export function controllerMetrics(options: {
  version: string;
  store: Store;
  nodes: Registry;
  sessions: Sessions;
  etcd: EmbeddedEtcd | undefined;
  isLeader: () => boolean;
  /** End of this controller's certificate; undefined without one. */
  certificateExpires?: () => Date | undefined;
}): ControllerMetrics {
  const { version, store, nodes, sessions, etcd, isLeader, certificateExpires } = options;
  const registry = new PromRegistry();
  const registers = [registry];
  collectProcessMetrics(registry, version);

  const gauge = (name: string, help: string, read: () => number): void => {
    const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(read()) });
  };
  const states = new Gauge({
    name: 'weft_nodes',
    help: 'Nodes by state.',
    labelNames: ['state'],
    registers,
    collect() {
      const { up, down } = nodes.count();
      states.set({ state: 'up' }, up);
      states.set({ state: 'down' }, down);
    },
  });
  gauge('weft_networks', 'Networks.', () => store.view.networks.size);
  gauge('weft_endpoints', 'Attached containers.', () => sizes(store.view.endpoints));
  gauge('weft_leases', 'Subnets of nodes.', () => sizes(store.view.leases));
  gauge('weft_bad_records', 'Records in etcd that cannot be read.', () => store.view.bad.size);
  gauge('weft_sessions', 'Agents with a session with this controller.', () => sessions.count);
  gauge('weft_leader', 'Whether this controller is the elected leader.', () => (isLeader() ? 1 : 0));
  gauge(
    'weft_certificate_expiry_timestamp_seconds',
    'When the certificate of this controller ends, in seconds since 1970; 0 without one.',
    () => (certificateExpires?.()?.getTime() ?? 0) / 1000,
  );
  gauge('weft_store_connected', 'Whether etcd answers.', () => (store.state.connected ? 1 : 0));
  gauge('weft_store_revision', 'Revision of the newest answer of etcd.', () => store.state.revision);
  const resyncs = new Counter({
    name: 'weft_store_resyncs_total',
    help: 'Full lists of etcd after the first one.',
    registers,
    collect() {
      resyncs.reset();
      resyncs.inc(store.state.resyncs);
    },
  });
  if (etcd !== undefined) {
    const restarts = new Counter({
      name: 'weft_embedded_etcd_restarts_total',
      help: 'Restarts of the embedded etcd.',
      registers,
      collect() {
        restarts.reset();
        restarts.inc(etcd.restarts);
      },
    });
  }
  const cleanedUp = new Counter({
    name: 'weft_cleaned_up_total',
    help: 'Leftovers of removed nodes and networks that were deleted: records, and routes of clouds.',
    registers,
  });
  return { registry, cleanedUp, interceptor: requestMetrics(registers) };
}

const sizes = (byNetwork: ReadonlyMap<string, ReadonlyMap<string, unknown>>): number => {
  let size = 0;
  for (const inner of byNetwork.values()) size += inner.size;
  return size;
};

function requestMetrics(registers: PromRegistry[]): ServerInterceptor {
  const requests = new Counter({
    name: 'weft_grpc_requests_total',
    help: 'Calls that have ended, by method and gRPC code.',
    labelNames: ['method', 'code'],
    registers,
  });
  const seconds = new Histogram({
    name: 'weft_grpc_request_seconds',
    help: 'How long unary calls took.',
    labelNames: ['method'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  });
  return (descriptor, call) => {
    const [, service = '', method = ''] = descriptor.path.split('/');
    const name = `${service.replace('weft.v1.', '')}/${method}`;
    const begun = process.hrtime.bigint();
    return new ServerInterceptingCall(call, {
      sendStatus: (result, next) => {
        requests.inc({ method: name, code: status[result.code] ?? String(result.code) });
        if (!descriptor.requestStream && !descriptor.responseStream) {
          seconds.observe({ method: name }, Number(process.hrtime.bigint() - begun) / 1e9);
        }
        next(result);
      },
    });
  };
}
