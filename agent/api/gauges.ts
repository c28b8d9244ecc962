// Gauges that are counted every second rather than at every change.
import type { Endpoints } from '../endpoints/index.js';
import type { Memberships } from '../networks/index.js';
import { DROP_REASONS, type Kernel } from '../kernel/index.js';
import type { AgentMetrics } from '../health/index.js';
import { problemsOf, type ProblemSources } from './status.js';

export interface GaugesOptions extends ProblemSources {
  memberships: Pick<Memberships, 'list'>;
  endpoints: Pick<Endpoints, 'list'>;
  kernel: Pick<Kernel, 'pumpCounters'>;
  metrics: Pick<
    AgentMetrics,
    'endpoints' | 'leases' | 'problems' | 'certificateExpiry' | 'pumped' | 'pumpDrops'
  >;
  certificateExpires?: () => Date | undefined;
}

const EVERY_MS = 1000;

/** Counts now and every second. @returns stops it */
export function startGauges(options: GaugesOptions): () => void {
  const { memberships, endpoints, metrics } = options;
  const count = (): void => {
    metrics.endpoints.reset();
    for (const { network } of memberships.list()) {
      const own = endpoints.list().filter((endpoint) => endpoint.network === network.name).length;
      metrics.endpoints.set({ network: network.name }, own);
    }
    metrics.leases.set(memberships.list().length);
    metrics.certificateExpiry.set((options.certificateExpires?.()?.getTime() ?? 0) / 1000);
    metrics.problems.set(problemsOf(options).length);
    countPackets(options);
  };
  count();
  const timer = setInterval(count, EVERY_MS);
  return () => clearInterval(timer);
}

function countPackets({ kernel, metrics }: Pick<GaugesOptions, 'kernel' | 'metrics'>): void {
  metrics.pumped.reset();
  metrics.pumpDrops.reset();
  for (const [link, { sent, received, dropped }] of kernel.pumpCounters()) {
    metrics.pumped.set({ link, direction: 'sent' }, sent);
    metrics.pumped.set({ link, direction: 'received' }, received);
    for (const reason of DROP_REASONS) metrics.pumpDrops.set({ link, reason }, dropped[reason]);
  }
}
