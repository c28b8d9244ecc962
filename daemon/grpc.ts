// gRPC: errors as statuses, unary handlers and calls, TLS, keepalive, listening.
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';

import {
  ChannelCredentials,
  Metadata,
  logVerbosity,
  setLogVerbosity,
  status,
  type CallOptions,
  type ClientOptions,
  type ClientUnaryCall,
  type handleUnaryCall,
  type Server,
  type ServerOptions,
  type ServiceError,
  type StatusObject,
} from '@grpc/grpc-js';

import { messageOf, parseErrorCode, WeftError, type ErrorCode } from '../core/errors.js';
import { CONTROLLER_NAME, servesAs } from '../core/identity.js';
import { GrpcFront, type FrontOptions } from './grpc-front.js';
import type { HostPort } from './kinds.js';
import type { ClientTls, Tls } from './tls.js';
import {
  explainClosed,
  explainTransport,
  isClosed,
  isServiceError,
  type CalledAddress,
} from './transport-errors.js';

// grpc-js would print the same errors on standard error again.
if (process.env['GRPC_VERBOSITY'] === undefined) setLogVerbosity(logVerbosity.NONE);

/** Carries a WeftError's `next`, percent-encoded. Present, if empty, on every error of weft's own. */
const NEXT_KEY = 'weft-next';

/** In the trailer of an answer that may be out of date: as of when it is, RFC 3339. */
export const AS_OF_KEY = 'weft-as-of';

/** A header block is limited to 8 KiB (grpc-js), and two texts are in it, percent-encoded: up to nine characters for one. */
const MAX_ENCODED = 3000;

/** As much of a text as a header holds, cut between two characters: half of one cannot be encoded. */
function headerText(text: string): string {
  let encoded = 0;
  let taken = '';
  for (const character of text.replaceAll(/\p{Surrogate}/gu, '\ufffd')) {
    encoded += encodeURIComponent(character).length;
    if (encoded > MAX_ENCODED) return `${taken}…`;
    taken += character;
  }
  return taken;
}

/** The status that a peer gets. An error other than WeftError is a fault: its message is sent, its stack is not. */
export function toServiceError(error: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const known =
    error instanceof WeftError
      ? error
      : new WeftError(
          'INTERNAL',
          `a fault in weft: ${messageOf(error)}`,
          'The log of the daemon that answered has more.',
        );
  const metadata = new Metadata();
  metadata.set(NEXT_KEY, encodeURIComponent(headerText(known.next ?? '')));
  return { code: status[known.code], details: headerText(known.message), metadata };
}

/** The error of a failed call. @param peer for people, such as `the controller at 192.0.2.1:7400` */
export function fromServiceError(error: unknown, { peer }: { peer: string }): WeftError {
  if (error instanceof WeftError) return error;
  if (!isServiceError(error))
    return new WeftError('INTERNAL', `${peer}: ${messageOf(error)}`, undefined, { cause: error });
  const [next] = error.metadata?.get(NEXT_KEY) ?? [];
  if (next !== undefined) {
    const text = decoded(String(next));
    return new WeftError(codeOf(error.code), error.details, text === '' ? undefined : text);
  }
  return (
    explainTransport(error, peer) ??
    new WeftError(codeOf(error.code), `${peer}: ${error.details}`, undefined, { cause: error })
  );
}

/** As `fromServiceError`, having looked why a connection was closed. @param at the address that was called */
export function explainFailure(
  error: unknown,
  { peer, at }: { peer: string; at?: CalledAddress | undefined },
): WeftError | Promise<WeftError> {
  const known = fromServiceError(error, { peer });
  return at !== undefined && isClosed(known) ? explainClosed(known, peer, at) : known;
}

// A peer is not trusted.
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** gRPC's name of a code that weft uses. */
export function codeOf(code: status): ErrorCode {
  switch (code) {
    case status.OUT_OF_RANGE:
      return 'INVALID_ARGUMENT';
    case status.CANCELLED:
      return 'ABORTED';
    default:
      return parseErrorCode(status[code] ?? '');
  }
}

export interface CallContext {
  /** Aborted when the caller gives up or its deadline passes. */
  readonly signal: AbortSignal;
  readonly metadata: Metadata;
}

/** A unary method from a function that returns or throws. */
export function unary<Request, Response>(
  handler: (request: Request, context: CallContext) => Response | Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    let controller: AbortController | undefined;
    const context = {
      metadata: call.metadata,
      // Made on demand: few handlers need it, and an attach takes only a few milliseconds.
      get signal(): AbortSignal {
        if (controller === undefined) {
          const given = (controller = new AbortController());
          call.on('cancelled', () => given.abort(new WeftError('ABORTED', 'the caller has given up')));
        }
        return controller.signal;
      },
    };
    const run = async (): Promise<void> => {
      let response: Response;
      try {
        response = await handler(call.request, context);
      } catch (error) {
        return callback(toServiceError(error));
      }
      callback(null, response);
    };
    void run();
  };
}

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/**
 * One call of a generated client: `await call(client.getNode.bind(client), { name }, { peer, deadlineMs: 5000 })`.
 * @param options `at`: the address that is called, where an error may be looked into
 * @throws WeftError
 */
export function call<Request, Response>(
  method: UnaryMethod<Request, Response>,
  request: Request,
  options: {
    peer: string;
    deadlineMs: number;
    signal?: AbortSignal;
    at?: CalledAddress | undefined;
    onTrailer?: (trailer: Metadata) => void;
  },
): Promise<Response> {
  const { peer, deadlineMs, signal, at, onTrailer } = options;
  return new Promise((resolve, reject) => {
    const running = method(
      request,
      new Metadata(),
      { deadline: Date.now() + deadlineMs },
      (error, response) => {
        signal?.removeEventListener('abort', cancel);
        if (error === null) resolve(response);
        else void Promise.resolve(explainFailure(error, { peer, at })).then(reject);
      },
    );
    if (onTrailer !== undefined) running.on('status', ({ metadata }) => onTrailer(metadata));
    const cancel = (): void => running.cancel();
    if (signal?.aborted === true) cancel();
    else signal?.addEventListener('abort', cancel, { once: true });
  });
}

/**
 * Credentials and options for a client of HOST:PORT: `new NodeServiceClient(address, ...channel(address, tls))`.
 * With TLS the certificate must be for a controller of weft's, or for that host.
 */
export function channel(address: string, tls: ClientTls | undefined): [ChannelCredentials, ClientOptions] {
  if (tls === undefined) return [ChannelCredentials.createInsecure(), clientOptions];
  const host = address.replace(/:\d+$/, '').replaceAll(/[[\]]/g, '');
  const credentials = ChannelCredentials.createSsl(tls.ca, tls.key ?? null, tls.cert ?? null, {
    checkServerIdentity: (asked, certificate) =>
      servesAs(CONTROLLER_NAME, host)(asked, certificate) ?? wrongSigner(tls.signer, certificate.raw),
  });
  // RFC 6066 §3 allows no address as a server name, and Node warns about it.
  if (isIP(host) === 0) return [credentials, clientOptions];
  return [credentials, { ...clientOptions, 'grpc.ssl_target_name_override': CONTROLLER_NAME }];
}

/** @param signer PEM of the CA that must have signed it; undefined: any @param certificate DER */
function wrongSigner(signer: string | undefined, certificate: Buffer): Error | undefined {
  if (signer === undefined) return undefined;
  const isSigned = new X509Certificate(certificate).verify(new X509Certificate(signer).publicKey);
  return isSigned ? undefined : new Error('the certificate is of another CA than the token');
}

/** A peer that stalls or vanishes silently is noticed within 8 s. */
export const clientOptions: ClientOptions = {
  'grpc.keepalive_time_ms': 5000,
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.keepalive_permit_without_calls': 0,
  // Underlay addresses must not go through a web proxy of the environment.
  'grpc.enable_http_proxy': 0,
  // Two clients of one process may have different certificates.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
  // channelz counts every message; weft does not read it.
  'grpc.enable_channelz': 0,
};

export const serverOptions: ServerOptions = {
  // Clients keep the connection alive; this only drops connections of clients that vanished.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.max_receive_message_length': 16 * 1024 * 1024,
  'grpc.enable_channelz': 0,
};

/** Bytes of a node's report: an agent sends no larger one, and a controller keeps none. */
export const MOST_OF_REPORT = 256 * 1024;

/** Of a server that strangers reach. */
export const publicServerOptions: ServerOptions = {
  ...serverOptions,
  'grpc.max_receive_message_length': 1024 * 1024,
  // An agent and a command have one each.
  'grpc.max_concurrent_streams': 64,
  // Of one connection, in MB.
  'grpc-node.max_session_memory': 8,
};

/** The target string of a generated client for a controller's address or an agent's socket. */
export const targetOf = (address: HostPort | { socket: string }): string =>
  'socket' in address ? `unix:${address.socket}` : `dns:${address.text}`;

const fronts = new WeakMap<Server, GrpcFront>();

/**
 * Binds and serves, with TLS only for clients with a certificate of the CA. Returns the bound address.
 * @throws WeftError FAILED_PRECONDITION that names the owner of the address
 */
export async function listenGrpc(server: Server, listen: HostPort, tls: Tls | undefined): Promise<string> {
  const front = frontOf(server, { tls, requireCertificate: true, plain: tls === undefined });
  return await front.listen(listen);
}

/** The front of a server, which `stopGrpc` closes with it. */
export function frontOf(server: Server, options: FrontOptions): GrpcFront {
  const front = new GrpcFront(server, options);
  fronts.set(server, front);
  return front;
}

/** Stops a server: calls in flight get a moment to end, streams are cut. */
export function stopGrpc(server: Server, graceMs = 1000): Promise<void> {
  fronts.get(server)?.close();
  return new Promise((resolve) => {
    const force = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, graceMs);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}
