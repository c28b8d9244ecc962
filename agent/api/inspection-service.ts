// InspectionService on the agent's socket: this node's own answers.
import type { Server } from '@grpc/grpc-js';

import { checkQuery } from '../../daemon/node-query.js';
import { streaming } from '../../daemon/streaming.js';
import {
  InspectionServiceService,
  type NodeAnswer,
  type NodeQuery,
} from '../../proto/gen/weft/v1/inspection.js';
import type { Answering } from './answer-streams.js';

export function mountInspection(server: Server, answering: Answering): void {
  const method = (name: 'inspect' | 'operate') =>
    streaming<NodeQuery, NodeAnswer>(async (query, send, signal) => {
      checkQuery(query, name);
      await answering(query, send, signal);
    });
  server.addService(InspectionServiceService, { inspect: method('inspect'), operate: method('operate') });
}
