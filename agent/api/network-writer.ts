// What makes and removes networks, where etcd refuses it to this node: the controllers are asked in turn.
import { failedPrecondition, WeftError } from '../../core/errors.js';
import { call, channel } from '../../daemon/grpc.js';
import type { Tls } from '../../daemon/tls.js';
import { RecordServiceClient } from '../../proto/gen/weft/v1/record.js';
import type { NetworkWriter } from '../../store/network-writer.js';

/** A removal waits until other nodes that leave have reported it. */
const DEADLINE_MS = 10_000;

/** Of an answer that the next controller can give otherwise. */
const ELSEWHERE = ['UNAVAILABLE', 'DEADLINE_EXCEEDED'];

type Method<Request, Response> = Parameters<typeof call<Request, Response>>[0];

/** @param controllers HOST:PORT, in order of preference @param tls of the next connection */
export function networkWriter(controllers: readonly string[], tls: () => Tls | undefined): NetworkWriter {
  const ask = async <Request, Response>(
    method: (client: RecordServiceClient) => Method<Request, Response>,
    request: Request,
  ): Promise<Response> => {
    let failure = failedPrecondition(
      'etcd lets controllers alone make and remove networks, and this agent has none',
      'Give it one: --controller HOST:PORT.',
    );
    for (const address of controllers) {
      const at = { address, tls: tls() };
      const client = new RecordServiceClient(`dns:${address}`, ...channel(address, at.tls));
      try {
        const options = { peer: `the controller at ${address}`, deadlineMs: DEADLINE_MS, at };
        return await call(method(client), request, options);
      } catch (error) {
        if (!(error instanceof WeftError) || !ELSEWHERE.includes(error.code)) throw error;
        failure = error;
      } finally {
        client.close();
      }
    }
    throw failure;
  };
  return {
    create: async (name, config) =>
      void (await ask((client) => client.createNetwork.bind(client), { name, config })),
    restore: async ({ name, config, lease, superseded }) => {
      const request = { name, config, lease, superseded };
      return (await ask((client) => client.restoreNetwork.bind(client), request)).written;
    },
    removeUnused: async (name) => void (await ask((client) => client.removeNetwork.bind(client), { name })),
    removeAgain: async (name, tombstone) =>
      (await ask((client) => client.repeatRemoval.bind(client), { name, tombstone })).settled,
  };
}
