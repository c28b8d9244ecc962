// Methods of gRPC that answer with a stream, from a function that sends one answer after the other.
import { once } from 'node:events';

import type { handleServerStreamingCall } from '@grpc/grpc-js';

import { WeftError } from '../core/errors.js';
import { toServiceError } from './grpc.js';

/** Sends one answer. Settles when the caller can take the next one; rejects where the caller is gone. */
export type Send<Answer> = (answer: Answer) => Promise<void>;

/** The stream ends when the function settles. @param handler its signal is aborted when the caller is gone */
export const streaming =
  <Request, Answer>(
    handler: (request: Request, send: Send<Answer>, signal: AbortSignal) => Promise<void>,
  ): handleServerStreamingCall<Request, Answer> =>
  (call) => {
    const gone = new AbortController();
    const { signal } = gone;
    const giveUp = (): void => gone.abort(new WeftError('ABORTED', 'the caller has given up'));
    call.once('cancelled', giveUp).once('close', giveUp).once('error', giveUp);
    // Several answers may wait for one drain.
    let drained: Promise<unknown> | undefined;
    const send = async (answer: Answer): Promise<void> => {
      signal.throwIfAborted();
      if (call.write(answer)) return;
      drained ??= once(call, 'drain', { signal }).finally(() => (drained = undefined));
      await drained;
    };
    const run = async (): Promise<void> => {
      try {
        await handler(call.request, send, signal);
        call.end();
      } catch (error) {
        // grpc-js sends an emitted error as the status of the stream.
        if (!signal.aborted) call.emit('error', toServiceError(error));
      }
    };
    void run();
  };
