// Gateways of VLAN networks that name this node as their gateway node.
//
// The node joins such a network when it appears, not at the first attach: containers of other nodes need the gateway.
import { gatewayNodeOf } from '../../core/drivers/index.js';
import { messageOf, nextOf } from '../../core/errors.js';
import type { Change, Store } from '../../store/store.js';
import type { Memberships } from './memberships.js';
import { NODE, type Problem, type Problems } from '../health/index.js';

export interface GatewaysOptions {
  store: Store;
  memberships: Memberships;
  problems: Problems;
  node: string;
}

const RETRY_MS = 5000;

export class Gateways {
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly options: GatewaysOptions) {}

  async handle(changes: readonly Change[]): Promise<void> {
    if (changes.some((change) => change.kind === 'network')) await this.join();
  }

  /** Joins the missing ones; a failure becomes a problem and is retried. */
  async join(): Promise<void> {
    const { store, memberships, problems, node } = this.options;
    clearTimeout(this.#retry);
    let again = false;
    const wanted = [...store.view.networks.values()].filter((network) => gatewayNodeOf(network) === node);
    const failed = new Map<string, Problem>();
    for (const { name } of wanted) {
      try {
        await memberships.join(name, { withoutBridge: true });
      } catch (error) {
        again = true;
        failed.set(name, {
          what: `the gateway of network ${name}, which this node is to have`,
          why: messageOf(error),
          fix: nextOf(error) ?? 'It is tried again every 5 seconds.',
        });
      }
    }
    problems.replace(NODE, 'gateway', failed);
    if (again && !this.#stopped) this.#retry = setTimeout(() => void this.join(), RETRY_MS);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
  }
}
