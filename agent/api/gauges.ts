// Gauges of the node, read whenever the metrics are.
import { Gauge, type Registry } from 'prom-client';

import type { Endpoints } from '../endpoints/index.js';
import { DROP_REASONS, type Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { problemsOf, type ProblemSources } from './status.js';

export interface GaugesOptions extends ProblemSources {
  memberships: Pick<Memberships, 'list'>;
  endpoints: Pick<Endpoints, 'list'>;
  kernel: Pick<Kernel, 'pumpCounters'>;
  certificateExpires?: () => Date | undefined;
}

type Series = readonly [labels: Record<string, string>, value: number];

export function measureNode(registry: Registry, options: GaugesOptions): void {
  const { memberships, endpoints, kernel, certificateExpires } = options;
  const add = (name: string, help: string, labelNames: readonly string[], read: () => Series[]): void =>
    registry.registerMetric(
      new Gauge({
        ...{ name, help, labelNames },
        registers: [],
        collect() {
          this.reset();
          for (const [labels, value] of read()) this.set(labels, value);
        },
      }),
    );
  add('weft_leases', 'Subnets that this node holds.', [], () => [[{}, memberships.list().length]]);
  add('weft_endpoints', 'Containers attached on this node.', ['network'], () =>
    memberships.list().map(({ network: { name: network } }) => {
      return [{ network }, endpoints.list().filter((endpoint) => endpoint.network === network).length];
    }),
  );
  add('weft_problems', 'Problems that `weft status` lists.', [], () => [[{}, problemsOf(options).length]]);
  add(
    'weft_certificate_expiry_timestamp_seconds',
    'When the certificate of this node ends, in seconds since 1970; 0 without one.',
    [],
    () => [[{}, (certificateExpires?.()?.getTime() ?? 0) / 1000]],
  );
  add(
    'weft_pump_packets',
    'Packets that the pump of a udp network has sent and received since it began.',
    ['link', 'direction'],
    () =>
      [...kernel.pumpCounters()].flatMap(([link, { sent, received }]): Series[] => [
        [{ link, direction: 'sent' }, sent],
        [{ link, direction: 'received' }, received],
      ]),
  );
  add(
    'weft_pump_dropped_packets',
    'Packets that the pump of a udp network has dropped since it began.',
    ['link', 'reason'],
    () =>
      [...kernel.pumpCounters()].flatMap(([link, { dropped }]) =>
        DROP_REASONS.map((reason): Series => [{ link, reason }, dropped[reason]]),
      ),
  );
}
