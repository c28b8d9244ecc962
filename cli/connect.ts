// Calls to the controller and to this host's agent.
//
// An error names the daemon that does not answer, and the next step.
import { credentials, type ChannelCredentials, type Client } from '@grpc/grpc-js';

import { unavailable, WeftError } from '../core/errors.js';
import { call, channel, clientOptions } from '../daemon/grpc.js';
import { hostPort } from '../daemon/kinds.js';
import { readTls, type Tls } from '../daemon/tls.js';
import { SEE_THAT_IT_RUNS } from '../daemon/transport-errors.js';
import type { GlobalOptions } from './global-options.js';

/** Deadline of calls that read, in milliseconds. */
export const READ_MS = 5_000;
/** Deadline of calls that change something, in milliseconds. */
export const WRITE_MS = 30_000;

type Method<Q, A> = Parameters<typeof call<Q, A>>[0];
type Service<C extends Client> = new (
  address: string,
  credentials: ChannelCredentials,
  options?: object,
) => C;

export interface Connector {
  controller<C extends Client, Q, A>(
    service: Service<C>,
    method: (client: C) => Method<Q, A>,
    request: Q,
    deadlineMs: number,
  ): Promise<A>;
  agent<C extends Client, Q, A>(
    service: Service<C>,
    method: (client: C) => Method<Q, A>,
    request: Q,
    deadlineMs: number,
  ): Promise<A>;
  /** Checks the controller's options, where it is asked only after the agent has failed. @throws WeftError INVALID_ARGUMENT */
  checkController(): void;
  readonly controllerAddress: string;
  readonly agentPath: string;
}

/** @param onAsk called when the options are valid and a call is about to be sent */
export function connectorFor(options: GlobalOptions, onAsk: () => void): Connector {
  const ask = async <C extends Client, Q, A>(
    client: C,
    method: (client: C) => Method<Q, A>,
    request: Q,
    peer: string,
    deadlineMs: number,
    at?: { address: string; tls: Tls | undefined },
  ): Promise<A> => {
    try {
      onAsk();
      return await call(method(client).bind(client), request, { peer, deadlineMs, at });
    } finally {
      client.close();
    }
  };
  const controller = (): { address: string; tls: Tls | undefined } => ({
    tls: readTls({ tlsCa: options.tlsCa, tlsCert: options.tlsCert, tlsKey: options.tlsKey }),
    address: hostPort({ listen: false }).parse(options.controller, '--controller').text,
  });
  return {
    checkController: () => void controller(),
    controllerAddress: options.controller,
    agentPath: options.agent,
    controller: async (service, method, request, deadlineMs) => {
      const { address, tls } = controller();
      const client = new service(`dns:${address}`, ...channel(address, tls));
      const peer = `the controller at ${options.controller}`;
      return ask(client, method, request, peer, deadlineMs, { address, tls }).catch((error: unknown) => {
        throw away(
          error,
          'Is `weft controller` running there? Name it with --controller or WEFT_CONTROLLER.',
        );
      });
    },
    agent: async (service, method, request, deadlineMs) => {
      const client = new service(`unix:${options.agent}`, credentials.createInsecure(), clientOptions);
      const peer = `the agent at ${options.agent}`;
      return ask(client, method, request, peer, deadlineMs).catch((error: unknown) => {
        throw away(
          error,
          'Is `weft agent` running on this host? Name its socket with --agent or WEFT_AGENT.',
        );
      });
    },
  };
}

/** Adds the next step to errors of the transport. Errors that a daemon answered have one. */
function away(error: unknown, next: string): unknown {
  if (!(error instanceof WeftError) || error.code !== 'UNAVAILABLE' || error.cause === undefined)
    return error;
  return error.next === SEE_THAT_IT_RUNS ? unavailable(error.message, next, { cause: error.cause }) : error;
}
