// Which address of which network is whose on this node, and how one is had: the next free one of the node's own subnet from
// memory, one of another subnet by a claim in the store. Whoever holds an address has an id: an endpoint's, or that of a
// reservation which is to become one.
import type { IpAddress, IpNetwork } from '../../core/address.js';
import type { Membership } from '../../core/compile.js';
import { alreadyExists, invalidArgument, unavailable, type WeftError } from '../../core/errors.js';
import { addressingOf, driverOf, reservedIn } from '../../core/drivers/index.js';
import type { Network } from '../../core/network.js';
import type { Rollback } from '../../daemon/rollback.js';
import type { Store } from '../../store/store.js';
import type { Memberships } from '../networks/index.js';

export interface AddressesOptions {
  store: Store;
  memberships: Memberships;
  node: string;
  /** What the holder of an address is called, where that is known. */
  nameOf: (holder: string) => string | undefined;
  /** What the state directory remembers is not all: nothing is given out before `complete`. */
  incomplete?: boolean;
}

export interface AddressRequest {
  membership: Membership;
  /** The node's own, of the family that is wanted. */
  subnet: IpNetwork;
  /** This one and no other; of any node's subnet. */
  asked?: IpAddress;
  /** Taken where it is free. */
  preferred?: IpAddress;
  /** Only addresses in here are given out by themselves. */
  within?: IpNetwork;
  /** The id of whoever will hold it. */
  holder: string;
}

export class Addresses {
  /** By network and address: who has it, or is about to. */
  readonly #holders = new Map<string, string>();
  /** The address that was given out last, by subnet: the search goes on after it. */
  readonly #last = new Map<string, IpAddress>();

  #incomplete: boolean;

  constructor(private readonly options: AddressesOptions) {
    this.#incomplete = options.incomplete ?? false;
  }

  /** Every address of this node that is in use is held now. */
  complete(): void {
    this.#incomplete = false;
  }

  holder(network: string, ip: string): string | undefined {
    return this.#holders.get(keyOf(network, ip));
  }

  hold(network: string, ip: string, holder: string): void {
    this.#holders.set(keyOf(network, ip), holder);
  }

  /** What somebody else holds by now stays. */
  free(network: string, ip: string, holder: string): void {
    const key = keyOf(network, ip);
    if (this.#holders.get(key) !== holder) return;
    this.#holders.delete(key);
    this.options.memberships.freed(network, ip);
  }

  /**
   * Takes an address for a holder.
   * @param rollback gives it back
   * @throws WeftError ALREADY_EXISTS, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE while it is not known what is in use;
   * of a claim also FAILED_PRECONDITION, UNAVAILABLE
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
      const claim = this.options.store.view.claims.get(network.name)?.get(asked.toString());
      if (this.#isUsed(network.name, asked.toString()))
        throw taken(asked, network, undefined, claim?.node ?? 'another node');
      return this.#hold(network, asked, holder, rollback);
    }
    // Held while the claim waits: nobody else on this node asks for it meanwhile.
    this.#hold(network, asked, holder, rollback);
    await this.claim(network, asked, holder, signal);
    rollback.add(() => this.options.store.deleteClaim(network.name, asked.toString(), holder));
    return asked;
  }

  /** @throws WeftError UNAVAILABLE while endpoints of this node may be there that only etcd knows */
  checkComplete(): void {
    if (!this.#incomplete) return;
    throw unavailable(
      'a state file of this node is torn or lost, and what it said has not come back from etcd yet',
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

/** Whether the node gives the address out without asking anybody. */
export function givesOut({ network }: Membership, subnet: IpNetwork, ip: IpAddress): boolean {
  const how = addressingOf(network);
  return how === 'node' || (how !== 'claims' && subnet.contains(ip));
}

function noRange(network: Network): WeftError {
  return invalidArgument(
    `ip: network ${network.name} has no range that addresses could be given out of`,
    'Give an address of it with --ip, or create the network with --range.',
  );
}

const keyOf = (network: string, ip: string): string => `${network} ${ip}`;

function taken(ip: IpAddress, network: Network, name: string | undefined, node: string): WeftError {
  return alreadyExists(
    `${ip.toString()} of network ${network.name} is in use${name === undefined ? '' : ` by ${name}`} on ${node}`,
    'Choose another address, or leave it out.',
  );
}
