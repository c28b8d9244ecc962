// NodeService: list, inspect, remove and watch nodes. Agents register themselves.
import { WeftError } from '../core/errors.js';
import { unary } from '../daemon/grpc.js';
import { Node } from '../proto/gen/weft/v1/types.js';
import type { NodeEvent, NodeServiceServer } from '../proto/gen/weft/v1/controller.js';
import type { Store } from '../store/store.js';
import type { Registry } from './registry.js';
import type { Sessions } from './sessions.js';
import { waitForSync } from './wait-for-sync.js';
import { DELETE, PUT, serveWatch, SYNCED } from './watch.js';

/** An attach changes its node's count; many at once become one event. */
const GATHER_MS = 100;

export function nodeService(options: {
  store: Store;
  registry: Registry;
  sessions: Sessions;
  /**
   * Refuses the node's certificates. Absent: there are none. Returns whether there were any, and what is left for a person
   * to do.
   */
  expel?: (name: string) => Promise<{ had: boolean; note?: string }>;
}): NodeServiceServer {
  const { store, registry, sessions, expel = () => Promise.resolve({ had: false }) } = options;
  return {
    getNode: unary(async ({ name }) => {
      await waitForSync(store);
      return registry.get(name);
    }),

    listNodes: unary(async () => {
      await waitForSync(store);
      return { nodes: registry.names().flatMap((name) => registry.find(name) ?? []) };
    }),

    deleteNode: unary(async ({ name, force }) => {
      await waitForSync(store);
      const isThere = await store.removeNode(name, { force }).then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') throw error;
          return false;
        },
      );
      const { had, note }: { had: boolean; note?: string } = await expel(name);
      // A node that got a certificate and never started has nothing else.
      if (!isThere && !had) throw registry.unknown(name);
      if (had) sessions.expel(name);
      sessions.forget(name);
      return { note: note ?? undefined };
    }),

    watchNodes: (call) => {
      serveWatch<NodeEvent>(call, {
        keys: () => registry.names(),
        put: (name) => {
          const node = registry.find(name);
          return node === undefined ? undefined : { type: PUT, node };
        },
        gone: (name) => ({ type: DELETE, node: Node.fromPartial({ name }) }),
        synced: () => ({ type: SYNCED, node: undefined }),
        subscribe: (listener) => registry.subscribe(listener),
        gatherMs: GATHER_MS,
        ready: () => waitForSync(store),
      });
    },
  };
}
