// Gauges that are counted every second rather than at every change.
import type { Endpoints } from '../endpoints/index.js';
import type { Memberships } from '../networks/index.js';
import type { AgentMetrics } from '../health/index.js';
import { problemsOf, type ProblemSources } from './status.js';

export interface GaugesOptions extends ProblemSources {
  memberships: Pick<Memberships, 'list'>;
  endpoints: Pick<Endpoints, 'list'>;
  metrics: Pick<AgentMetrics, 'endpoints' | 'leases' | 'problems' | 'certificateExpiry'>;
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
  };
  count();
  const timer = setInterval(count, EVERY_MS);
  return () => clearInterval(timer);
}
