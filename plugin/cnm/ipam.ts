// IPAM driver: pools and addresses.
//
// A pool is a whole network of weft's; its addresses come from this host's subnet. Docker requests the gateway before it
// creates the network: the host's subnet is proposed with the pool, and leased when the network is created.
import { createHash, randomBytes } from 'node:crypto';

import { hostPrefixIn, subnetIn } from '../../core/families.js';
import { IpAddress, IpNetwork } from '../../core/address.js';
import {
  alreadyExists,
  failedPrecondition,
  invalidArgument,
  notFound,
  resourceExhausted,
  WeftError,
} from '../../core/errors.js';
import {
  checkUsable,
  defaultHostPrefix,
  parseHostPrefix,
  prefixesOf,
  type Network,
} from '../../core/network.js';
import type { PluginHost } from '../../daemon/plugin-host.js';
import { ageOf, isAddressOf, type PluginState, type Pool } from './plugin-state.js';
import type { Networks } from './network.js';
import { parseIpamOptions, type IpamOptions } from './options.js';
import { otherName, otherSubnet, twinOf } from './errors.js';
import { ADDRESS_TYPE, type ReleaseAddress, type RequestAddress, type RequestPool } from './protocol.js';

/** Docker creates an endpoint right after it has requested the address. */
const ORPHAN_MS = 10_000;
/** Limit of automatic pools that are not in use: an engine that rejects every subnet asks again without end. */
const MAX_UNUSED = 32;

export interface IpamOptionsGiven {
  host: PluginHost;
  state: PluginState;
  networks: Networks;
}

export class Ipam {
  constructor(private readonly options: IpamOptionsGiven) {}

  async requestPool(request: RequestPool): Promise<object> {
    const { host, state } = this.options;
    const family = request.V6 || request.Pool.includes(':') ? 6 : 4;
    const given = parseIpamOptions(request.Options);
    const asked = request.Pool === '' ? undefined : IpNetwork.parse(request.Pool, 'subnet');
    const within = request.SubPool === '' ? undefined : IpNetwork.parse(request.SubPool, 'ip-range');
    if (asked !== undefined) checkUsable(asked, 'subnet');
    await host.networks.known(3000);
    const existing = this.#existing(given, asked, family);
    const whole = await this.#whole(given, asked, existing, family);
    if (within !== undefined && !whole.contains(within)) {
      throw invalidArgument(`ip-range: ${within.toString()} is not inside ${whole.toString()}`);
    }
    this.#checkUnused(whole, existing);
    const hostPrefix = hostPrefixOf(given, whole, existing);
    const hostSubnet = await host.networks.propose({
      ...{ whole, hostPrefix },
      ...(within && { within }),
      ...(given.force === true && { force: true }),
    });
    const pool: Pool = {
      id: `weft-${whole.toString().replace('/', '-')}-${randomBytes(6).toString('hex')}`.replaceAll(':', '.'),
      family,
      subnet: whole.toString(),
      hostSubnet: hostSubnet.toString(),
      hostPrefix,
      ...(within !== undefined && !within.contains(hostSubnet) && { within: within.toString() }),
      ...(given.network !== undefined && { name: given.network }),
      ...(given.force === true && { force: true }),
      auto: asked === undefined,
      aux: [],
      released: false,
      createdAt: new Date().toISOString(),
    };
    state.pools.put(pool);
    return { PoolID: pool.id, Pool: pool.subnet, Data: {} };
  }

  /** The network of weft's with this name or subnet. @throws WeftError if name and subnet contradict each other */
  #existing(
    { network: name }: IpamOptions,
    asked: IpNetwork | undefined,
    family: 4 | 6,
  ): Network | undefined {
    const all = this.options.host.networks.list();
    const same = asked && all.find((network) => prefixesOf(network).some((prefix) => prefix.equals(asked)));
    if (name === undefined) return same;
    const named = all.find((network) => network.name === name);
    if (named === undefined) {
      if (same === undefined || asked === undefined) return undefined;
      throw otherName(same, name, { subnet: asked.toString() });
    }
    const prefix = subnetIn(named, family);
    if (prefix === undefined) {
      throw failedPrecondition(`network ${name} has no IPv6 subnet`, 'Leave --ipv6 and its subnet out.');
    }
    if (asked !== undefined && !prefix.equals(asked)) throw otherSubnet(named, asked, prefix);
    return named;
  }

  async #whole(
    { network: name }: IpamOptions,
    asked: IpNetwork | undefined,
    existing: Network | undefined,
    family: 4 | 6,
  ): Promise<IpNetwork> {
    const { host } = this.options;
    if (asked !== undefined) return asked;
    const used = await host.networks.usedPrefixes();
    const own = existing && subnetIn(existing, family);
    if (own !== undefined) {
      const here = existing === undefined ? undefined : host.networks.get(existing.name);
      // Docker treats a subnet that is routed as in use, and asks for another one without end.
      const isHeld = this.options.state.pools.list().some((pool) => pool.subnet === own.toString());
      if (family === 4 && (here !== undefined || isHeld)) {
        throw failedPrecondition(
          `network ${name ?? ''} is on this host already, and Docker needs its subnet`,
          `Give it: docker network create -d weft --ipam-driver weft --ipam-opt weft.network=${name ?? ''} --subnet ${own.toString()} …`,
        );
      }
      return own;
    }
    return this.#unused(family, used, name ?? host.node);
  }

  /**
   * A private prefix that is unused, and not in any pool: the same for the same seed, so that a network that is removed and made
   * again has the same addresses.
   */
  #unused(family: 4 | 6, used: readonly IpNetwork[], seed: string): IpNetwork {
    const pools = this.options.state.pools.list();
    if (pools.filter((pool) => pool.auto && pool.network === undefined).length >= MAX_UNUSED) {
      throw resourceExhausted(
        `Docker rejected ${MAX_UNUSED} subnets, one after the other`,
        'Choose one yourself, with --subnet.',
      );
    }
    const held = [...used, ...pools.map((pool) => IpNetwork.parse(pool.subnet))];
    for (let i = 0; i < 1000; i++) {
      const random = createHash('sha256').update(`${seed} ${i}`).digest().subarray(0, 5);
      // RFC 4193 §3.2: a unique local prefix is fd and 40 random bits. RFC 1918: 10.0.0.0/8.
      const prefix =
        family === 6
          ? IpNetwork.of(
              IpAddress.fromBytes(Buffer.concat([Buffer.from([0xfd]), random, Buffer.alloc(10)])),
              48,
            )
          : IpNetwork.of(IpAddress.fromBytes(Uint8Array.of(10, random[0] ?? 0, 0, 0)), 16);
      if (!held.some((other) => other.overlaps(prefix))) return prefix;
    }
    throw resourceExhausted('no /16 of 10.0.0.0/8 is unused', 'Choose a subnet yourself, with --subnet.');
  }

  #checkUnused(whole: IpNetwork, existing: Network | undefined): void {
    const { state } = this.options;
    const other =
      state.networks
        .list()
        .find((network) =>
          state.poolsOf(network).some((pool) => !pool.released && pool.subnet === whole.toString()),
        ) ??
      (existing && state.networkNamed(existing.name));
    if (other === undefined || other.state === 'leaving') return;
    throw twinOf(whole.toString(), other);
  }

  releasePool(id: string): object {
    const { state } = this.options;
    const pool = state.pools.get(id);
    if (pool === undefined) return {};
    if (pool.network !== undefined && state.networks.get(pool.network) !== undefined) {
      // DeleteNetwork follows; if it does not, the next comparison with Docker finds the network.
      state.pools.put({ ...pool, released: true });
    } else state.pools.delete(id);
    return {};
  }

  async requestAddress(request: RequestAddress): Promise<object> {
    const pool = this.#pool(request.PoolID);
    const asked = request.Address === '' ? undefined : bare(request.Address);
    if (request.Options[ADDRESS_TYPE.key] === ADDRESS_TYPE.gateway) return gateway(pool, asked);
    if (pool.network === undefined) return this.#aux(pool, asked);
    const name = await this.options.networks.ready(pool.network);
    const { ip } = await this.#reserve(name, pool, asked);
    return { Address: ip, Data: {} };
  }

  async #reserve(network: string, pool: Pool, asked: IpAddress | undefined): Promise<{ ip: string }> {
    const { addresses } = this.options.host;
    const request = {
      network,
      family: pool.family,
      ...(asked && { asked }),
      ...(pool.within !== undefined && { within: IpNetwork.parse(pool.within) }),
    };
    try {
      return await addresses.reserve(request);
    } catch (error) {
      const isTaken = error instanceof WeftError && error.code === 'ALREADY_EXISTS';
      if (!isTaken || asked === undefined || !(await this.#isLeftOver(network, asked.toString())))
        throw error;
      addresses.release(network, asked.toString());
      return addresses.reserve(request);
    }
  }

  /** Whether an address is only reserved for a container that ended or never started; its endpoint is then removed. */
  async #isLeftOver(network: string, ip: string): Promise<boolean> {
    const { host, state } = this.options;
    const reservation = host.addresses.find(network, ip);
    if (reservation === undefined) return false;
    const owner = state.endpoints
      .list()
      .find(
        (endpoint) => isAddressOf(endpoint, ip) && state.networks.get(endpoint.network)?.network === network,
      );
    if (owner === undefined) return ageOf(reservation) > ORPHAN_MS;
    if (!state.joined.has(owner.id) || host.endpoints.isAlive(owner.endpoint) !== false) return false;
    host.log.info('reusing the address of a container that ended', { network, ip });
    await host.endpoints.disconnect(owner.endpoint);
    state.forget(owner.id);
    return true;
  }

  /** --aux-address: Docker requests it of a pool whose network is not created yet; no container may have it. */
  #aux(pool: Pool, asked: IpAddress | undefined): object {
    if (asked === undefined) {
      throw failedPrecondition(
        `${pool.subnet} is no network of weft's driver, only its addresses are weft's`,
        'Use both: docker network create -d weft --ipam-driver weft …',
      );
    }
    const whole = IpNetwork.parse(pool.subnet);
    if (!whole.contains(asked)) {
      throw invalidArgument(`${asked.toString()} is not an address of ${pool.subnet}`, 'Choose another one.');
    }
    const ip = asked.toString();
    if (!pool.aux.includes(ip)) this.options.state.pools.put({ ...pool, aux: [...pool.aux, ip] });
    return { Address: `${ip}/${whole.length}`, Data: {} };
  }

  async releaseAddress(request: ReleaseAddress): Promise<object> {
    const { state, host } = this.options;
    const pool = state.pools.get(request.PoolID);
    const ip = request.Address === '' ? undefined : bare(request.Address).toString();
    if (pool === undefined || ip === undefined) return {};
    const name = pool.network === undefined ? undefined : state.networks.get(pool.network)?.network;
    if (pool.aux.includes(ip)) {
      state.pools.put({ ...pool, aux: pool.aux.filter((other) => other !== ip) });
      if (name !== undefined) await host.addresses.giveBack(name, bare(ip));
      return {};
    }
    if (name === undefined) return {};
    // Docker deletes an endpoint before it releases its address. An endpoint that has the address now is another container's:
    // this release is late.
    const isUsed = state.endpointsOf(pool.network ?? '').some((endpoint) => isAddressOf(endpoint, ip));
    if (isUsed) return {};
    host.addresses.release(name, ip);
    // Once `docker rm` has ended, another host can be given the address.
    await host.addresses.released(name, ip);
    return {};
  }

  #pool(id: string): Pool {
    const pool = this.options.state.pools.get(id);
    if (pool !== undefined) return pool;
    throw notFound(
      `weft does not know the pool ${id} any more`,
      'Its state directory was lost: remove the Docker network and create it again, with the same --subnet.',
    );
  }
}

const bare = (text: string): IpAddress => IpAddress.parse(text.split('/')[0] ?? '');

function gateway(pool: Pool, asked: IpAddress | undefined): object {
  const subnet = IpNetwork.parse(pool.hostSubnet);
  const own = subnet.at(1);
  if (asked !== undefined && !asked.equals(own)) {
    throw invalidArgument(
      `gateway: ${asked.toString()} cannot be the gateway: every host is the gateway of its own containers, and this one has ${own.toString()} of ${subnet.toString()}`,
      'Leave --gateway out.',
    );
  }
  return { Address: `${own.toString()}/${subnet.length}`, Data: {} };
}

function hostPrefixOf(given: IpamOptions, whole: IpNetwork, existing: Network | undefined): number {
  const [field, asked] =
    whole.family === 4
      ? (['weft.host-prefix', given.hostPrefix] as const)
      : (['weft.host-prefix6', given.hostPrefix6] as const);
  const has = existing && hostPrefixIn(existing, whole.family);
  if (has === undefined) return parseHostPrefix(whole, asked, field);
  if (asked === undefined || asked === has) return has;
  throw alreadyExists(
    `network ${existing?.name ?? ''} has ${field} ${has}, not ${asked} (${defaultHostPrefix(whole)} is the default)`,
    'Leave it out.',
  );
}
