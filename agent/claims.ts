// Claims on addresses of the networks that this node is on: what they compile to, and the answers to what other nodes ask
// of this node's subnets. What was agreed to is written down before it is told.
import { compileClaim, type Membership } from '../core/compile.js';
import { messageOf } from '../core/errors.js';
import type { KernelObject } from '../core/objects.js';
import type { Claim, Lease } from '../core/records.js';
import type { Logger } from '../daemon/log.js';
import type { Store } from '../store/store.js';
import { attempt, type Problems } from './problems.js';
import type { Reconciler } from './reconciler.js';

export interface ClaimsOptions {
  store: Store;
  reconciler: Reconciler;
  node: string;
  /** Why an address of this node's subnet cannot be given to another node, or undefined. */
  refusal: (network: string, ip: string) => string | undefined;
  problems: Problems;
  log: Logger;
}

/** A network that this node is on, as far as claims are concerned. */
export interface Claimed {
  membership: Membership;
  /** Addresses of this node's subnet that others use with its agreement. */
  readonly granted: Set<string>;
  /** Writes down what was agreed to. */
  save(): void;
}

export class Claims {
  constructor(private readonly options: ClaimsOptions) {}

  of(network: string): Claim[] {
    return [...(this.options.store.view.claims.get(network)?.values() ?? [])];
  }

  objects(membership: Membership, claim: Claim): readonly KernelObject[] {
    const leases = this.options.store.view.leases.get(membership.network.name)?.values() ?? [];
    const user = [...leases].find((lease) => lease.node === claim.node);
    return compileClaim(membership, claim, user);
  }

  /** Answers what other nodes ask of this node's subnet. */
  async answer(claimed: Claimed): Promise<void> {
    const { membership, granted } = claimed;
    const { name } = membership.network;
    for (const claim of this.of(name)) {
      const ip = claim.ip.toString();
      if (
        claim.node === this.options.node ||
        !ownSubnets(membership.lease).some((subnet) => subnet.contains(claim.ip))
      )
        continue;
      if (claim.state === 'granted') {
        if (!granted.has(ip)) this.#grant(claimed, ip);
        continue;
      }
      if (claim.state === 'refused') continue;
      const why = granted.has(ip) ? undefined : this.options.refusal(name, ip);
      await attempt(this.options, `claim ${name} ${ip}`, async () => {
        if (why === undefined) {
          this.#grant(claimed, ip);
          // The way there first: this node's containers must not ask their own link for it in vain.
          const objects = this.objects(membership, { ...claim, state: 'granted' });
          await this.options.reconciler.set(new Map([[claimRecord(claim), objects]]));
        }
        await this.options.store.answerClaim(
          claim,
          why === undefined ? { granted: true } : { granted: false, why },
        );
      });
    }
  }

  #grant(claimed: Claimed, ip: string): void {
    claimed.granted.add(ip);
    claimed.save();
  }

  /** What cannot be written down now is with the network's next change. */
  ended(claimed: Claimed, ip: string): void {
    if (!claimed.granted.delete(ip)) return;
    try {
      claimed.save();
    } catch (error) {
      const network = claimed.membership.network.name;
      this.options.log.warn('an address that came back is still written down as given', {
        ...{ network, ip },
        error: messageOf(error),
      });
    }
  }

  /** What the store says that others have of this node's subnet. */
  grantedIn({ network, lease }: Membership): Set<string> {
    const mine = this.of(network.name).filter(
      (claim) => claim.state === 'granted' && ownSubnets(lease).some((subnet) => subnet.contains(claim.ip)),
    );
    return new Set(mine.map((claim) => claim.ip.toString()));
  }
}

export const claimRecord = (claim: Claim): string => `claim ${claim.network} ${claim.ip.toString()}`;

export const ownSubnets = (lease: Lease): Lease['subnet'][] =>
  lease.subnet6 === undefined ? [lease.subnet] : [lease.subnet, lease.subnet6];
