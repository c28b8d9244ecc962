// Paths of this node: each peer, network and family that a tunnel or a route leads to.
import { driverOf, type Probe } from '../../core/drivers/index.js';
import type { Family } from '../../core/address.js';
import type { Membership } from '../../core/compile.js';
import { subnetIn } from '../../core/families.js';
import type { Lease } from '../../core/records.js';

export interface Path {
  /** Of the network, family and peer. */
  key: string;
  network: string;
  family: Family;
  /** Absent for a flanneld. */
  node?: string;
  /** By which the peer is known. */
  publicIp: string;
  probe: Probe;
  /** UDP ports of the network's tunnels; none where it has no such tunnels. */
  tunnelPorts: readonly number[];
  /** Length of the peer's subnet. */
  length: number;
  /** What the kernel resolves on the link to send to the peer; paths behind routers share one. */
  neighbour: string;
}

/** A path that can be probed. */
export type OpenPath = Path & { probe: Extract<Probe, { address: unknown }> };

export const isOpen = (path: Path): path is OpenPath => 'address' in path.probe;

/** `blocked`: the peer answers on the underlay, and not through the network. */
export type PathState = 'ok' | 'mtu' | 'blocked' | 'underlay-unreachable' | 'node-down' | 'unknown';

/** Where only routers are asked for, there is one neighbour for all. */
const ROUTERS = { 4: 'IPv4 routers', 6: 'IPv6 routers' } as const;

/** The paths of a lease in a network; none of this node's own lease. */
export function pathsTo(membership: Membership, lease: Lease): Path[] {
  const { network, lease: own, underlay } = membership;
  if (lease.publicIp.equals(own.publicIp)) return [];
  const publicIp = lease.publicIp.toString();
  const driver = driverOf(network);
  const tunnelPorts = driver.udpPorts(network);
  return driver.probes(membership, lease).map((probe): Path => {
    const at = 'underlay' in probe ? probe.underlay : lease.publicIp;
    const isOnLink = underlay.onLink.some(({ prefix }) => prefix.contains(at));
    return {
      key: JSON.stringify([network.name, probe.family, publicIp]),
      network: network.name,
      family: probe.family,
      ...(lease.node !== undefined && { node: lease.node }),
      publicIp,
      probe,
      tunnelPorts,
      length: (subnetIn(lease, probe.family) ?? lease.subnet).length,
      neighbour: isOnLink ? at.toString() : ROUTERS[at.family],
    };
  });
}

/** Those of one peer follow each other: they ask for the same neighbour. */
export function pathsOf(
  memberships: readonly Membership[],
  leasesOf: (network: string) => Iterable<Lease>,
): Path[] {
  const byPeer = new Map<string, Map<string, Path>>();
  for (const membership of memberships)
    for (const lease of leasesOf(membership.network.name))
      for (const path of pathsTo(membership, lease)) {
        const known = byPeer.get(path.publicIp) ?? new Map<string, Path>();
        if (!known.has(path.key)) byPeer.set(path.publicIp, known.set(path.key, path));
      }
  return [...byPeer.values()].flatMap((paths) => [...paths.values()]);
}
