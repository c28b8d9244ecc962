// Address claims: compiled for the kernel, and answered for this node's subnets.
//
// A grant is written to the state directory before it is answered.
import { compileClaim, type Membership } from '../../core/compile.js';
import { failedPrecondition, messageOf } from '../../core/errors.js';
import type { KernelObject } from '../../core/objects/index.js';
import { claimsConflict, type Claim, type ClaimHolder, type Lease } from '../../core/records.js';
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

/** A membership, as far as claims need it. */
export interface Claimed {
  membership: Membership;
  /** By address of this node's subnet: the endpoint that it was granted to. */
  readonly granted: Map<string, ClaimHolder>;
  /** Writes the grants to the state directory. */
  save(): void;
}

export class AddressClaims {
  constructor(private readonly options: AddressClaimsOptions) {}

  of(network: string): Claim[] {
    return [...(this.options.store.view.claims.get(network)?.values() ?? [])];
  }

  /** @param retained lost leases that are retained: the route of a claim may lead to one */
  objects({ membership }: Claimed, claim: Claim, retained: readonly Lease[] = []): readonly KernelObject[] {
    // An endpoint of this node keeps the route to its own address.
    if (this.#refusal(membership, claim) !== undefined) return [];
    const leases = this.options.store.view.leases.get(membership.network.name)?.values() ?? [];
    const user = [...leases, ...retained].find((lease) => lease.node === claim.node);
    return compileClaim(membership, claim, user);
  }

  /** Answers other nodes' claims on this node's subnet. The node stays on the network meanwhile: a grant is saved. */
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
      holder !== undefined && claimsConflict(holder, claim)
        ? `endpoint ${holder.endpoint} on node ${holder.node} has it, and has not given it back`
        : this.#refusal(claimed.membership, claim);
    if (why === undefined) await this.#grant(claimed, { ...claim, state: 'granted' });
    await this.options.store.answerClaim(
      claim,
      why === undefined ? { granted: true } : { granted: false, why },
    );
  }

  /** A granted claim in etcd counts, with or without this node's agreement. @throws WeftError where it cannot */
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
    // The route before the answer: this node's containers must not send ARP requests for it on their own link.
    await this.options.reconciler.set([[claimRecord(claim), this.objects(claimed, claim)]]);
  }

  /** A claim has ended; a grant to another endpoint stays. A failed write is repeated with the network's next change. */
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

  /** Whether there is a claim on the address that could not be answered yet. */
  isOpen(network: string, ip: string): boolean {
    return this.options.problems.get(problemOf({ network, ip })) !== undefined;
  }

  /** Grants of this node's subnet, by the store. */
  grantedIn(membership: Membership): Claimed['granted'] {
    const mine = this.of(membership.network.name).filter(
      (claim) => claim.state === 'granted' && owns(membership, claim),
    );
    return new Map(mine.map(({ ip, node, endpoint }) => [ip.toString(), { node, endpoint }]));
  }

  /** Whether this node answers the claim. */
  #concerns(membership: Membership, claim: Claim): boolean {
    return claim.node !== this.options.node && owns(membership, claim);
  }

  #refusal(membership: Membership, claim: Claim): string | undefined {
    if (!this.#concerns(membership, claim)) return undefined;
    return this.options.refusal(claim.network, claim.ip.toString(), claim.endpoint);
  }
}

/** The record of a claim. */
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
