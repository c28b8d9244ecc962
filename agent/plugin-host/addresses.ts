// Addresses for plugins: reserve, set aside, release.
//
// An address is reserved before its container exists; one that is set aside goes to no container. A manager sees only its own
// reservations.
import { setTimeout as delay } from 'node:timers/promises';

import { bareIp, type IpAddress } from '../../core/address.js';
import { alreadyExists, invalidArgument, messageOf, notFound, WeftError } from '../../core/errors.js';
import { subnetIn } from '../../core/families.js';
import { withLength } from '../../core/ipam.js';
import type { Manager } from '../../core/manager.js';
import type { Network } from '../../core/network.js';
import { newId, type Claim, type Sandbox } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { HostAddresses, Reservation } from '../../daemon/plugin-host.js';
import { allOrNothing } from '../../daemon/rollback.js';
import type { Change, Store } from '../../store/store.js';
import { ownsAddresses, type Addresses, type Endpoints, type Publisher } from '../endpoints/index.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { isGone } from '../reconcile/index.js';
import type { State } from '../state/index.js';

export interface PluginAddressesOptions {
  store: Store;
  memberships: Memberships;
  addresses: Addresses;
  endpoints: Endpoints;
  publisher: Publisher;
  state: State;
  kernel: Pick<Kernel, 'identify'>;
  log: Logger;
  node: string;
}

/** Holder, in claims, of an address that no container may have; hosts that set aside the same address share it. */
export const SET_ASIDE = 'aux';

/** How long a release waits for etcd. */
const RELEASED_MS = 1000;

export class PluginAddresses {
  readonly #byId = new Map<string, Reservation>();

  constructor(private readonly options: PluginAddressesOptions) {}

  /** Restores saved reservations; an endpoint whose reservation was lost gets a new one. */
  restore(reservations: readonly Reservation[]): void {
    for (const reservation of reservations) this.#put(reservation);
    for (const endpoint of this.options.endpoints.list()) {
      if (ownsAddresses(endpoint)) continue;
      const { id, network, manager, createdAt } = endpoint;
      for (const [i, text] of [endpoint.ip, endpoint.ip6].entries()) {
        if (text === undefined || this.#find(network, bareIp(text)) !== undefined) continue;
        const reservation = { id: i === 0 ? id : newId(), network, manager, ip: text, createdAt };
        this.options.state.saveReservation(reservation);
        this.#put(reservation);
      }
    }
  }

  #put(reservation: Reservation): void {
    this.#byId.set(reservation.id, reservation);
    this.options.addresses.hold(reservation.network, bareIp(reservation.ip), reservation.id);
  }

  /** The addresses as one manager's plugin sees them. */
  of(manager: Manager): HostAddresses {
    const find = (network: string, ip: string): Reservation | undefined => {
      const found = this.#find(network, ip);
      return found?.manager === manager ? found : undefined;
    };
    return {
      list: () => [...this.#byId.values()].filter((reservation) => reservation.manager === manager),
      find,
      reserve: (request) => this.#reserve(manager, request),
      release: (network, ip) => {
        const reservation = find(network, ip);
        if (reservation !== undefined) this.#release(reservation, ip);
      },
      released: (network, ip) => this.#released(network, ip),
      isAlive: (reservation) => this.#isAlive(reservation),
      setAside: (network, ip) => this.#setAside(network, ip),
      giveBack: (network, ip) => this.#giveBack(network, ip),
    };
  }

  #find(network: string, ip: string): Reservation | undefined {
    const holder = this.options.addresses.holder(network, ip);
    return holder === undefined ? undefined : this.#byId.get(holder);
  }

  #isAlive({ sandbox }: Reservation): boolean | undefined {
    if (sandbox === undefined) return undefined;
    return !isGone(this.options.kernel, sandbox);
  }

  async #reserve(manager: Manager, request: Parameters<HostAddresses['reserve']>[0]): Promise<Reservation> {
    const { memberships, addresses, publisher, state, log } = this.options;
    const { network, family, asked, within, key } = request;
    const sandbox = request.sandbox === undefined ? undefined : this.#sandboxAt(request.sandbox);
    const membership = memberships.get(network);
    const subnet = membership && subnetIn(membership.lease, family);
    if (membership === undefined || subnet === undefined) {
      throw notFound(`this node has no IPv${family} subnet in network ${network}`, 'See `weft status`.');
    }
    memberships.checkPossession(network);
    if (asked !== undefined) checkInside(membership.network, asked);
    // A container that is started again while etcd is away: no new claim could be granted.
    const before = asked && publisher.cancelRelease(network, asked.toString());
    const id = before ?? newId();
    return allOrNothing(log, id, async (rollback) => {
      if (asked !== undefined && before !== undefined)
        rollback.add(() => publisher.releaseClaim(network, asked.toString(), before));
      const ip = await addresses.take(
        { membership, subnet, holder: id, ...(asked && { asked }), ...(within && { within }) },
        rollback,
      );
      const createdAt = new Date().toISOString();
      const reservation = {
        ...{ id, network, manager, ip: withLength(ip, subnet), createdAt },
        ...(key && { foreignKey: key }),
        ...(sandbox && { sandbox }),
      };
      state.saveReservation(reservation);
      this.#byId.set(id, reservation);
      return reservation;
    });
  }

  /** @throws WeftError NOT_FOUND */
  #sandboxAt(path: string): Sandbox {
    const sandbox = this.options.kernel.identify(path);
    if (sandbox !== undefined) return sandbox;
    throw notFound(`there is no network namespace ${path}`, 'See whether the container still runs.');
  }

  #release({ id, network, ip: text }: Reservation, ip: string): void {
    this.options.state.deleteReservation(id);
    this.#byId.delete(id);
    this.options.addresses.free(network, ip, id);
    if (/\/(32|128)$/.test(text)) this.options.publisher.releaseClaim(network, ip, id);
  }

  /** Whether a claim of this node belongs to a reservation or an address that is set aside. */
  keeps(claim: Claim): boolean {
    return claim.endpoint === SET_ASIDE || this.#byId.has(claim.endpoint);
  }

  /** Claims an address again that is set aside here, when another host releases it. */
  handle(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind !== 'claim' || change.after !== undefined || change.before?.endpoint !== SET_ASIDE)
        continue;
      // The view loses the claims of a network that this node has left.
      if (this.options.memberships.get(change.network) === undefined) continue;
      const { ip } = change.before;
      if (this.options.addresses.holder(change.network, ip.toString()) !== SET_ASIDE) continue;
      this.#setAside(change.network, ip).catch((error: unknown) => {
        this.options.log.warn('an address is not set aside any more', {
          ip: change.ip,
          error: messageOf(error),
        });
      });
    }
  }

  async #setAside(network: string, ip: IpAddress): Promise<void> {
    await this.#claimAside(network, ip);
    this.options.addresses.hold(network, ip.toString(), SET_ASIDE);
  }

  async #claimAside(network: string, ip: IpAddress): Promise<void> {
    const { store, memberships, addresses, endpoints, node } = this.options;
    const membership = memberships.get(network);
    if (membership === undefined) throw notFound(`this node is not on network ${network}`);
    checkInside(membership.network, ip);
    const isOurs = (): boolean => store.view.claims.get(network)?.get(ip.toString())?.endpoint === SET_ASIDE;
    if (isOurs()) return;
    const own = [membership.lease.subnet, membership.lease.subnet6].some(
      (subnet) => subnet?.contains(ip) === true,
    );
    if (!own) {
      try {
        await addresses.claim(membership.network, ip, SET_ASIDE);
      } catch (error) {
        // Another host has set the address aside meanwhile.
        if (!(error instanceof WeftError) || error.code !== 'ALREADY_EXISTS' || !isOurs()) throw error;
      }
      return;
    }
    const holder = addresses.holder(network, ip.toString());
    if ((holder !== undefined && holder !== SET_ASIDE) || memberships.isGranted(network, ip.toString())) {
      throw alreadyExists(
        `${ip.toString()} of network ${network} is in use by ${endpoints.get(holder ?? '')?.name ?? 'a container'}`,
        'Choose another --aux-address, or remove that container first.',
      );
    }
    await store.restoreClaim({ network, ip, node, endpoint: SET_ASIDE, state: 'granted' });
  }

  /** etcd may be slow to say that it is away: Docker does not wait for it. */
  async #released(network: string, ip: string): Promise<void> {
    const enough = new AbortController();
    const released = this.options.publisher.claimReleased(network, ip);
    await Promise.race([
      released,
      delay(RELEASED_MS, undefined, { signal: enough.signal }).catch(() => undefined),
    ]);
    enough.abort();
  }

  async #giveBack(network: string, ip: IpAddress): Promise<void> {
    this.options.addresses.free(network, ip.toString(), SET_ASIDE);
    const claim = this.options.store.view.claims.get(network)?.get(ip.toString());
    // Another host's claim stays until that host releases it.
    if (claim?.endpoint !== SET_ASIDE || claim.node !== this.options.node) return;
    await this.options.store.deleteClaim(network, ip.toString(), SET_ASIDE);
  }
}

/** @throws WeftError INVALID_ARGUMENT */
function checkInside(network: Network, ip: IpAddress): void {
  const prefix = subnetIn(network, ip.family);
  if (prefix?.contains(ip) === true) return;
  throw invalidArgument(
    `${ip.toString()} is not an address of network ${network.name}`,
    prefix === undefined ? `It has no IPv${ip.family} subnet.` : `Give one inside ${prefix.toString()}.`,
  );
}
