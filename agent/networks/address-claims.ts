// AddressClaims on addresses of the networks that this node is on: what they compile to, and the answers to what other nodes ask
// of this node's subnets. What was agreed to is written down before it is told.
import { compileClaim, type Membership } from '../../core/compile.js';
import { failedPrecondition, messageOf } from '../../core/errors.js';
import type { KernelObject } from '../../core/objects/index.js';
import { isForeign, type Claim, type ClaimHolder, type Lease } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import { type Attempt, attempt, networkScope, type ProblemKey, type Problems } from '../health/index.js';
import type { Reconciler, RecordKey } from '../reconcile/index.js';

export interface AddressClaimsOptions {
  store: Store;
  reconciler: Reconciler;
  node: string;
  /** Why an address of this node's subnet cannot be given to another node's endpoint, or undefined. */
  refusal: (network: string, ip: string, endpoint: string) => string | undefined;
  problems: Problems;
  log: Logger;
}

/** A network that this node is on, as far as claims are concerned. */
export interface Claimed {
  membership: Membership;
  /** By address: who uses one of this node's subnet with its agreement. */
  readonly granted: Map<string, ClaimHolder>;
  /** Writes down what was agreed to. */
  save(): void;
}

export class AddressClaims {
  constructor(private readonly options: AddressClaimsOptions) {}

  of(network: string): Claim[] {
    return [...(this.options.store.view.claims.get(network)?.values() ?? [])];
  }

  /** @param retained leases that stand although etcd has lost them: the way of a claim leads to its user's */
  objects({ membership }: Claimed, claim: Claim, retained: readonly Lease[] = []): readonly KernelObject[] {
    // Whoever has the address on this node keeps the way to it.
    if (this.#refusal(membership, claim) !== undefined) return [];
    const leases = this.options.store.view.leases.get(membership.network.name)?.values() ?? [];
    const user = [...leases, ...retained].find((lease) => lease.node === claim.node);
    return compileClaim(membership, claim, user);
  }

  /** Answers what other nodes ask of this node's subnet. */
  async answer(claimed: Claimed): Promise<void> {
    const { membership, granted } = claimed;
    for (const claim of this.of(membership.network.name)) {
      const holder = granted.get(claim.ip.toString());
      if (!this.#concerns(membership, claim) || claim.state === 'refused') continue;
      if (claim.state === 'granted' && holder?.endpoint === claim.endpoint) continue;
      await attempt(this.options, attemptOf(claim), () =>
        claim.state === 'granted' ? this.#recognise(claimed, claim) : this.#decide(claimed, claim, holder),
      );
    }
  }

  async #decide(claimed: Claimed, claim: Claim, holder: ClaimHolder | undefined): Promise<void> {
    const why =
      holder !== undefined && isForeign(holder, claim)
        ? `endpoint ${holder.endpoint} on node ${holder.node} has it, and has not given it back`
        : this.#refusal(claimed.membership, claim);
    if (why === undefined) await this.#grant(claimed, { ...claim, state: 'granted' });
    await this.options.store.answerClaim(
      claim,
      why === undefined ? { granted: true } : { granted: false, why },
    );
  }

  /** Etcd counts: who stands there uses the address, with or without this node's agreement. @throws WeftError where it cannot */
  async #recognise(claimed: Claimed, claim: Claim): Promise<void> {
    const why = this.#refusal(claimed.membership, claim);
    if (why === undefined) return this.#grant(claimed, claim);
    throw failedPrecondition(
      `endpoint ${claim.endpoint} on node ${claim.node} has it without this node's agreement, but ${why}`,
      'Detach one of the two and attach it with another address.',
    );
  }

  async #grant(claimed: Claimed, claim: Claim): Promise<void> {
    claimed.granted.set(claim.ip.toString(), { node: claim.node, endpoint: claim.endpoint });
    claimed.save();
    // The way there before the answer: this node's containers must not ask their own link for it in vain.
    await this.options.reconciler.set([[claimRecord(claim), this.objects(claimed, claim)]]);
  }

  /** A claim is over; what stands for another endpoint stays. What cannot be written down now is with the network's next change. */
  ended(claimed: Claimed, claim: Claim): void {
    const { network } = claim;
    const ip = claim.ip.toString();
    this.options.problems.clear(problemOf(claim));
    if (claimed.granted.get(ip)?.endpoint !== claim.endpoint) return;
    claimed.granted.delete(ip);
    try {
      claimed.save();
    } catch (error) {
      this.options.log.warn('an address that came back is still written down as given', {
        ...{ network, ip },
        error: messageOf(error),
      });
    }
  }

  /** An address of this node's subnet is in use here no more: a claim that it stood against is looked at again. */
  async freed(claimed: Claimed, network: string, ip: string): Promise<void> {
    if (this.options.problems.get(problemOf({ network, ip })) !== undefined) await this.answer(claimed);
  }

  /** What the store says that others have of this node's subnet. */
  grantedIn(membership: Membership): Claimed['granted'] {
    const mine = this.of(membership.network.name).filter(
      (claim) => claim.state === 'granted' && owns(membership, claim),
    );
    return new Map(mine.map(({ ip, node, endpoint }) => [ip.toString(), { node, endpoint }]));
  }

  /** Whether it is this node that must agree. */
  #concerns(membership: Membership, claim: Claim): boolean {
    return claim.node !== this.options.node && owns(membership, claim);
  }

  #refusal(membership: Membership, claim: Claim): string | undefined {
    if (!this.#concerns(membership, claim)) return undefined;
    return this.options.refusal(claim.network, claim.ip.toString(), claim.endpoint);
  }
}

/** What a claim is known by. */
interface ClaimId {
  network: string;
  ip: Claim['ip'] | string;
}

export const claimRecord = ({ network, ip }: ClaimId): RecordKey => ({
  kind: 'claim',
  network,
  id: ip.toString(),
});

const problemOf = ({ network, ip }: ClaimId): ProblemKey => ({
  scope: networkScope(network),
  kind: 'claim',
  id: ip.toString(),
});

const attemptOf = (claim: Claim): Attempt => ({
  ...problemOf(claim),
  what: `address ${claim.ip.toString()} of network ${claim.network}, which node ${claim.node} claims`,
});

export const ownSubnets = (lease: Lease): Lease['subnet'][] =>
  lease.subnet6 === undefined ? [lease.subnet] : [lease.subnet, lease.subnet6];

const owns = ({ lease }: Membership, { ip }: Claim): boolean =>
  ownSubnets(lease).some((subnet) => subnet.contains(ip));
