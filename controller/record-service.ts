// RecordService: what makes and removes networks, written for nodes (store/network-writer.ts).
import { setTimeout as delay } from 'node:timers/promises';

import type { ServerUnaryCall } from '@grpc/grpc-js';

import { failedPrecondition, invalidArgument } from '../core/errors.js';
import { parseNetworkName } from '../core/network.js';
import { callerOf } from '../daemon/caller.js';
import { unary } from '../daemon/grpc.js';
import type { RecordServiceServer } from '../proto/gen/weft/v1/record.js';
import type { ControllerStore } from '../store/etcd-store.js';
import type { NetworkWriter } from '../store/network-writer.js';
import { reportsOfLiving } from './capability-check.js';
import type { Sources } from './messages.js';
import { waitForSync } from './wait-for-sync.js';

export interface RecordSources extends Sources {
  store: ControllerStore;
}

/** Other nodes that leave at the same time report it soon after: how long that is waited for, in milliseconds. */
const REPORTED_WITHIN_MS = 3000;
const LOOK_MS = 50;
/** Of a lease, in seconds: an agent's default is a day. */
const MOST_TTL = 365 * 24 * 3600;

export function recordService(sources: RecordSources): RecordServiceServer {
  const { store } = sources;
  const nodeOf = (call: ServerUnaryCall<unknown, unknown>): string | undefined => {
    const { identity } = callerOf(call.getAuthContext());
    return identity.role === 'node' ? identity.node : undefined;
  };
  const method =
    <Request extends { name: string }, Response>(
      work: (request: Request, writer: NetworkWriter, node: string | undefined) => Promise<Response>,
    ) =>
    (
      call: ServerUnaryCall<Request, Response>,
      callback: Parameters<ReturnType<typeof unary<Request, Response>>>[1],
    ): void =>
      unary<Request, Response>(async (request) => {
        parseNetworkName(request.name);
        await waitForSync(store);
        const node = nodeOf(call);
        return await work(request, store.writerFor(node), node);
      })(call, callback);

  return {
    createNetwork: method(async ({ name, config }, writer) => {
      await writer.create(name, config);
      return {};
    }),
    restoreNetwork: method(async ({ name, config, lease, superseded }, writer) => {
      if (lease !== undefined && (lease.ttlSeconds < 1 || lease.ttlSeconds > MOST_TTL))
        throw invalidArgument(`lease.ttl_seconds: ${lease.ttlSeconds} is not allowed`, 'Give 1 to 31536000.');
      const lost = {
        ...{ name, config },
        ...(lease !== undefined && { lease }),
        ...(superseded !== undefined && { superseded }),
      };
      return { written: await writer.restore(lost) };
    }),
    removeNetwork: method(async ({ name }, writer, node) => {
      await untilLeft(sources, name, node);
      await writer.removeUnused(name);
      return {};
    }),
    repeatRemoval: method(async ({ name, tombstone }, writer) => ({
      settled: await writer.removeAgain(name, tombstone),
    })),
  };
}

/**
 * By what the nodes report, not by their leases: any node can delete those of others.
 * @throws WeftError FAILED_PRECONDITION while another living node is on the network
 */
async function untilLeft(sources: Sources, network: string, node: string | undefined): Promise<void> {
  const giveUp = performance.now() + REPORTED_WITHIN_MS;
  for (;;) {
    const other = reportsOfLiving(sources).find(
      ({ name, status }) => name !== node && status.networks.some((one) => one.name === network),
    );
    if (other === undefined) return;
    if (performance.now() > giveUp)
      throw failedPrecondition(`network ${network}: node ${other.name} is on it`);
    await delay(LOOK_MS, undefined, { ref: false });
  }
}
