// Where packets of this node's networks travel, by the records: its tunnels, and the peer that has an address.
import { IpAddress } from '../../core/address.js';
import { driverOf } from '../../core/drivers/index.js';
import { prefixesOf, isEncrypted } from '../../core/network.js';
import type { Membership } from '../../core/compile.js';
import type { Lease } from '../../core/records.js';
import type { View } from '../../store/store.js';

/** The node that has an address of a network, as this node sends to it. */
export interface PeerAt {
  network: string;
  /** Its address on the underlay; or why the network does not lead there. */
  underlay: { ip: string; advice: string } | { why: string };
}

export class TracePeers {
  constructor(
    private readonly memberships: () => readonly Membership[],
    private readonly view: Pick<View, 'leases' | 'claims'>,
  ) {}

  /** The membership whose link it is. */
  ofLink(link: string): Membership | undefined {
    return this.memberships().find((one) => driverOf(one.network).links(one).includes(link));
  }

  isTunnel(link: string): boolean {
    return this.memberships().some((one) => driverOf(one.network).tunnels(one).includes(link));
  }

  /** Packets that leave by this link are encrypted. */
  isEncrypted(link: string): boolean {
    const network = this.ofLink(link)?.network;
    return network !== undefined && isEncrypted(network);
  }

  /** The NIC by which a network without a tunnel reaches other nodes' containers. */
  parentOf(network: string): string | undefined {
    return this.memberships().find((one) => one.network.name === network)?.parent?.name;
  }

  at(text: string): PeerAt | undefined {
    const ip = IpAddress.parse(text);
    for (const membership of this.memberships()) {
      const { name } = membership.network;
      if (!prefixesOf(membership.network).some((prefix) => prefix.contains(ip))) continue;
      const lease = this.#leaseOf(name, ip);
      if (lease === undefined) return { network: name, underlay: { why: `no node has ${text} of it` } };
      const probes = driverOf(membership.network).probes(membership, lease);
      const probe = probes.find(({ family }) => family === ip.family);
      if (probe === undefined) return undefined;
      const underlay =
        'unreachable' in probe
          ? { why: probe.unreachable }
          : { ip: probe.underlay.toString(), advice: probe.advice };
      return { network: name, underlay };
    }
    return undefined;
  }

  /** Of the node that uses the address: a claimed one is not in its own subnet. */
  #leaseOf(network: string, ip: IpAddress): Lease | undefined {
    const leases = [...(this.view.leases.get(network)?.values() ?? [])];
    const claim = this.view.claims.get(network)?.get(ip.toString());
    if (claim?.state === 'granted') return leases.find(({ node }) => node === claim.node);
    return leases.find(({ subnet, subnet6 }) => subnet.contains(ip) || subnet6?.contains(ip) === true);
  }
}
