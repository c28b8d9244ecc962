// InspectionService of a controller: passes questions on to the node that is named.
import { invalidArgument } from '../core/errors.js';
import { checkQuery } from '../daemon/node-query.js';
import { streaming } from '../daemon/streaming.js';
import type { InspectionServiceServer, NodeAnswer, NodeQuery } from '../proto/gen/weft/v1/inspection.js';
import type { Store } from '../store/store.js';
import type { Registry } from './registry.js';
import type { Sessions } from './sessions.js';
import { waitForSync } from './wait-for-sync.js';

export function inspectionService(options: {
  store: Store;
  registry: Registry;
  sessions: Pick<Sessions, 'has' | 'query'>;
}): InspectionServiceServer {
  const { store, registry, sessions } = options;
  const method = (name: 'inspect' | 'operate') =>
    streaming<NodeQuery, NodeAnswer>(async (query, send, signal) => {
      checkQuery(query, name);
      const { node } = query;
      if (node === '') throw invalidArgument('node: not given', 'Give the name of the node that is asked.');
      await waitForSync(store);
      if (!store.view.nodes.has(node) && !sessions.has(node)) throw registry.unknown(node);
      await sessions.query(node, query, send, signal);
    });
  return { inspect: method('inspect'), operate: method('operate') };
}
