// What lists say while etcd is away: as of when they are.
import { Metadata, ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';

import { AS_OF_KEY } from '../daemon/grpc.js';

/** Reads of what etcd has. The status says it in its own words. */
const READS = /\.(?:Network|Node|Endpoint)Service\/(?:Get|List)/;

/** @param asOf RFC 3339; undefined: now */
export const asOfInterceptor =
  (asOf: () => string | undefined): ServerInterceptor =>
  ({ path }, call) =>
    new ServerInterceptingCall(call, {
      sendStatus: (result, next) => {
        const at = READS.test(path) ? asOf() : undefined;
        if (at === undefined) return next(result);
        const metadata = result.metadata ?? new Metadata();
        metadata.set(AS_OF_KEY, at);
        next({ ...result, metadata });
      },
    });
