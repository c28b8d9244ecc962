// Traffic of networks, and of endpoints where that is asked for, read whenever the metrics are.
import { Counter, type Registry } from 'prom-client';

import type { LinkTraffic } from '../../proto/gen/weft/v1/inspection.js';

const VALUES: readonly [suffix: string, help: string, of: (it: LinkTraffic) => number][] = [
  ['received_bytes_total', 'Bytes received', ({ receivedBytes }) => receivedBytes],
  ['received_packets_total', 'Packets received', ({ receivedPackets }) => receivedPackets],
  ['sent_bytes_total', 'Bytes sent', ({ sentBytes }) => sentBytes],
  ['sent_packets_total', 'Packets sent', ({ sentPackets }) => sentPackets],
  ['dropped_packets_total', 'Packets that links dropped', ({ droppedPackets }) => droppedPackets],
];

/**
 * @param withEndpoints a series for each endpoint, too: their number grows with the containers
 * @param read counters of links, which begin anew with their links
 */
export function measureTraffic(
  registry: Registry,
  withEndpoints: boolean,
  read: () => readonly LinkTraffic[],
): void {
  const look = once(read);
  const add = (kind: string, where: string, labels: (it: LinkTraffic) => Record<string, string>): void => {
    for (const [suffix, help, of] of VALUES)
      registry.registerMetric(
        new Counter({
          name: `weft_${kind}_${suffix}`,
          help: `${help} ${where}.`,
          labelNames: kind === 'network' ? ['network'] : ['network', 'endpoint'],
          registers: [],
          collect() {
            this.reset();
            for (const it of look()) if (it.kind === kind) this.inc(labels(it), of(it));
          },
        }),
      );
  };
  add('network', 'between this node and others', ({ network }) => ({ network }));
  if (withEndpoints)
    add('endpoint', 'by a container of this node', ({ network, name }) => ({ network, endpoint: name }));
}

/** All counters of one scrape are of one look. */
function once(read: () => readonly LinkTraffic[]): () => readonly LinkTraffic[] {
  let last: readonly LinkTraffic[] | undefined;
  return () => {
    if (last === undefined) {
      last = read();
      setImmediate(() => (last = undefined));
    }
    return last;
  };
}
