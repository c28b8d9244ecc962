// Metrics of the agent, for Prometheus.
//
// Names follow Prometheus' habits: base units, _total for counters.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

import { collectProcessMetrics } from '../../daemon/process-metrics.js';
import { version } from '../../daemon/version.js';

export interface AgentMetrics {
  registry: Registry;
  steps: Counter<'verb'>;
  stepsFailed: Counter<'verb'>;
  drift: Counter;
  notificationsLost: Counter;
  reconcileSeconds: Histogram<'reason'>;
  attachSeconds: Histogram<'result'>;
  storeSeconds: Histogram<'operation'>;
  peers: Gauge<'network'>;
  peerRtt: Histogram;
  storeConnected: Gauge;
  storePending: Gauge;
  storeResyncs: Gauge;
  clockOffset: Gauge;
  /** The kernel's counters as plain numbers, for `weft status`. */
  totals: { applied: number; failed: number; repaired: number };
}

export function agentMetrics(): AgentMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectProcessMetrics(registry, version);
  return {
    registry,
    steps: new Counter({
      name: 'weft_kernel_steps_total',
      help: 'Steps applied in the kernel.',
      labelNames: ['verb'],
      registers,
    }),
    stepsFailed: new Counter({
      name: 'weft_kernel_steps_failed_total',
      help: 'Steps that the kernel refused.',
      labelNames: ['verb'],
      registers,
    }),
    drift: new Counter({
      name: 'weft_drift_repaired_total',
      help: 'Repairs of objects that another process had changed.',
      registers,
    }),
    notificationsLost: new Counter({
      name: 'weft_notifications_lost_total',
      help: 'Losses of kernel notifications, each followed by a full comparison.',
      registers,
    }),
    reconcileSeconds: new Histogram({
      name: 'weft_reconcile_duration_seconds',
      help: 'Time of one full comparison with the kernel.',
      labelNames: ['reason'],
      buckets: [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2],
      registers,
    }),
    attachSeconds: new Histogram({
      name: 'weft_attach_duration_seconds',
      help: 'Time to attach one container, by result.',
      labelNames: ['result'],
      buckets: [0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2],
      registers,
    }),
    storeSeconds: new Histogram({
      name: 'weft_store_duration_seconds',
      help: 'Time of one write to etcd.',
      labelNames: ['operation'],
      buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2],
      registers,
    }),
    peers: new Gauge({
      name: 'weft_peers',
      help: 'Other nodes of a network of this node.',
      labelNames: ['network'],
      registers,
    }),
    peerRtt: new Histogram({
      name: 'weft_peer_rtt_seconds',
      help: 'Round-trip times to other nodes through the overlay.',
      buckets: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5],
      registers,
    }),
    storeConnected: new Gauge({ name: 'weft_store_connected', help: '1 while etcd answers.', registers }),
    storePending: new Gauge({
      name: 'weft_store_pending',
      help: 'Local changes that are not in etcd yet.',
      registers,
    }),
    storeResyncs: new Gauge({
      name: 'weft_store_resyncs',
      help: 'Full listings of etcd after the first.',
      registers,
    }),
    clockOffset: new Gauge({
      name: 'weft_clock_offset_seconds',
      help: 'How far the clock of this host is ahead of the controller’s, within the time that an answer takes.',
      registers,
    }),
    totals: { applied: 0, failed: 0, repaired: 0 },
  };
}

/** The same of what no policy allowed, by the policy that closes the target; empty: the isolation of its network. */
export function countDenials(
  registry: Registry,
  read: () => readonly { policy?: string; network?: string; packets: number }[],
): void {
  const counter = new Counter({
    name: 'weft_policy_drops_total',
    help: 'Packets that no policy allowed, by the policy that closes the target, and the network of the container; without one the target is a host.',
    labelNames: ['policy', 'network'],
    registers: [],
    collect() {
      this.reset();
      for (const { policy = '', network = '', packets } of read()) this.inc({ policy, network }, packets);
    },
  });
  registry.registerMetric(counter);
}

/** Counts what the firewall has dropped, read whenever the metrics are. The kernel's counters begin anew with its rules. */
export function countDrops(
  registry: Registry,
  read: () => readonly { reason: string; packets: number }[],
): void {
  const counter = new Counter({
    name: 'weft_dropped_packets_total',
    help: 'Packets dropped of containers, and of machines that are no members, by reason.',
    labelNames: ['reason'],
    registers: [],
    collect() {
      this.reset();
      for (const { reason, packets } of read()) this.inc({ reason }, packets);
    },
  });
  registry.registerMetric(counter);
}
