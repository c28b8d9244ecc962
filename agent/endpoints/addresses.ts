// Allocation of endpoint addresses on this node.
//
// An address of the node's own subnet is allocated locally, the next free one; an address of another subnet is claimed in the
// store. The holder of an address is the id of an endpoint, or of a reservation that becomes one.
import type { IpAddress, IpNetwork } from '../../core/address.js';
import type { Membership } from '../../core/compile.js';
import { alreadyExists, invalidArgument, unavailable, type WeftError } from '../../core/errors.js';
import { addressingOf, driverOf, reservedIn } from '../../core/drivers/index.js';
import type { Network } from '../../core/network.js';
import type { Rollback } from '../../daemon/rollback.js';
import { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { Store } from '../../store/store.js';
import type { Memberships } from '../networks/index.js';

export interface AddressesOptions {
  store: Store;
  memberships: Memberships;
  node: string;
  /** Name of the holder; undefined if unknown. */
  nameOf: (holder: string) => string | undefined;
  /** Settles when an address that this node has released is free in the store, too. */
  released?: (network: string, ip: string) => Promise<void>;
  /** The state directory lacks records: nothing is allocated before `complete`. */
  incomplete?: boolean;
}

export interface AddressRequest {
  membership: Membership;
  /** The node's subnet, in the family of the address. */
  subnet: IpNetwork;
  /** Exactly this address, of any node's subnet. */
  asked?: IpAddress;
  /** Allocated if it is free. */
  preferred?: IpAddress;
  /** An address that is not asked for is picked inside this prefix. */
  within?: IpNetwork;
  /** Id of the holder. */
  holder: string;
}

export class Addresses {
  /** Holders, by network and address; also of addresses that are being claimed. */
  readonly #holders = new Map<string, string>();
  /** The address that was allocated last, by subnet: the search continues after it. */
  readonly #last = new Map<string, IpAddress>();

  #incomplete: boolean;

  constructor(private readonly options: AddressesOptions) {
    this.#incomplete = options.incomplete ?? false;
  }

  /** Call it when every address in use on this node is held. */
  complete(): void {
    this.#incomplete = false;
  }

  holder(network: string, ip: string): string | undefined {
    return this.#holders.get(keyOf(network, ip));
  }

  hold(network: string, ip: string, holder: string): void {
    this.#holders.set(keyOf(network, ip), holder);
  }

  /** An address that another holder has taken meanwhile stays held. */
  free(network: string, ip: string, holder: string): void {
    const key = keyOf(network, ip);
    if (this.#holders.get(key) !== holder) return;
    this.#holders.delete(key);
    this.options.memberships.freed(network, ip);
  }

  /**
   * Allocates an address.
   * @param rollback releases it
   * @throws WeftError ALREADY_EXISTS, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE while the addresses in use are not all
   * known; of a claim also FAILED_PRECONDITION, UNAVAILABLE
   */
  async take(request: AddressRequest, rollback: Rollback, signal?: AbortSignal): Promise<IpAddress> {
    this.checkComplete();
    const { membership, subnet, asked, holder } = request;
    const { network } = membership;
    if (asked === undefined) return this.#hold(network, this.#pick(request), holder, rollback);
    const other = this.holder(network.name, asked.toString());
    if (other !== undefined) throw taken(asked, network, this.options.nameOf(other), this.options.node);
    if (givesOut(membership, subnet, asked)) {
      const why = reservedIn(network, subnet, asked);
      if (why !== undefined)
        throw invalidArgument(`ip: ${asked.toString()} ${why}`, 'Choose another address.');
      if (this.#isUsed(network.name, asked.toString())) throw this.#takenElsewhere(network, asked);
      return this.#hold(network, asked, holder, rollback);
    }
    // Held while the claim waits, so that no other attach on this node asks for it.
    this.#hold(network, asked, holder, rollback);
    if (this.#hasClaim(network.name, asked.toString(), holder)) return asked;
    await this.options.released?.(network.name, asked.toString());
    await this.claim(network, asked, holder, signal);
    rollback.add(() => this.options.store.deleteClaim(network.name, asked.toString(), holder));
    return asked;
  }

  /** @throws WeftError UNAVAILABLE while this node may have endpoints that only etcd knows */
  checkComplete(): void {
    if (!this.#incomplete) return;
    throw unavailable(
      'a state file of this node is torn or lost, and its record has not come back from etcd yet',
      'Try again when etcd answers.',
    );
  }

  #pick({ membership, subnet, preferred, within }: AddressRequest): IpAddress {
    const { network } = membership;
    const { name } = network;
    if (addressingOf(network) === 'claims') throw noRange(network);
    const isUsed = (ip: string): boolean => this.#isUsed(name, ip);
    if (preferred !== undefined && !isUsed(preferred.toString())) return preferred;
    const range = within === undefined || within.contains(subnet) ? undefined : within;
    const key = keyOf(name, (range ?? subnet).toString());
    const after = this.#last.get(key);
    const ip = driverOf(network).pick(network, subnet, isUsed, after, range);
    this.#last.set(key, ip);
    return ip;
  }

  /** Claims an address in the store. @throws WeftError as `Store.claimAddress`, or the signal's reason */
  async claim(network: Network, ip: IpAddress, endpoint: string, signal?: AbortSignal): Promise<void> {
    const { store, memberships, node } = this.options;
    const retainedFor = (): string | undefined =>
      memberships.retainedFor(network.name, ip, { node, endpoint });
    await store.claimAddress({ network, ip, node, endpoint, retainedFor }, signal);
  }

  /** As after its release was cancelled. */
  #hasClaim(network: string, ip: string, holder: string): boolean {
    const claim = this.options.store.view.claims.get(network)?.get(ip);
    return claim?.state === 'granted' && claim.node === this.options.node && claim.endpoint === holder;
  }

  #takenElsewhere(network: Network, ip: IpAddress): WeftError {
    const { view } = this.options.store;
    const claim = view.claims.get(network.name)?.get(ip.toString());
    if (claim === undefined) return taken(ip, network, undefined, 'another node');
    const next = new DisplacedNodes(view).nextStep(claim.node, CHOOSE);
    return taken(ip, network, undefined, claim.node, next);
  }

  #hold({ name }: Network, ip: IpAddress, holder: string, rollback: Rollback): IpAddress {
    this.hold(name, ip.toString(), holder);
    rollback.add(() => this.free(name, ip.toString(), holder));
    return ip;
  }

  #isUsed(network: string, ip: string): boolean {
    if (this.#holders.has(keyOf(network, ip))) return true;
    const claim = this.options.store.view.claims.get(network)?.get(ip);
    return (
      (claim !== undefined && claim.state !== 'refused') || this.options.memberships.isGranted(network, ip)
    );
  }
}

/** Whether the node allocates the address without a claim in the store. */
export function givesOut({ network }: Membership, subnet: IpNetwork, ip: IpAddress): boolean {
  const how = addressingOf(network);
  return how === 'node' || (how !== 'claims' && subnet.contains(ip));
}

function noRange(network: Network): WeftError {
  return invalidArgument(
    `ip: network ${network.name} has no range to allocate addresses from`,
    'Give an address of it with --ip, or create the network with --range.',
  );
}

const keyOf = (network: string, ip: string): string => `${network} ${ip}`;

const CHOOSE = 'Choose another address, or leave it out.';

function taken(
  ip: IpAddress,
  network: Network,
  name: string | undefined,
  node: string,
  next = CHOOSE,
): WeftError {
  return alreadyExists(
    `${ip.toString()} of network ${network.name} is in use${name === undefined ? '' : ` by ${name}`} on ${node}`,
    next,
  );
}
