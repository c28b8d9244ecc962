// What the page shows, asked of a controller by gRPC over one connection.
import { Channel, type ClientOptions, type ClientReadableStream } from '@grpc/grpc-js';

import { call, channel, explainFailure } from '../grpc.js';
import type { ClientTls } from '../tls.js';
import { StatusServiceClient } from '../../proto/gen/weft/v1/agent.js';
import {
  EndpointServiceClient,
  NetworkServiceClient,
  NodeServiceClient,
  PolicyServiceClient,
} from '../../proto/gen/weft/v1/controller.js';
import { EventServiceClient } from '../../proto/gen/weft/v1/events.js';
import { InspectionServiceClient } from '../../proto/gen/weft/v1/inspection.js';
import { IpamServiceClient } from '../../proto/gen/weft/v1/ipam.js';
import { TraceServiceClient } from '../../proto/gen/weft/v1/trace.js';

export interface Controller {
  address: string;
  tls: ClientTls | undefined;
}

const CLIENTS = {
  EndpointService: EndpointServiceClient,
  EventService: EventServiceClient,
  InspectionService: InspectionServiceClient,
  IpamService: IpamServiceClient,
  NetworkService: NetworkServiceClient,
  NodeService: NodeServiceClient,
  PolicyService: PolicyServiceClient,
  StatusService: StatusServiceClient,
  TraceService: TraceServiceClient,
};
export type ServiceName = keyof typeof CLIENTS;
export type ServiceClient<S extends ServiceName> = InstanceType<(typeof CLIENTS)[S]>;
type Method<Q, A> = Parameters<typeof call<Q, A>>[0];

/** Deadline of what only reads, in milliseconds. */
export const READ_MS = 5000;

export class Source {
  #open: { tls: ClientTls | undefined; channel: Channel; options: ClientOptions } | undefined;

  /** @param controller asked for each call: certificates are renewed */
  constructor(private readonly controller: () => Controller) {}

  get peer(): string {
    return `the controller at ${this.controller().address}`;
  }

  /** @throws WeftError */
  async ask<S extends ServiceName, Q, A>(
    service: S,
    method: (client: ServiceClient<S>) => Method<Q, A>,
    request: Q,
    { deadlineMs = READ_MS }: { deadlineMs?: number } = {},
  ): Promise<A> {
    const client = this.#client(service);
    const at = this.controller();
    return await call(method(client).bind(client), request, { peer: this.peer, deadlineMs, at });
  }

  /**
   * Reads a stream until its end, or the signal's abort. The stream waits while `onMessage` has not settled.
   * @throws WeftError
   */
  async read<S extends ServiceName, M>(
    service: S,
    start: (client: ServiceClient<S>) => ClientReadableStream<M>,
    onMessage: (message: M) => Promise<void> | void,
    signal: AbortSignal,
  ): Promise<void> {
    if (signal.aborted) return;
    const stream = start(this.#client(service));
    // Cancelled while nobody reads it any more.
    stream.on('error', () => undefined);
    const end = (): void => stream.cancel();
    signal.addEventListener('abort', end, { once: true });
    try {
      for await (const message of stream as AsyncIterable<M>) await onMessage(message);
    } catch (error) {
      if (signal.aborted) return;
      throw await explainFailure(error, { peer: this.peer, at: this.controller() });
    } finally {
      signal.removeEventListener('abort', end);
      stream.cancel();
    }
  }

  close(): void {
    this.#open?.channel.close();
    this.#open = undefined;
  }

  #client<S extends ServiceName>(service: S): ServiceClient<S> {
    const { address, tls } = this.controller();
    if (this.#open !== undefined && !isSame(this.#open.tls, tls)) this.close();
    if (this.#open === undefined) {
      const [credentials, options] = channel(address, tls);
      this.#open = { tls, options, channel: new Channel(`dns:${address}`, credentials, options) };
    }
    const { channel: shared, options } = this.#open;
    const [credentials] = channel(address, tls);
    return new CLIENTS[service](`dns:${address}`, credentials, {
      ...options,
      channelOverride: shared,
    }) as ServiceClient<S>;
  }
}

/** A renewed certificate takes a new connection. */
const isSame = (a: ClientTls | undefined, b: ClientTls | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && pem(a) === pem(b));
const pem = ({ ca, cert }: ClientTls): string => `${ca.toString()}${cert?.toString() ?? ''}`;
