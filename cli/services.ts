// Calls of services by gRPC, which is loaded with this file: only once a command asks somebody.
import { credentials, status, type Client, type ClientReadableStream, type Metadata } from '@grpc/grpc-js';

import { deadlineExceeded, unavailable, WeftError } from '../core/errors.js';
import { visible } from '../core/text.js';
import { AS_OF_KEY, call, channel, clientOptions, explainFailure } from '../daemon/grpc.js';
import type { ClientTls } from '../daemon/tls.js';
import { SEE_THAT_IT_RUNS } from '../daemon/transport-errors.js';
import { AgentServiceClient, NameServiceClient, StatusServiceClient } from '../proto/gen/weft/v1/agent.js';
import {
  EndpointServiceClient,
  NetworkServiceClient,
  NodeServiceClient,
  PolicyServiceClient,
} from '../proto/gen/weft/v1/controller.js';
import { EventServiceClient } from '../proto/gen/weft/v1/events.js';
import { IdentityServiceClient } from '../proto/gen/weft/v1/identity.js';
import { InspectionServiceClient } from '../proto/gen/weft/v1/inspection.js';
import { IpamServiceClient } from '../proto/gen/weft/v1/ipam.js';
import { KeyServiceClient } from '../proto/gen/weft/v1/keys.js';
import { TraceServiceClient } from '../proto/gen/weft/v1/trace.js';
import { HostServiceClient, RuntimeServiceClient } from '../proto/gen/weft/v1/runtime.js';
import { hangs } from './hangs.js';
import { printWarning } from './output.js';

const CLIENTS = {
  AgentService: AgentServiceClient,
  EndpointService: EndpointServiceClient,
  EventService: EventServiceClient,
  HostService: HostServiceClient,
  IdentityService: IdentityServiceClient,
  InspectionService: InspectionServiceClient,
  IpamService: IpamServiceClient,
  KeyService: KeyServiceClient,
  NameService: NameServiceClient,
  NetworkService: NetworkServiceClient,
  NodeService: NodeServiceClient,
  PolicyService: PolicyServiceClient,
  RuntimeService: RuntimeServiceClient,
  StatusService: StatusServiceClient,
  TraceService: TraceServiceClient,
};

export type ServiceName = keyof typeof CLIENTS;
export type ServiceClient<S extends ServiceName> = InstanceType<(typeof CLIENTS)[S]>;
export type Method<Q, A> = Parameters<typeof call<Q, A>>[0];

/** Where a service is served: a socket, or an address with its TLS. */
export type At = { socket: string } | { address: string; tls: ClientTls | undefined };

export interface Ask<S extends ServiceName, Q, A> {
  service: S;
  method: (client: ServiceClient<S>) => Method<Q, A>;
  request: Q;
  /** Whom, for errors. */
  peer: string;
  at: At;
  deadlineMs: number;
  /** What to do where nobody answers. */
  next: string;
}

const clientOf = (service: ServiceName, at: At): Client =>
  'socket' in at
    ? new CLIENTS[service](`unix:${at.socket}`, credentials.createInsecure(), clientOptions)
    : new CLIENTS[service](`dns:${at.address}`, ...channel(at.address, at.tls));

export interface Watch<S extends ServiceName, Q, E> extends Omit<Ask<S, Q, E>, 'method'> {
  method: (client: ServiceClient<S>) => (request: Q) => ClientReadableStream<E>;
  onEvent: (event: E) => void;
  /** It has begun to answer, perhaps without an event yet. */
  onBegun?: () => void;
  /** Ends it without an error. */
  signal?: AbortSignal | undefined;
}

/**
 * Reads a stream until the peer ends it. The deadline is that of its beginning.
 * @throws WeftError as the peer answered, or as the transport failed
 */
export async function watch<S extends ServiceName, Q, E>(of: Watch<S, Q, E>): Promise<void> {
  const { service, method, request, peer, at, deadlineMs, next, onEvent, onBegun, signal } = of;
  const client = clientOf(service, at);
  const remote = 'socket' in at ? undefined : at;
  try {
    await new Promise<void>((resolve, reject) => {
      const stream = method(client as ServiceClient<S>).call(client, request);
      const late = setTimeout(() => {
        reject(
          remote === undefined
            ? hangs(peer)
            : deadlineExceeded(`${peer} did not answer within ${deadlineMs / 1000} s`, next),
        );
        stream.cancel();
      }, deadlineMs);
      const end = (): void => {
        clearTimeout(late);
        resolve();
        stream.cancel();
      };
      if (signal?.aborted === true) end();
      signal?.addEventListener('abort', end, { once: true });
      stream.on('metadata', () => {
        clearTimeout(late);
        onBegun?.();
      });
      stream.on('data', onEvent);
      // An error comes after the end.
      stream.on('status', ({ code }) => {
        if (code !== status.OK) return;
        if (stream.readableEnded) resolve();
        else stream.on('end', resolve);
      });
      stream.on('error', (error) => {
        clearTimeout(late);
        void Promise.resolve(explainFailure(error, { peer, at: remote })).then(reject);
      });
    });
  } catch (error) {
    throw away(error, of);
  } finally {
    client.close();
  }
}

/** @throws WeftError as the peer answered, or as the transport failed */
export async function ask<S extends ServiceName, Q, A>(of: Ask<S, Q, A>): Promise<A> {
  const { service, method, request, peer, at, deadlineMs } = of;
  const remote = 'socket' in at ? undefined : at;
  const client = clientOf(service, at);
  try {
    const called = method(client as ServiceClient<S>).bind(client);
    return await call(called, request, { peer, deadlineMs, at: remote, onTrailer: warnOfAge });
  } catch (error) {
    throw away(error, of);
  } finally {
    client.close();
  }
}

function warnOfAge(trailer: Metadata): void {
  const [asOf] = trailer.get(AS_OF_KEY);
  if (asOf !== undefined)
    printWarning(`the controller does not reach etcd: this is as of ${visible(String(asOf))}`);
}

/** Adds the next step to errors of the transport. Errors that a daemon answered have one. */
function away(
  error: unknown,
  { peer, at, next }: Pick<Ask<ServiceName, unknown, unknown>, 'peer' | 'at' | 'next'>,
): unknown {
  if (!(error instanceof WeftError) || error.cause === undefined) return error;
  if (error.code === 'DEADLINE_EXCEEDED' && 'socket' in at) return hangs(peer);
  if (error.code !== 'UNAVAILABLE') return error;
  return error.next === SEE_THAT_IT_RUNS ? unavailable(error.message, next, { cause: error.cause }) : error;
}
