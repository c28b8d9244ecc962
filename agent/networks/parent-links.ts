// Parent links that change while networks are on them.
import { attempt, networkScope, type Problems } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import type { Logger } from '../../daemon/log.js';
import type { Member } from './member.js';

export interface ParentLinksOptions {
  kernel: Pick<Kernel, 'parentLink'>;
  log: Logger;
  problems: Problems;
  members: ReadonlyMap<string, Member>;
  /** Runs on the member in its turn; not at all once the node has left the network. */
  inTurn: (network: string, work: (member: Member) => Promise<void>) => Promise<void>;
  /** Compiles the network anew. */
  publish: (network: string) => Promise<unknown>;
}

export class ParentLinks {
  constructor(private readonly options: ParentLinksOptions) {}

  /** Gives each network the MTU that its parent link has now. A failure is a problem, and tried again with the next change. */
  async follow(): Promise<void> {
    const { members, inTurn } = this.options;
    for (const [name, { membership }] of members) {
      if (membership.parent === undefined) continue;
      const what = `the parent link of network ${name}`;
      const otherwise = 'It is tried again when a link of this node changes.';
      await attempt(this.options, { scope: networkScope(name), kind: 'parent', what, otherwise }, () =>
        inTurn(name, (member) => this.#followOne(name, member)),
      );
    }
  }

  async #followOne(name: string, member: Member): Promise<void> {
    const { parent } = member.membership;
    if (parent === undefined) return;
    const mtu = (await this.options.kernel.parentLink(parent.name))?.mtu;
    if (mtu === undefined || mtu === parent.mtu) return;
    member.membership.parent = { ...parent, mtu };
    member.save();
    await this.options.publish(name);
  }
}
