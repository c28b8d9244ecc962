// What this node's leases say of it: written again when its underlay or its keys change.
import { publicAddresses, type Membership, type Underlay } from '../../core/compile.js';
import { subnetIn } from '../../core/families.js';
import type { Network } from '../../core/network.js';
import type { Member } from './member.js';

export interface PublicationOptions {
  underlay: () => Underlay;
  members: ReadonlyMap<string, Member>;
  /** Runs on the member in its turn; not at all once the node has left the network. */
  inTurn: (network: string, work: (member: Member) => Promise<void>) => Promise<void>;
  /** Compiles the network anew. */
  publish: (network: string) => Promise<unknown>;
  /** Writes the member's lease. @returns whether it was written */
  take: (member: Member) => Promise<boolean>;
}

export class Publication {
  constructor(private readonly options: PublicationOptions) {}

  /** The underlay's addresses or MTU changed. */
  async underlayChanged(): Promise<void> {
    const { mtu } = this.options.underlay();
    const { ip, ip6 } = publicAddresses(this.options.underlay());
    // A router of the host's own is none of etcd's business.
    const isSame = ({ lease }: Membership): boolean =>
      lease.mtu === mtu &&
      lease.publicIp.equals(ip) &&
      (subnetIn(lease, 6) === undefined || lease.publicIp6?.toString() === ip6?.toString());
    await this.#refresh(() => true, isSame);
  }

  /** Writes the leases of these networks, whatever they say. @returns whether every one was written */
  republish(isConcerned: (network: Network) => boolean): Promise<boolean> {
    return this.#refresh(isConcerned, () => false);
  }

  async #refresh(
    isConcerned: (network: Network) => boolean,
    isWritten: (membership: Membership) => boolean,
  ): Promise<boolean> {
    const { members, inTurn, underlay, publish, take } = this.options;
    const names = [...members].flatMap(([name, { membership }]) =>
      isConcerned(membership.network) ? [name] : [],
    );
    let areAll = true;
    for (const name of names) {
      await inTurn(name, async (member) => {
        member.membership.underlay = underlay();
        // First the kernel: another MTU must not wait for etcd.
        await publish(name);
        const before = member.membership.lease;
        if (!isWritten(member.membership)) areAll = (await take(member)) && areAll;
        if (member.membership.lease !== before) await publish(name);
      });
    }
    return areAll;
  }
}
