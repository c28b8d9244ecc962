// Network driver, networks: create, name, delete.
//
// One Docker network on each host is one network of weft. Its name is weft.network, else that of the network with the same
// subnet, else the Docker network's own. Docker reports its own name only in events, after CreateNetwork was answered; until
// then the network is checked, and nothing of it is written to etcd.
import { setTimeout as delay } from 'node:timers/promises';

import { IpAddress, IpNetwork, parseInterface } from '../../core/address.js';
import { networkOf } from '../../core/drivers/index.js';
import { failedPrecondition, invalidArgument, messageOf, unavailable, WeftError } from '../../core/errors.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import { prefixesOf, type Network, type NetworkSpec } from '../../core/network.js';
import { findOverlap } from '../../core/overlap.js';
import type { PluginHost, PluginProblem } from '../../daemon/plugin-host.js';
import { allOrNothing } from '../../daemon/rollback.js';
import { type DockerNetwork, PLUGIN, type PluginState, type Pool } from './plugin-state.js';
import {
  checkOptions,
  checkSubnets,
  fallbackName,
  isNetworkName,
  optionsOf,
  specOf,
} from './network-spec.js';
import { command, howToCreate, otherName, overlapsOther, twinOf, unknownNetwork, unnamed } from './errors.js';
import { ADDRESS_SPACE, LABEL, type CreateNetwork, type IpamData } from './protocol.js';

export interface NetworksOptions {
  host: PluginHost;
  state: PluginState;
  /** Docker's name of a network; undefined if Docker does not report it in time. */
  nameOf: (id: string) => Promise<string | undefined>;
  /** Whether nameOf can answer now. */
  hasNames: () => boolean;
}

/** How long a request waits for a network that is being named, which usually takes milliseconds. */
const READY_MS = 4_000;
const RETRY_MS = 1_000;
/** Attempts at creating a network that other hosts create at the same time; one conflict is usual. */
const RACES = 5;

export class Networks {
  readonly #locks = new KeyedMutex();
  readonly #settling = new Map<string, Promise<void>>();

  constructor(private readonly options: NetworksOptions) {}

  /** Continues naming after a restart. */
  resume(): void {
    for (const network of this.options.state.networks.list()) {
      if (network.state === 'naming') this.#settle(network.id);
    }
  }

  async create(request: CreateNetwork): Promise<object> {
    return this.#locks.run(request.NetworkID, async () => {
      if (this.options.state.networks.get(request.NetworkID) === undefined) await this.#create(request);
      return {};
    });
  }

  async #create(request: CreateNetwork): Promise<void> {
    const { pool, pool6 } = await this.#pools(request);
    const { network: asked, ...options } = optionsOf(request);
    const names = new Set([asked, pool.name, pool6?.name].filter((name) => name !== undefined));
    if (names.size > 1) {
      throw invalidArgument(
        `weft.network is ${[...names].join(' and ')}: -o and --ipam-opt name different networks`,
        'Give one of them.',
      );
    }
    const [name] = names;
    const record: DockerNetwork = {
      id: request.NetworkID,
      pool: pool.id,
      ...(pool6 && { pool6: pool6.id }),
      state: 'naming',
      options,
      createdAt: new Date().toISOString(),
    };
    const known = this.#find(name, pool);
    if (name === undefined && known === undefined && this.options.hasNames()) {
      await this.#check(record, pool, pool6);
      this.#bind(record, pool, pool6);
      this.#settle(record.id);
      return;
    }
    const joined = await this.#enter(
      record,
      pool,
      pool6,
      name ?? known?.name ?? fallbackName(pool),
      name !== undefined,
    );
    this.#bind({ ...record, state: 'ready', network: joined }, pool, pool6);
  }

  /** Checks what can be checked before the name is known. @throws WeftError */
  async #check(record: DockerNetwork, pool: Pool, pool6: Pool | undefined): Promise<void> {
    const name = fallbackName(pool);
    const spec = specOf(name, record, pool, pool6);
    this.#checkOverlap(spec);
    await this.options.host.networks.check(spec).catch((error: unknown) => {
      throw unnamed(error, name);
    });
  }

  /** @throws WeftError FAILED_PRECONDITION that says how to join the network that has the addresses */
  #checkOverlap(spec: NetworkSpec): void {
    const network = networkOf(spec);
    const other = findOverlap(network, this.options.host.networks.list());
    const clash =
      other && prefixesOf(network).find((mine) => prefixesOf(other).some((theirs) => theirs.overlaps(mine)));
    if (clash !== undefined && other !== undefined) throw overlapsOther(clash, other);
  }

  #bind(record: DockerNetwork, ...pools: (Pool | undefined)[]): void {
    this.options.state.networks.put(record);
    for (const pool of pools)
      if (pool !== undefined) this.options.state.pools.put({ ...pool, network: record.id });
  }

  /** The pools of the request. @throws WeftError with the right command if they are not weft's */
  async #pools({ IPv4Data, IPv6Data, Options }: CreateNetwork): Promise<{ pool: Pool; pool6?: Pool }> {
    const [data, ...more] = IPv4Data;
    const [data6, ...more6] = IPv6Data;
    if (more.length + more6.length > 0) {
      throw invalidArgument('a network of weft has one subnet of each family', 'Create a second network.');
    }
    if (data === undefined) {
      throw invalidArgument('a network of weft needs an IPv4 subnet', howToCreate(await this.#unused()));
    }
    const pool = await this.#poolOf(data);
    if (data6 === undefined) {
      if (Options[LABEL.enableIPv6] !== true) return { pool };
      throw invalidArgument(
        '--ipv6 needs an IPv6 subnet',
        `Add --subnet fd00:9::/48 to ${command(pool.subnet)}`,
      );
    }
    return { pool, pool6: await this.#poolOf(data6) };
  }

  async #poolOf({ AddressSpace, Pool: subnet, Gateway }: IpamData): Promise<Pool> {
    const gateway = Gateway === '' ? undefined : parseInterface(Gateway).address.toString();
    const mine = this.options.state.pools
      .list()
      .filter((pool) => pool.subnet === subnet && pool.network === undefined && !pool.released);
    const pool = mine.find(
      (pool) => gateway === undefined || IpNetwork.parse(pool.hostSubnet).at(1).toString() === gateway,
    );
    if (AddressSpace === ADDRESS_SPACE && pool !== undefined) return pool;
    throw invalidArgument(
      "weft's networks need weft's IPAM driver: another one would allocate the same addresses on every host",
      howToCreate(this.#isOfDocker(subnet) ? await this.#unused() : subnet),
    );
  }

  /** A subnet to propose: no network has it, nor a route of this host. */
  async #unused(): Promise<string> {
    const used = await this.options.host.networks.usedPrefixes();
    const free = PROPOSALS.find((subnet) => !used.some((other) => other.overlaps(subnet)));
    return (free ?? PROPOSALS[0])?.toString() ?? '';
  }

  /** Whether a subnet is missing, or probably Docker's own choice: nobody typed it. */
  #isOfDocker(subnet: string): boolean {
    const prefix = IpNetwork.tryParse(subnet);
    if (prefix === undefined || prefix.length === 0) return true;
    const isChosen = DOCKERS.some(({ pool, length }) => length === prefix.length && pool.contains(prefix));
    return isChosen && !this.options.host.networks.list().some((network) => network.subnet.equals(prefix));
  }

  #find(name: string | undefined, pool: Pool): Network | undefined {
    const subnet = IpNetwork.parse(pool.subnet);
    return this.options.host.networks
      .list()
      .find((network) => (name === undefined ? network.subnet.equals(subnet) : network.name === name));
  }

  /**
   * Joins the network of this name or subnet, or creates it. All or nothing.
   * @param isMeant the operator asked for this name
   * @returns the network's name
   */
  async #enter(
    record: DockerNetwork,
    pool: Pool,
    pool6: Pool | undefined,
    name: string,
    isMeant: boolean,
  ): Promise<string> {
    const { host } = this.options;
    const network = await this.#ensure(record, pool, pool6, name, isMeant);
    return allOrNothing(host.log, network.name, async (rollback) => {
      if (host.networks.get(network.name) === undefined)
        rollback.add(() => host.networks.leave(network.name));
      await host.networks.join(network.name, {
        subnet: IpNetwork.parse(pool.hostSubnet),
        ...(pool6 && { subnet6: IpNetwork.parse(pool6.hostSubnet) }),
      });
      for (const { aux } of pool6 === undefined ? [pool] : [pool, pool6])
        for (const ip of aux) await host.addresses.setAside(network.name, IpAddress.parse(ip));
      return network.name;
    });
  }

  async #ensure(
    record: DockerNetwork,
    pool: Pool,
    pool6: Pool | undefined,
    name: string,
    isMeant: boolean,
  ): Promise<Network> {
    const { host } = this.options;
    for (let race = 1; ; race++) {
      const there = isMeant
        ? (this.#find(name, pool) ?? this.#find(undefined, pool))
        : (this.#find(undefined, pool) ?? this.#find(name, pool));
      if (there !== undefined) {
        if (there.name !== name && isMeant) throw otherName(there, name, pool);
        checkSubnets(there, pool, pool6);
        this.#checkTwin(there, record);
        const taken = checkOptions(there, record, { isMeant, nodes: host.networks.nodes(there.name) });
        if (taken.length > 0)
          host.log.warn("a network has options that this host's command leaves out", {
            network: there.name,
            options: taken.join(', '),
          });
        return there;
      }
      const spec = specOf(name, record, pool, pool6);
      this.#checkOverlap(spec);
      try {
        return await host.networks.create(spec);
      } catch (error) {
        const raced =
          error instanceof WeftError && ['ALREADY_EXISTS', 'FAILED_PRECONDITION'].includes(error.code);
        if (!raced || race >= RACES || (this.#find(name, pool) ?? this.#find(undefined, pool)) === undefined)
          throw error;
      }
    }
  }

  /** @throws WeftError ALREADY_EXISTS where another Docker network of this host is that network */
  #checkTwin(there: Network, { id }: DockerNetwork): void {
    const twin = this.options.state.networkNamed(there.name);
    if (twin !== undefined && twin.id !== id) throw twinOf(`network ${there.name}`, twin);
  }

  /** Names a network in the background; while etcd does not answer, it is retried. */
  #settle(id: string): void {
    if (this.#settling.has(id)) return;
    const work = this.#name(id)
      .catch((error: unknown) => {
        this.options.host.log.error('naming a Docker network failed', { id, error: messageOf(error) });
      })
      .finally(() => this.#settling.delete(id));
    this.#settling.set(id, work);
  }

  async #name(id: string): Promise<void> {
    const { host, state, nameOf } = this.options;
    const dockerName = await nameOf(id);
    const current = (): DockerNetwork | undefined => {
      const record = state.networks.get(id);
      return record?.state === 'naming' && !host.signal.aborted ? record : undefined;
    };
    for (let record = current(); record !== undefined; record = current()) {
      const done = await this.#locks.run(id, () => this.#tryName(id, dockerName));
      if (done) return;
      await delay(RETRY_MS, undefined, { signal: host.signal, ref: false }).catch(() => undefined);
    }
  }

  async #tryName(id: string, dockerName: string | undefined): Promise<boolean> {
    const { host, state } = this.options;
    const record = state.networks.get(id);
    const [pool, pool6] = record === undefined ? [] : state.poolsOf(record);
    if (record?.state !== 'naming' || pool === undefined) return true;
    try {
      const name = dockerName !== undefined && isNetworkName(dockerName) ? dockerName : fallbackName(pool);
      const network = await this.#enter(record, pool, pool6, name, false);
      const { why: _why, ...rest } = record;
      state.networks.put({ ...rest, state: 'ready', network });
      host.problem(problemOf(id), undefined);
      return true;
    } catch (error) {
      const refused = error instanceof WeftError && error.code !== 'UNAVAILABLE';
      const why = messageOf(error);
      const isFinal = this.#note({ ...record, state: refused ? 'refused' : 'naming', why }) && refused;
      host.log.warn('a Docker network is not ready', { network: dockerName ?? id, error: why });
      host.problem(problemOf(id), {
        what: `the Docker network ${dockerName ?? id.slice(0, 12)}`,
        why,
        fix: isFinal
          ? `docker network rm ${dockerName ?? id.slice(0, 12)}, then create it again. ${error.next ?? ''}`.trim()
          : 'It is tried again every second.',
      });
      return isFinal;
    }
  }

  /** Saves a record. Returns false if that failed; naming is then retried. */
  #note(record: DockerNetwork): boolean {
    const { host, state } = this.options;
    try {
      state.networks.put(record);
      return true;
    } catch (error) {
      host.log.error('a Docker network cannot be saved', { id: record.id, error: messageOf(error) });
      return false;
    }
  }

  /** The name in weft of a Docker network; waits until this host has joined it. @throws WeftError */
  async ready(id: string): Promise<string> {
    const settling = this.#settling.get(id);
    if (settling !== undefined) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, READY_MS)));
      await Promise.race([settling, late]);
      clearTimeout(timer);
    }
    const record = this.options.state.networks.get(id);
    if (record === undefined) throw unknownNetwork(id);
    if (record.state === 'ready' && record.network !== undefined) {
      if (this.options.host.networks.get(record.network) !== undefined) return record.network;
      throw failedPrecondition(
        `network ${record.network} was removed from the cluster`,
        'Remove the Docker network as well (docker network rm), and create it again.',
      );
    }
    const why = record.why ?? 'etcd has not answered yet';
    if (record.state !== 'refused') throw unavailable(`this network is not ready: ${why}`, 'Try again.');
    throw failedPrecondition(
      `this network cannot be used: ${why}`,
      'Remove it (docker network rm) and create it again.',
    );
  }

  async delete(id: string): Promise<object> {
    await this.#locks.run(id, () => this.#delete(id));
    return {};
  }

  async #delete(id: string): Promise<void> {
    const { host, state } = this.options;
    const record = state.networks.get(id);
    if (record === undefined) return;
    for (const endpoint of state.endpointsOf(id)) {
      await host.endpoints.disconnect(endpoint.endpoint);
      state.forget(endpoint.id);
    }
    host.problem(problemOf(id), undefined);
    const { network } = record;
    state.networks.put({ ...record, state: 'leaving' });
    if (network !== undefined && state.networkNamed(network) === undefined) {
      try {
        await this.#leave(network, state.poolsOf(record));
      } catch (error) {
        // Docker ignores the answer and has deleted the network: upkeep tries again.
        host.log.warn('could not leave a network yet', { network, error: messageOf(error) });
        return;
      }
    }
    for (const pool of state.poolsOf(record)) state.pools.delete(pool.id);
    state.networks.delete(id);
  }

  async #leave(network: string, pools: readonly Pool[]): Promise<void> {
    const { addresses, networks } = this.options.host;
    for (const reservation of addresses.list()) {
      if (reservation.network === network) addresses.release(network, reservation.ip.split('/')[0] ?? '');
    }
    for (const { aux } of pools) {
      for (const ip of aux) await addresses.giveBack(network, IpAddress.parse(ip));
    }
    await networks.leave(network);
  }
}

/** Subnets that errors propose, in this order. */
const PROPOSALS = Array.from({ length: 240 }, (_, i) => IpNetwork.parse(`10.${(i + 9) % 256}.0.0/16`));

/** Where Docker's own address management takes subnets from, and their length, if nothing was asked for (libnetwork/ipamutils). */
const DOCKERS = [
  { pool: IpNetwork.parse('172.16.0.0/12'), length: 16 },
  { pool: IpNetwork.parse('192.168.0.0/16'), length: 20 },
];

const problemOf = (id: string): PluginProblem => ({ plugin: PLUGIN, kind: 'plugin-network', id });
