// Packets and bytes of this node's networks and endpoints, by the counters of their links.
import { driverOf } from '../../core/drivers/index.js';
import type { LinkTraffic } from '../../proto/gen/weft/v1/inspection.js';
import type { LinkCounters } from '../kernel/index.js';
import type { InspectOptions } from './options.js';

type Sources = Pick<InspectOptions, 'kernel' | 'memberships' | 'endpoints'>;

/** A network has what its tunnels carry to and from other nodes; one without a tunnel, what passes its bridge. */
export function trafficOf({ kernel, memberships, endpoints }: Sources): LinkTraffic[] {
  const counters = kernel.linkCounters();
  const networks = memberships.list().map((membership) => {
    const driver = driverOf(membership.network);
    const tunnels = driver.tunnels(membership);
    const links = tunnels.length > 0 ? tunnels : driver.links(membership);
    const total = sum(links.flatMap((link) => counters.get(link) ?? []));
    return { kind: 'network', network: membership.network.name, id: '', name: '', ...messageOf(total) };
  });
  const containers = endpoints.list().flatMap(({ network, id, name, hostIfname }) => {
    const found = counters.get(hostIfname);
    // What the node's end sends the container receives.
    return found === undefined ? [] : [{ kind: 'endpoint', network, id, name, ...messageOf(turned(found)) }];
  });
  return [...networks, ...containers];
}

const sum = (all: readonly LinkCounters[]): LinkCounters =>
  all.reduce(
    (a, b) => ({
      receivedPackets: a.receivedPackets + b.receivedPackets,
      receivedBytes: a.receivedBytes + b.receivedBytes,
      sentPackets: a.sentPackets + b.sentPackets,
      sentBytes: a.sentBytes + b.sentBytes,
      dropped: a.dropped + b.dropped,
    }),
    NONE,
  );

const NONE: LinkCounters = { receivedPackets: 0, receivedBytes: 0, sentPackets: 0, sentBytes: 0, dropped: 0 };

const turned = (it: LinkCounters): LinkCounters => ({
  receivedPackets: it.sentPackets,
  receivedBytes: it.sentBytes,
  sentPackets: it.receivedPackets,
  sentBytes: it.receivedBytes,
  dropped: it.dropped,
});

const messageOf = ({ dropped, ...counters }: LinkCounters) => ({ ...counters, droppedPackets: dropped });
