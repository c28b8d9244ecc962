// The store on a real etcd, assembled from its parts.
//
// The replica reads; each kind of write has a file of its own.
import { createHmac } from 'node:crypto';

import { campaign } from './election.js';
import { answerClaim, claimAddress, deleteClaim, restoreClaim } from './claims.js';
import { etcdUsersOf, type EtcdUsers } from './etcd-users.js';
import { EtcdClient, type StoreLog } from './client.js';
import { credentialsIn, type Credentials } from './credentials.js';
import { deleteEndpoint, putEndpoint } from './endpoints.js';
import { Keys } from './keys.js';
import { releaseLease, renewLease } from './lease-renewal.js';
import { acquireLease } from './leases.js';
import { checkNetwork, createNetwork, removeNetwork, restoreNetwork, seeNetwork } from './networks.js';
import { orAsk, type NetworkWriter } from './network-writer.js';
import { networkWriterOf } from './node-requests.js';
import { addName, removeName } from './own-names.js';
import { updateNetwork } from './network-update.js';
import { removeNode } from './nodes.js';
import { createPolicy, removePolicy } from './policies.js';
import { proposeSubnet } from './proposals.js';
import { forget, removeAgain } from './removals.js';
import { Presence } from './presence.js';
import { Replica } from './replica.js';
import type { EtcdAccess } from './session.js';
import type { Store, StoredLease } from './store.js';
import type { Context } from './transaction.js';

export type { Credentials, EtcdAccess, StoreLog };

export interface StoreOptions extends EtcdAccess {
  /** http://HOST:PORT or https://HOST:PORT, one for each etcd server. */
  endpoints: string[];
  /** Root of all keys, such as /weft. */
  prefix: string;
  log: StoreLog;
  /** Nothing is written but what is asked for: tombstones are left as they are. Absent: false. */
  readOnly?: boolean;
  /** Networks whose containers are followed from the start; absent: all, and what controllers alone read. */
  networks?: Iterable<string>;
  /** Other networks that had many containers before: they are left out from the start, where lists cost etcd time for each. */
  leftOut?: Iterable<string>;
  /** Called with the networks that are left out, for the next process. It does not throw. */
  onLeftOut?: (networks: readonly string[]) => void;
  /** Writes what makes and removes networks, where etcd refuses it to this process. */
  writer?: NetworkWriter;
  /** The current time, for records only; waits use a monotonic clock. */
  clock?: { now(): Date };
}

/** What only a controller uses of etcd. */
export interface ControllerStore extends Store {
  /** From now on this etcd is reached at these URLs. */
  moveTo(endpoints: readonly string[]): void;
  readonly credentials: Credentials;
  readonly users: EtcdUsers;
  /** What this node may have written, written for it; undefined: somebody who may write anything. */
  writerFor(node: string | undefined): NetworkWriter;
  /** @param listener called before the config of a network is written by this process. @throws WeftError */
  beforeConfig(listener: (network: string) => Promise<void>): void;
  /** Tombstones of networks carry a code by this key from now on, by which their removal can be repeated for a node. */
  sealRemovals(key: Buffer): void;
}

/** Maximum number of concurrent queries about etcd leases. */
const PARALLEL = 16;

/**
 * Starts to follow etcd at once, through every outage, until it is closed.
 * @throws WeftError INVALID_ARGUMENT for an endpoint that is not valid
 */
export function openStore({
  endpoints,
  prefix,
  log,
  clock,
  readOnly = false,
  networks,
  leftOut,
  onLeftOut,
  writer,
  ...access
}: StoreOptions): ControllerStore {
  const now = (): Date => clock?.now() ?? new Date();
  const keys = new Keys(prefix);
  const client = new EtcdClient(endpoints, access, keys.allocated(), log, (error) =>
    replica.connected(false, error),
  );
  const replica = new Replica(client, keys, { networks, leftOut, onLeftOut }, log, now);
  const context: Context = { client, replica, keys, log, now, writer };
  const presences = new Set<Presence>();
  const closed = new AbortController();
  if (!readOnly) {
    replica.onLostRemovals((lost) => void removeAgain(context, lost, closed.signal));
    replica.onSuperseded((tombstones) => void forget(context, tombstones));
  }
  const checkName = (): void => {
    for (const presence of presences) presence.checkName();
  };
  return {
    view: replica.view,
    get state() {
      return replica.state;
    },
    get isSynced() {
      return replica.isSynced;
    },
    synced: async (signal) =>
      await replica.until(() => replica.isSynced, signal ?? new AbortController().signal),
    subscribe: (listener) => replica.subscribe(listener),
    follows: (network) => replica.follows(network),
    follow: (network) => replica.followed.follow(network),
    narrow: () => replica.followed.narrow(),
    onState: (listener) => replica.onState(listener),
    reconnect: () => client.reconnect(),
    predatesConfig: (lease) => replica.predatesConfig(lease),
    moveTo: (urls) => client.moveTo(urls),
    credentials: credentialsIn(context),
    users: etcdUsersOf(context),
    writerFor: (node) => networkWriterOf(context, node),
    beforeConfig: (listener) => void (context.beforeConfig = listener),
    sealRemovals: (key) =>
      void (context.seal = (text) => createHmac('sha256', key).update(text).digest('base64url')),

    seeNetwork: async (name) => await seeNetwork(context, name),
    createNetwork: async (spec) => await createNetwork(context, spec),
    checkNetwork: (spec) => checkNetwork(context, spec),
    removeNetwork: async (name, options) =>
      await orAsk(
        () => removeNetwork(context, name, options),
        // Nothing else of a removal is a node's to ask for.
        options.unleased === true && !options.force && writer !== undefined
          ? () => writer.removeUnused(name)
          : undefined,
      ),
    updateNetwork: async (name, change) => await updateNetwork(context, name, change),
    restoreNetwork: async (network, own, had) => await restoreNetwork(context, network, own, had),

    acquireLease: async (request, signal) => {
      checkName();
      return await acquireLease(context, request, signal);
    },
    proposeSubnet: async (whole, subnet, holder) => await proposeSubnet(context, whole, subnet, holder),
    renewLease: async (lease, ttlSeconds) => await renewLease(context, lease, ttlSeconds),
    releaseLease: async (lease) => await releaseLease(context, lease),
    leaseTimes: async (leases) => await leaseTimes(client, leases),

    putEndpoint: async (endpoint, options) => {
      checkName();
      await putEndpoint(context, endpoint, options);
    },
    deleteEndpoint: async (network, id) => await deleteEndpoint(context, network, id),

    claimAddress: async (claim, signal) => {
      checkName();
      return await claimAddress(context, claim, signal);
    },
    answerClaim: async (claim, answer) => await answerClaim(context, claim, answer),
    restoreClaim: async (claim, from) => {
      checkName();
      return await restoreClaim(context, claim, from);
    },
    deleteClaim: async (network, ip, endpoint) => await deleteClaim(context, network, ip, endpoint),

    addName: async (name) => await addName(context, name),
    removeName: async (name) => await removeName(context, name),

    createPolicy: async (policy) => await createPolicy(context, policy),
    removePolicy: async (name) => await removePolicy(context, name),

    announce: (node, options) => {
      const presence = new Presence(context, node, options);
      presences.add(presence);
      return presence;
    },
    checkName,
    removeNode: async (name, options) => await removeNode(context, name, options),
    campaign: async (name, id, lead, signal) => await campaign(context, name, id, lead, signal),

    close: async () => {
      closed.abort(new Error('the store was closed'));
      await Promise.all([...presences].map(async (presence) => await presence.stop()));
      await replica.close();
      await client.close();
    },
  };
}

async function leaseTimes(
  client: EtcdClient,
  leases: readonly StoredLease[],
): Promise<Map<StoredLease, number>> {
  const times = new Map<StoredLease, number>();
  const queue = leases.filter((lease) => lease.etcdLease !== '0').values();
  const worker = async (): Promise<void> => {
    for (const lease of queue) {
      const seconds = await client.timeToLive(lease.etcdLease);
      if (seconds !== undefined) times.set(lease, seconds);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  return times;
}
