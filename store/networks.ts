// Creates and removes networks.
//
// Every creation and removal writes the guard key. A creator whose view has the guard's newest revision has seen every
// network, so no two that exclude each other can be created.
import { randomInt } from 'node:crypto';

import type { IpAddress } from '../core/address.js';
import { backendIn } from '../core/backends/index.js';
import type { OtherNetwork } from '../core/backends/backend.js';
import { driverOf, hasOwnGateway, isBridged, networkOf } from '../core/drivers/index.js';
import {
  alreadyExists,
  failedPrecondition,
  invalidArgument,
  notFound,
  unavailable,
  WeftError,
} from '../core/errors.js';
import { subnetIn } from '../core/families.js';
import { type Network, type NetworkSpec } from '../core/network.js';
import { checkOverlap } from '../core/overlap.js';
import { check, goObject, ifReadable, integer } from '../core/parse.js';
import type { BadRecord } from '../core/records.js';
import { rangeOf } from './keys.js';
import { readAll } from './pages.js';
import { scopeOf } from './ranges.js';
import { predates } from '../core/lost-records.js';
import { decodeConfig, encodeConfig, occupiedBy, type Occupied } from './network-codec.js';
import { addressesOf, encodeRemoval } from './record-codec.js';
import { previousLease } from './leases.js';
import { orAsk, type LostNetwork } from './network-writer.js';
import { proofOf } from './removal-proof.js';
import { notServed, unservedConfig } from './unserved.js';
import type { LeaseRequest } from './store.js';
import {
  absent,
  get,
  keyAt,
  noneOf,
  present,
  put,
  read,
  remove,
  removeAll,
  unchanged,
  type Context,
} from './transaction.js';

/** Seconds that a tombstone is kept. */
export const REMOVAL_TTL = 24 * 3600;

/** Milliseconds that a creator retries against other creators before it gives up. */
const PATIENCE = 10_000;

/** In place of etcd's answer: a controller has written it. */
const ASKED = 'asked';

/** Milliseconds until the view has what a controller has written. */
const SEEN_WITHIN = 1000;

export function checkNetwork(context: Context, spec: NetworkSpec): Network {
  const network = networkOf(spec);
  const twin = context.replica.view.networks.get(network.name);
  if (twin !== undefined) throw exists(network, twin);
  allocate(context, network);
  checkAgainstOthers(context, network);
  return network;
}

export async function createNetwork(context: Context, spec: NetworkSpec): Promise<Network> {
  return await createNetworkOf(context, networkOf(spec));
}

/** @throws as Store.createNetwork */
export async function createNetworkOf(context: Context, wanted: Network): Promise<Network> {
  const { client, replica, keys, writer } = context;
  const { name } = wanted;
  const config = keys.config(name);
  const giveUp = performance.now() + PATIENCE;
  let guard = await read(client, keys.allocated());
  while (performance.now() < giveUp) {
    // The view must be as new as the guard before conflicts are looked up in it.
    const seen = Number(guard?.mod_revision ?? 0);
    if (
      !replica.isSynced ||
      !(await replica.reached(keys.allocated(), seen, 2000)) ||
      !(await seesAll(context))
    ) {
      throw unavailable(
        `network ${name}: the list of networks is not up to date yet`,
        'Try again in a moment.',
      );
    }
    const twin = replica.view.networks.get(name);
    if (twin !== undefined) throw exists(wanted, twin);
    const network = allocate(context, wanted);
    checkAgainstOthers(context, network);
    const tombstone = keys.removal('network', name);
    await context.beforeConfig?.(name);
    const answer = await orAsk(
      () =>
        client.txn({
          compare: [absent(config), unchanged(keys.allocated(), seen)],
          success: [put(config, encodeConfig(network)), put(keys.allocated(), name), remove(tombstone)],
          failure: [get(config), get(keys.allocated())],
        }),
      writer && (() => writer.create(name, encodeConfig(network)).then(() => ASKED)),
    );
    if (typeof answer === 'string') {
      await replica
        .until(() => replica.view.networks.has(name), AbortSignal.timeout(SEEN_WITHIN))
        .catch(() => undefined);
      return replica.view.networks.get(name) ?? network;
    }
    const { succeeded, responses, header } = answer;
    if (succeeded) {
      await replica.reached(config, Number(header.revision));
      return replica.view.networks.get(name) ?? network;
    }
    const there = keyAt(responses, 0);
    if (there !== undefined) {
      const bad = unservedConfig(replica.view, name);
      throw exists(wanted, readable(name, there.value.toString()), bad);
    }
    guard = keyAt(responses, 1);
  }
  throw unavailable(`network ${name}: other networks keep being created`, 'Try again in a moment.');
}

/** @throws as Store.seeNetwork */
export async function seeNetwork({ client, replica, keys }: Context, name: string): Promise<void> {
  const key = keys.config(name);
  const config = await read(client, key).catch((error: unknown) => {
    if (!(error instanceof WeftError) || error.code !== 'UNAVAILABLE') throw error;
    throw unavailable(
      `network ${name} is not known on this node, and etcd does not answer`,
      'Try again when etcd is back.',
    );
  });
  if (config !== undefined && !(await replica.reached(key, Number(config.mod_revision))))
    throw unavailable(`this node has not heard of network ${name} yet`, 'Try again in a moment.');
}

/** Whether the view has every config of etcd: where the prefix is followed in parts, one may come later than the guard. */
async function seesAll({ client, replica, keys }: Context): Promise<boolean> {
  if (replica.isWhole) return true;
  const { kvs } = await readAll(
    (request) => client.range(request),
    keys,
    replica.rest(rangeOf(keys.networks())),
    scopeOf([]),
  );
  for (const { key, mod_revision: revision } of kvs) {
    const config = keys.parse(key.toString());
    if (config.kind === 'network' && !(await replica.reached(keys.config(config.name), Number(revision))))
      return false;
  }
  return true;
}

function exists(wanted: Network, there: Network | undefined, bad?: BadRecord): Error {
  if (bad !== undefined) {
    const { message, next } = notServed(wanted.name, bad);
    return alreadyExists(message.replace(': its', ' exists already, and its'), next);
  }
  // Copies: a network that was read would be written as it was read.
  const like =
    there === undefined || isBridged(wanted) || isBridged(there) || wanted.backend !== there.backend
      ? wanted
      : backendIn(wanted).settle(wanted, there);
  const same = there !== undefined && encodeConfig({ ...like }) === encodeConfig({ ...there });
  return alreadyExists(
    `network ${wanted.name} exists already${same ? ', exactly as asked for' : ''}`,
    `Use it as it is (weft network inspect ${wanted.name}), or choose another name.`,
  );
}

const readable = (name: string, config: string): Network | undefined =>
  ifReadable(() => decodeConfig(name, config));

/** Bad records of the view, with what they occupy all the same: a flannel network of another backend, for one. */
function* unserved({ replica, keys }: Context): Generator<Occupied & { name: string }> {
  for (const key of replica.view.bad.keys()) {
    const parsed = keys.parse(key);
    const text = replica.text(key);
    if (parsed.kind === 'network' && text !== undefined) yield { name: parsed.name, ...occupiedBy(text) };
  }
}

function checkAgainstOthers(context: Context, network: Network): void {
  const { view } = context.replica;
  const underlays = [...view.nodes.values()].flatMap((node) =>
    addressesOf(node).map((ip) => ({ node: node.name, ip })),
  );
  // A flanneld has no node record; its lease has its address.
  const flannels = [...view.leases.values()].flatMap((leases) =>
    [...leases.values()]
      .filter((lease) => lease.node === undefined && lease.publicIp.value !== 0n)
      .map((lease) => ({ node: `flanneld at ${lease.publicIp.toString()}`, ip: lease.publicIp })),
  );
  checkOverlap(network, view.networks.values(), [...underlays, ...flannels]);
  driverOf(network).checkBeside(network, view.networks.values());
  if (!hasOwnGateway(network)) return;
  for (const other of unserved(context)) {
    const clash = other.prefixes.find(
      (prefix) =>
        prefix.overlaps(network.subnet) ||
        (network.subnet6 !== undefined && prefix.overlaps(network.subnet6)),
    );
    if (clash === undefined || other.name === network.name) continue;
    throw failedPrecondition(
      `network ${network.name}: its subnet overlaps ${clash.toString()} of network ${other.name}, which weft does not serve`,
      'Choose another subnet.',
    );
  }
}

/** Fills in what must differ from every other network. @throws WeftError FAILED_PRECONDITION, RESOURCE_EXHAUSTED */
export function allocate(context: Context, network: Network): Network {
  if (isBridged(network)) return network;
  const served = [...context.replica.view.networks.values()].flatMap((other): OtherNetwork[] =>
    isBridged(other) ? [] : [{ name: other.name, network: other, ports: driverOf(other).udpPorts(other) }],
  );
  const others = [...unserved(context)].map(({ name, backend }) => ({
    name,
    config: backend,
    ports: portsIn(backend),
  }));
  return backendIn(network).allocate(network, [...served, ...others], randomInt);
}

const PORT = integer(1, 65_535).optional().catch(undefined);
const PORTS = goObject({ Port: PORT, ListenPort: PORT, ListenPortV6: PORT });

/** The UDP ports of a network that weft does not serve. */
const portsIn = (backend: unknown): number[] =>
  Object.values(ifReadable(() => check(PORTS, backend)) ?? {}).filter((port) => port !== undefined);

export async function removeNetwork(
  context: Context,
  name: string,
  { force, unleased = false }: { force: boolean; unleased?: boolean },
): Promise<void> {
  const { client, replica, keys } = context;
  const removal = { kind: 'network', name, at: context.now().toISOString(), forced: force } as const;
  const proof = await proofOf(context, removal);
  const etcdLease = await client.grant(REMOVAL_TTL);
  const tombstone = encodeRemoval({ ...removal, ...(proof !== undefined && { proof }) });
  const { succeeded, responses, header } = await client
    .txn({
      compare: [
        present(keys.config(name)),
        ...(force ? [] : [noneOf(keys.endpoints(name))]),
        ...(unleased ? [noneOf(keys.subnets(name))] : []),
      ],
      success: [
        removeAll(keys.network(name)),
        put(keys.removal('network', name), tombstone, etcdLease),
        put(keys.allocated(), name),
      ],
      failure: [
        get(keys.config(name)),
        { request_range: { ...rangeOf(keys.endpoints(name)), count_only: true } },
      ],
    })
    .catch((error: unknown) => {
      client.revoke(etcdLease);
      throw error;
    });
  if (succeeded) {
    await replica.reached(keys.config(name), Number(header.revision));
    return;
  }
  client.revoke(etcdLease);
  if (keyAt(responses, 0) === undefined) {
    throw notFound(`network ${name} does not exist`, 'See which do: weft network ls.');
  }
  const count = Number(responses[1]?.response_range.count ?? 0);
  if (count === 0) throw failedPrecondition(`network ${name}: other nodes have a subnet in it`);
  throw failedPrecondition(
    `network ${name}: ${count === 1 ? 'one endpoint is' : `${count} endpoints are`} on it`,
    `Detach ${count === 1 ? 'it' : 'them'} first (weft endpoint ls --network ${name}), or use --force.`,
  );
}

export async function restoreNetwork(
  context: Context,
  network: Network,
  own?: LeaseRequest,
  had?: string,
): Promise<boolean> {
  const { replica, keys, writer } = context;
  const { name } = network;
  const tombstone = keys.removal('network', name);
  const removal = replica.view.removals.get(`network ${name}`);
  const superseded =
    removal !== undefined && predates(removal, had)
      ? replica.modRevision(tombstone)?.toString()
      : replica.superseded(tombstone);
  const lease = own && previousLease(context, own);
  const lost: LostNetwork = {
    ...{ name, config: encodeConfig(network) },
    ...(own !== undefined && lease !== undefined && { lease: { ...lease, ttlSeconds: own.ttlSeconds } }),
    ...(superseded !== undefined && { superseded }),
  };
  return await orAsk(() => writeBack(context, lost), writer && (() => writer.restore(lost)));
}

/** Returns whether it wrote. */
export async function writeBack(context: Context, lost: LostNetwork): Promise<boolean> {
  const { client, keys } = context;
  const { name, config, lease, superseded } = lost;
  const tombstone = keys.removal('network', name);
  await context.beforeConfig?.(name);
  if (superseded !== undefined)
    await client.txn({ compare: [unchanged(tombstone, superseded)], success: [remove(tombstone)] });
  const compare = [absent(keys.config(name)), absent(tombstone)];
  const success = [put(keys.config(name), config), put(keys.allocated(), name)];
  if (lease !== undefined) {
    const etcdLease = await client.grant(lease.ttlSeconds);
    let written = false;
    try {
      const { succeeded } = await client.txn({
        compare: [...compare, absent(lease.key)],
        success: [...success, put(lease.key, lease.value, etcdLease)],
      });
      written = succeeded;
    } finally {
      if (!written) client.revoke(etcdLease);
    }
    if (written) return true;
  }
  return (await client.txn({ compare, success })).succeeded;
}

/** @throws WeftError for an address outside the network */
export function checkInside(network: Network, ip: IpAddress): void {
  const prefix = subnetIn(network, ip.family);
  if (prefix?.contains(ip) === true) return;
  throw invalidArgument(
    `ip: ${ip.toString()} is not an address of network ${network.name}`,
    prefix === undefined ? `It has no IPv${ip.family} subnet.` : `Give one inside ${prefix.toString()}.`,
  );
}
