// Port security of this node's containers, for the firewall.
//
// What a container may send on one port depends on its other endpoints: answers may leave by another link.
import { isHost, type Membership } from '../../core/compile.js';
import { compileContainerPort } from '../../core/port-security.js';
import type { ContainerPort } from '../../core/firewall.js';
import type { Endpoint } from '../../core/records.js';
import type { Reconciler } from '../reconcile/index.js';
import { inOneSandbox } from './endpoint-table.js';

export interface PortSecurityOptions {
  reconciler: Pick<Reconciler, 'changeContainers'>;
  memberships: { get(network: string): Membership | undefined };
  /** The node's endpoints. */
  current: () => readonly Endpoint[];
}

export class PortSecurity {
  constructor(private readonly options: PortSecurityOptions) {}

  /**
   * Binds the ports of the endpoint's container. Before its link exists: no frame of it is too early.
   * @throws WeftError with the firewall's error; then nothing has changed
   */
  async bind(endpoint: Endpoint): Promise<void> {
    if (isHost(endpoint)) return;
    await this.options.reconciler.changeContainers(this.#portsOf([endpoint, ...this.#others(endpoint)]));
  }

  /** Ends the port of an endpoint that is gone. @throws WeftError with the firewall's error */
  async release(endpoint: Endpoint): Promise<void> {
    if (isHost(endpoint)) return;
    const others = this.#portsOf(this.#others(endpoint));
    await this.options.reconciler.changeContainers(others, [endpoint.hostIfname]);
  }

  #others(endpoint: Endpoint): Endpoint[] {
    return this.options.current().filter((other) => !isHost(other) && inOneSandbox(other, endpoint));
  }

  #portsOf(all: readonly Endpoint[]): ContainerPort[] {
    return all.flatMap((one) => {
      const membership = this.options.memberships.get(one.network);
      return membership === undefined ? [] : [compileContainerPort(membership, one, all)];
    });
  }
}
