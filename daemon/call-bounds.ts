// Bounds of the calls of a gRPC server that strangers reach: what one caller, and all of them, may have open at once.
//
// A message counts from its call's beginning until it is there: so long a caller keeps memory here, up to the largest message.
import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';

import { deadlineExceeded, resourceExhausted, type WeftError } from '../core/errors.js';
import { callerOf } from './caller.js';
import { Counts } from './counts.js';
import { isLoopback } from './grpc-front.js';
import { toServiceError } from './grpc.js';

export interface Bounds {
  /** Calls of one caller: a certificate, or without one an address. Without one by TLS, `strangers`. */
  readonly calls: number;
  readonly strangers: number;
  /** Calls of one caller, and of all, whose message has not arrived yet. */
  readonly arriving: number;
  readonly allArriving: number;
  /** Milliseconds within which a message must arrive. */
  readonly arrivesMs: number;
}

export const BOUNDS: Bounds = {
  calls: 256,
  strangers: 16,
  arriving: 16,
  allArriving: 64,
  arrivesMs: 10_000,
};

/** @param isPlain whether a connection, by the address and port of its other end, is plain text that is served */
export function boundsInterceptor(isPlain: (peer: string) => boolean, bounds = BOUNDS): ServerInterceptor {
  const open = new Counts();
  const arriving = new Counts();

  /** Why one call more is too much. */
  const refusal = (caller: string, most: number): WeftError | undefined => {
    const isFull = arriving.of(caller) >= bounds.arriving || arriving.all >= bounds.allArriving;
    if (open.of(caller) < most && !isFull) return undefined;
    return resourceExhausted(`there are too many calls at once (of ${caller})`, 'Try again in a moment.');
  };

  const callerAt = (peer: string, serial: string | undefined): { caller: string; most: number } => {
    if (serial !== undefined) return { caller: `certificate ${serial}`, most: bounds.calls };
    const address = peer.replace(/:\d+$/, '');
    if (!isPlain(peer)) return { caller: address, most: bounds.strangers };
    // On loopback everybody is one address.
    return { caller: address, most: isLoopback(address) ? Infinity : bounds.calls };
  };

  return ({ path, requestStream }, call) => {
    let counted: string | undefined;
    let timer: NodeJS.Timeout | undefined;
    const arrived = (): void => {
      if (timer === undefined || counted === undefined) return;
      clearTimeout(timer);
      timer = undefined;
      arriving.add(counted, -1);
    };
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            const { caller, most } = callerAt(call.getPeer(), callerOf(call.getAuthContext()).serial);
            const why = refusal(caller, most);
            if (why !== undefined) return call.sendStatus(toServiceError(why));
            counted = caller;
            open.add(caller, 1);
            if (!requestStream) {
              arriving.add(caller, 1);
              timer = setTimeout(() => {
                const method = path.replace(/^\/weft\.v1\./, '');
                const late = deadlineExceeded(`${method}: no request within ${bounds.arrivesMs / 1000} s`);
                call.sendStatus(toServiceError(late));
              }, bounds.arrivesMs);
            }
            pass(metadata);
          },
          onReceiveMessage: (message, pass) => {
            arrived();
            pass(message);
          },
          // Of every call, however it ends.
          onCancel: () => {
            arrived();
            if (counted !== undefined) open.add(counted, -1);
            counted = undefined;
          },
        }),
    });
  };
}
