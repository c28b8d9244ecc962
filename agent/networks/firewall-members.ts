// What the firewall knows of other nodes, compiled once for each state of their records.
//
// Whenever one of thousands of nodes changes, all of them are asked for; an item that is the same object is not compared.
import type { Membership } from '../../core/compile.js';
import type { FirewallMember } from '../../core/firewall.js';
import { compileMember, compileNode, compileStranger } from '../../core/port-security.js';
import type { Lease, NodeRecord } from '../../core/records.js';

/** What a lease was compiled with. Records of the store and networks are replaced, never changed. */
interface Compiled {
  member: FirewallMember;
  with: readonly unknown[];
}

export class FirewallMembers {
  readonly #nodes = new WeakMap<NodeRecord, FirewallMember>();
  readonly #strangers = new WeakMap<Lease, FirewallMember>();
  readonly #leases = new WeakMap<Lease, Compiled>();

  node(node: NodeRecord): FirewallMember {
    return once(this.#nodes, node, compileNode);
  }

  /** See compileStranger. */
  stranger(lease: Lease): FirewallMember {
    return once(this.#strangers, lease, compileStranger);
  }

  /** See compileMember. */
  member(
    membership: Membership,
    lease: Lease,
    node: NodeRecord | undefined,
    mine: readonly Membership[],
  ): FirewallMember {
    const parts = [membership.network, node, ...mine.map(({ network }) => network)];
    const known = this.#leases.get(lease);
    if (known?.with.length === parts.length && known.with.every((part, i) => part === parts[i]))
      return known.member;
    const member = compileMember(membership, lease, node, mine);
    this.#leases.set(lease, { member, with: parts });
    return member;
  }
}

function once<T extends object>(
  known: WeakMap<T, FirewallMember>,
  record: T,
  compile: (record: T) => FirewallMember,
): FirewallMember {
  let member = known.get(record);
  if (member === undefined) known.set(record, (member = compile(record)));
  return member;
}
