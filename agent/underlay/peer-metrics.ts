// Metrics of the other nodes, read whenever the metrics are.
import { Gauge, type Registry } from 'prom-client';

import type { PeerState } from './peers.js';

/** The slowest peers alone have a series each: the number of series does not grow with the cluster. */
const WORST = 10;

export function measurePeers(registry: Registry, list: () => readonly PeerState[]): void {
  const nameOf = ({ node, publicIp }: PeerState): string => node ?? publicIp;
  const worst = new Gauge({
    name: 'weft_peer_rtt_worst_seconds',
    help: 'Last round-trip time to each of the ten slowest nodes.',
    labelNames: ['node'],
    registers: [],
    collect() {
      this.reset();
      const measured = list().flatMap((peer) =>
        peer.rttMs === undefined ? [] : [{ node: nameOf(peer), rttMs: peer.rttMs }],
      );
      for (const { node, rttMs } of measured.toSorted((a, b) => b.rttMs - a.rttMs).slice(0, WORST))
        this.set({ node }, rttMs / 1000);
    },
  });
  const paths = new Gauge({
    name: 'weft_paths',
    help: 'Paths to other nodes, one for each network and family, by state.',
    labelNames: ['state'],
    registers: [],
    collect() {
      this.reset();
      for (const { state } of list().flatMap((peer) => peer.paths)) this.inc({ state });
    },
  });
  const handshakes = new Gauge({
    name: 'weft_handshake_age_seconds',
    help: 'Time since the last WireGuard handshake with another node.',
    labelNames: ['node'],
    registers: [],
    collect() {
      this.reset();
      for (const peer of list())
        if (peer.handshakeAgeS !== undefined) this.set({ node: nameOf(peer) }, peer.handshakeAgeS);
    },
  });
  for (const metric of [worst, paths, handshakes]) registry.registerMetric(metric);
}
