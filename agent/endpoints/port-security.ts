// Port security of this node's containers, for the firewall.
//
// What a container may send on one port depends on its other endpoints: answers may leave by another link.
import { IpAddress, IpNetwork } from '../../core/address.js';
import { isHost, type Membership } from '../../core/compile.js';
import { compileContainerPort } from '../../core/port-security.js';
import type { ContainerPort } from '../../core/firewall.js';
import { addressesOf, type Endpoint } from '../../core/records.js';
import type { Policies } from '../policy/index.js';
import type { Reconciler } from '../reconcile/index.js';
import { inOneSandbox } from './endpoint-table.js';

export interface PortSecurityOptions {
  reconciler: Pick<Reconciler, 'changeContainers' | 'changePolicy'>;
  memberships: { get(network: string): Membership | undefined };
  /** What others may send it. */
  policies?: Pick<Policies, 'bind' | 'release'>;
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
    this.options.policies?.bind(endpoint);
    if (isHost(endpoint)) return this.options.reconciler.changePolicy();
    await this.options.reconciler.changeContainers(this.#portsOf([endpoint, ...this.#others(endpoint)]));
  }

  /** Ends the port of an endpoint that is gone. @throws WeftError with the firewall's error */
  async release(endpoint: Endpoint): Promise<void> {
    this.options.policies?.release(endpoint);
    if (isHost(endpoint)) return this.options.reconciler.changePolicy();
    const others = this.#portsOf(this.#others(endpoint));
    await this.options.reconciler.changeContainers(others, [endpoint.hostIfname]);
  }

  /** What other containers of its network may send from, too. */
  sharedWith(endpoint: Endpoint): IpNetwork[] {
    return this.options
      .current()
      .filter(({ id, network }) => id !== endpoint.id && network === endpoint.network)
      .flatMap(allowedOf);
  }

  /** The other endpoints whose addresses it may have now, or could before. */
  sharers(endpoint: Endpoint, before?: Endpoint): Endpoint[] {
    const [was, is] = [before, endpoint].map((one) => one?.allowedAddresses ?? []);
    if (JSON.stringify(was) === JSON.stringify(is)) return [];
    const prefixes = [endpoint, ...(before === undefined ? [] : [before])].flatMap(allowedOf);
    return this.options
      .current()
      .filter(
        (one) =>
          one.id !== endpoint.id &&
          one.network === endpoint.network &&
          addressesOf(one).some((ip) => prefixes.some((prefix) => prefix.contains(IpAddress.parse(ip)))),
      );
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

const allowedOf = ({ allowedAddresses = [] }: Endpoint): IpNetwork[] =>
  allowedAddresses.map((text) => IpNetwork.parse(text));
