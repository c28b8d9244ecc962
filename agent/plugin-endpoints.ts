// Addresses and endpoints, as a door for other programs may use them: reserved, connected, learnt about and let go one by
// one, where `weft attach` does all at once. The records are the same.
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';

import type { IpAddress, IpNetwork } from '../core/address.js';
import { hostIfname, transitIfname } from '../core/compile.js';
import { alreadyExists, invalidArgument, messageOf, notFound, WeftError } from '../core/errors.js';
import { withLength } from '../core/ipam.js';
import type { Network } from '../core/network.js';
import type { PublishRequest } from '../core/publish.js';
import type { Claim, Endpoint } from '../core/records.js';
import type { Logger } from '../daemon/log.js';
import type { ConnectRequest, HostAddresses, HostEndpoints, Reservation } from '../daemon/plugin-host.js';
import type { Change, Store } from '../store/store.js';
import type { Addresses } from './addresses.js';
import { bareIp } from './endpoint-addresses.js';
import type { EndpointPorts } from './endpoint-ports.js';
import { isToCome, type Endpoints } from './endpoints.js';
import type { Kernel } from './kernel/kernel.js';
import type { Memberships } from './memberships.js';
import type { Publisher } from './publisher.js';
import { sameSandbox } from './reconciler.js';
import type { State } from './state.js';

export interface PluginEndpointsOptions {
  store: Store;
  kernel: Kernel;
  memberships: Memberships;
  addresses: Addresses;
  endpoints: Endpoints;
  publisher: Publisher;
  state: State;
  log: Logger;
  node: string;
}

/** Who holds an address that no container may have, in claims; hosts that want the same share it. */
export const SET_ASIDE = 'aux';

/** Milliseconds after a container's end was moved inside, when its engine is done; the second time for a slow one. */
const LOOK_MS = [800, 3000] as const;
/** A namespace that has not come by now does not come any more. */
const COMES_MS = 60_000;

export class PluginAddresses implements HostAddresses {
  readonly #byId = new Map<string, Reservation>();

  constructor(private readonly options: PluginEndpointsOptions) {}

  /** Takes up what is remembered; an endpoint whose reservation was lost gets it back. */
  restore(reservations: readonly Reservation[]): void {
    for (const reservation of reservations) this.#put(reservation);
    for (const endpoint of this.options.endpoints.list()) {
      if (endpoint.door === undefined) continue;
      const { id, network, createdAt } = endpoint;
      for (const [i, text] of [endpoint.ip, endpoint.ip6].entries()) {
        if (text === undefined || this.find(network, bareIp(text)) !== undefined) continue;
        const reservation = { id: i === 0 ? id : newId(), network, ip: text, createdAt };
        this.options.state.saveReservation(reservation);
        this.#put(reservation);
      }
    }
  }

  #put(reservation: Reservation): void {
    this.#byId.set(reservation.id, reservation);
    this.options.addresses.hold(reservation.network, bareIp(reservation.ip), reservation.id);
  }

  list(): Reservation[] {
    return [...this.#byId.values()];
  }

  find(network: string, ip: string): Reservation | undefined {
    const holder = this.options.addresses.holder(network, ip);
    return holder === undefined ? undefined : this.#byId.get(holder);
  }

  async reserve(wish: Parameters<HostAddresses['reserve']>[0]): Promise<Reservation> {
    const { memberships, addresses, state } = this.options;
    const { network, family, asked, within } = wish;
    const membership = memberships.get(network);
    const subnet = family === 4 ? membership?.lease.subnet : membership?.lease.subnet6;
    if (membership === undefined || subnet === undefined) {
      throw notFound(`this node has no IPv${family} subnet in network ${network}`, 'See `weft status`.');
    }
    if (asked !== undefined) checkInside(membership.network, asked);
    const id = newId();
    const taken = await addresses.take({
      membership,
      subnet,
      holder: id,
      ...(asked && { asked }),
      ...(within && { within }),
    });
    const createdAt = new Date().toISOString();
    const reservation = { id, network, ip: withLength(taken.ip, subnet), createdAt };
    try {
      state.saveReservation(reservation);
    } catch (error) {
      await taken.undo();
      throw error;
    }
    this.#byId.set(id, reservation);
    return reservation;
  }

  release(network: string, ip: string): void {
    const reservation = this.find(network, ip);
    if (reservation === undefined) return;
    const { id } = reservation;
    this.options.state.deleteReservation(id);
    this.#byId.delete(id);
    this.options.addresses.free(network, ip, id);
    if (/\/(32|128)$/.test(reservation.ip)) this.options.publisher.releaseClaim(network, ip, id);
  }

  /** Whether a claim of this node's has a reason other than an endpoint. */
  keeps(claim: Claim): boolean {
    return claim.endpoint === SET_ASIDE || this.#byId.has(claim.endpoint);
  }

  /** Another host has given back what this one wants to be kept. */
  handle(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind !== 'claim' || change.after !== undefined || change.before?.endpoint !== SET_ASIDE)
        continue;
      const { ip } = change.before;
      if (this.options.addresses.holder(change.network, ip.toString()) !== SET_ASIDE) continue;
      this.setAside(change.network, ip).catch((error: unknown) => {
        this.options.log.warn('an address is not kept any more', { ip: change.ip, error: messageOf(error) });
      });
    }
  }

  async setAside(network: string, ip: IpAddress): Promise<void> {
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
        // Another host wanted the same a moment ago.
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

  async giveBack(network: string, ip: IpAddress): Promise<void> {
    this.options.addresses.free(network, ip.toString(), SET_ASIDE);
    const claim = this.options.store.view.claims.get(network)?.get(ip.toString());
    // Another host's stays; it is given back there.
    if (claim?.endpoint !== SET_ASIDE || claim.node !== this.options.node) return;
    await this.options.store.deleteClaim(network, ip.toString(), SET_ASIDE);
  }
}

export class PluginEndpoints implements HostEndpoints {
  constructor(private readonly options: PluginEndpointsOptions & { endpointPorts: EndpointPorts }) {}

  list(): Endpoint[] {
    return this.options.endpoints.list().filter(({ door }) => door === 'docker');
  }

  get(id: string): Endpoint | undefined {
    return this.options.endpoints.get(id);
  }

  transit(id: string): string {
    return transitIfname(id);
  }

  async connect(request: ConnectRequest): Promise<void> {
    const { id, network, name, target, mac, ip, ip6 } = request;
    const endpoint: Endpoint = {
      id,
      name,
      explicitName: false,
      network,
      node: this.options.node,
      target,
      sandbox: { path: request.sandbox, cookie: '', bootId: '' },
      ifname: transitIfname(id),
      hostIfname: hostIfname(id),
      mac,
      ip,
      ...(ip6 !== undefined && { ip6 }),
      defaultRoute: false,
      aliases: [],
      publish: [],
      door: 'docker',
      createdAt: new Date().toISOString(),
    };
    await this.options.endpoints.connect(endpoint);
  }

  disconnect(id: string): Promise<void> {
    return this.options.endpoints.disconnect(id);
  }

  async describe(id: string, about: Parameters<HostEndpoints['describe']>[1]): Promise<void> {
    await this.options.endpoints.describe(id, { ...about, ...(await this.#inside(id)) });
  }

  async publish(
    id: string,
    ports: readonly PublishRequest[],
    about: Pick<Endpoint, 'defaultRoute'>,
  ): Promise<void> {
    if (ports.length > 0)
      await this.options.endpointPorts.publish(id, { publish: [...ports], everywhere: false }, about);
  }

  async unpublish(id: string): Promise<void> {
    const there = this.get(id);
    if (there !== undefined && there.publish.length > 0)
      await this.options.endpointPorts.unpublish(id, () => true);
  }

  isAlive(id: string, comesWithinMs = COMES_MS): boolean | undefined {
    const endpoint = this.get(id);
    if (endpoint === undefined) return false;
    const now = this.options.kernel.identify(endpoint.sandbox.path);
    if (isToCome(endpoint)) {
      if (now !== undefined) return true;
      // An agent in a container that is not shown where Docker keeps namespaces knows nothing of them.
      if (!existsSync(dirname(endpoint.sandbox.path))) return undefined;
      return Date.now() - Date.parse(endpoint.createdAt) < comesWithinMs ? undefined : false;
    }
    return now !== undefined && sameSandbox(now, endpoint.sandbox);
  }

  /** Whoever moves a container's end inside goes on to name it; then it is looked for there. */
  movedIn(names: readonly string[]): void {
    for (const { id } of this.options.endpoints.list().filter(isToCome)) {
      if (!names.includes(transitIfname(id))) continue;
      const look = (): void => {
        this.lookInside(id).catch((error: unknown) => {
          this.options.log.debug('could not look inside yet', { id, error: messageOf(error) });
        });
      };
      for (const ms of LOOK_MS) setTimeout(look, ms).unref();
    }
  }

  async lookInside(id: string): Promise<void> {
    const found = await this.#inside(id);
    if (found !== undefined) await this.options.endpoints.describe(id, found);
  }

  /** Where the container's end has come to, and what it is called there; undefined where that is known, or not to be seen yet. */
  async #inside(id: string): Promise<Pick<Endpoint, 'sandbox' | 'ifname'> | undefined> {
    const endpoint = this.get(id);
    if (endpoint === undefined || !isToCome(endpoint)) return undefined;
    const { path } = endpoint.sandbox;
    if (this.options.kernel.identify(path) === undefined) return undefined;
    const { namespace, sandbox, isNode } = await this.options.kernel.openNamespace(path);
    try {
      if (isNode) return undefined;
      const { objects } = await namespace.observe([]);
      for (const { object, owned } of objects.values()) {
        if (object.kind !== 'link' || object.type !== 'peer' || !owned || object.mac !== endpoint.mac)
          continue;
        if (!object.name.startsWith(transitIfname(id))) return { sandbox, ifname: object.name };
      }
      return undefined;
    } finally {
      namespace.close();
    }
  }
}

const newId = (): string => randomBytes(8).toString('hex');

/** @throws WeftError INVALID_ARGUMENT */
function checkInside(network: Network, ip: IpAddress): void {
  const prefix: IpNetwork | undefined = ip.family === 4 ? network.subnet : network.subnet6;
  if (prefix?.contains(ip) === true) return;
  throw invalidArgument(
    `${ip.toString()} is not an address of network ${network.name}`,
    prefix === undefined ? `It has no IPv${ip.family} subnet.` : `Give one inside ${prefix.toString()}.`,
  );
}
