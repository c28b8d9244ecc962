// The agent's local API, on a unix socket for commands.
//
// The socket is there before the agent can do its work, for `weft status`: that is when people ask.
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';

import { experimental, Server, ServerCredentials, type ServiceDefinition } from '@grpc/grpc-js';

import { failedPrecondition, invalidArgument, messageOf, unavailable } from '../../core/errors.js';
import { parseNetworkName } from '../../core/network.js';
import { serverOptions, stopGrpc, unary } from '../../daemon/grpc.js';
import { auditInterceptor, type AuditLog } from '../../daemon/audit.js';
import { answers } from '../../daemon/unix-socket.js';
import {
  AgentServiceService,
  NameServiceService,
  StatusServiceService,
  type Access,
  AttachRequest,
  DetachRequest,
  type FindContainerRequest,
  type FindContainerResponse,
  type InspectEndpointRequest,
  type PipeworkDetachRequest,
  type PipeworkRequest,
  type PipeworkAttachment,
  type ListPipeworkResponse,
  type ListPortsRequest,
  type ListPortsResponse,
  type PublishPortsRequest,
  type PublishPortsResponse,
  type UnpublishPortsRequest,
  type UnpublishPortsResponse,
  type UpdateEndpointRequest,
} from '../../proto/gen/weft/v1/agent.js';
import { type HttpRoutes, uidOf } from './http-socket.js';
import type { NameApi } from '../dns/index.js';
import { HostServiceService, RuntimeServiceService } from '../../proto/gen/weft/v1/runtime.js';
import type { Endpoint, Status } from '../../proto/gen/weft/v1/types.js';
import type { Problem } from '../health/index.js';

/**
 * The agent's API: for its socket, and for requests that the controller forwards. A signal ends a wait, and what was done so
 * far is rolled back.
 */
export interface AgentApi {
  attach(request: AttachRequest, signal: AbortSignal): Promise<Endpoint>;
  detach(request: DetachRequest, signal: AbortSignal): Promise<Endpoint>;
  updateEndpoint(request: UpdateEndpointRequest): Promise<Endpoint>;
  inspectEndpoint(request: InspectEndpointRequest): Promise<Endpoint>;
  pipework(request: PipeworkRequest, signal: AbortSignal): Promise<PipeworkAttachment>;
  pipeworkDetach(request: PipeworkDetachRequest, signal: AbortSignal): Promise<PipeworkAttachment>;
  findContainer(request: FindContainerRequest): Promise<FindContainerResponse>;
  listPipework(): ListPipeworkResponse;
  status(): Promise<Status>;
  access(): Access;
  readonly names: NameApi;
  publishPorts(request: PublishPortsRequest, signal: AbortSignal): Promise<PublishPortsResponse>;
  unpublishPorts(request: UnpublishPortsRequest, signal: AbortSignal): Promise<UnpublishPortsResponse>;
  listPorts(request: ListPortsRequest): Promise<ListPortsResponse>;
}

/** Connections by HTTP/1.1, on the same socket. */
export interface HttpWay {
  addCall: HttpRoutes['addCall'];
  accept(socket: Socket): void;
  stop(): Promise<void>;
}

/** Adds a service to the socket. */
export type Mount = (server: Server) => void;

/** The agent's socket. It answers from the first moment of the start, when only the status is known. */
export interface ApiSocket {
  readonly path: string;
  /** From now on requests are handled. @param mounts further services @param http what is served by HTTP */
  serve(api: AgentApi, mounts: readonly Mount[], http?: HttpWay): void;
  /** May be called again. */
  stop(): Promise<void>;
}

/** What is answered before `serve`. */
export interface StartAnswers {
  status(): Status;
  /** Why no other request can be handled yet. */
  waiting(): Problem | undefined;
}

/** All services but the status. */
const SERVICES: readonly ServiceDefinition[] = [
  AgentServiceService,
  NameServiceService,
  RuntimeServiceService,
  HostServiceService,
];

/**
 * @param always services that are there from the start
 * @throws WeftError FAILED_PRECONDITION where another agent serves there, or the socket cannot be made
 */
export async function openSocket(
  runDir: string,
  starting: StartAnswers,
  audit?: AuditLog,
  always: readonly Mount[] = [],
): Promise<ApiSocket> {
  const path = join(runDir, 'agent.sock');
  // sun_path of unix(7), less the terminating zero.
  if (Buffer.byteLength(path) > 107) {
    throw invalidArgument(
      `--run-dir: the path of the socket, ${path}, is too long for the kernel`,
      'Choose a shorter one.',
    );
  }
  mkdirSync(runDir, { recursive: true, mode: 0o755 });
  if (await answers(path)) {
    throw failedPrecondition(
      `another agent serves at ${path}`,
      'Stop it, or give this one another --run-dir.',
    );
  }
  // Left behind by an agent that was killed.
  rmSync(path, { force: true });
  const server = new Server(serverOptions);
  const notYet = unary(() => {
    const { what, why, fix } = starting.waiting() ?? { what: 'the agent', why: 'starting', fix: undefined };
    throw unavailable(`${what}: ${why}`, fix);
  });
  for (const service of SERVICES)
    server.addService(service, Object.fromEntries(Object.keys(service).map((name) => [name, notYet])));
  server.addService(StatusServiceService, { getStatus: unary(() => starting.status()) });
  for (const mount of always) mount(server);
  let http: HttpWay | undefined;
  const listener = await listen(server, path, audit, () => http);
  const stop = async (): Promise<void> => {
    listener.close();
    await Promise.all([stopGrpc(server), http?.stop()]);
    rmSync(path, { force: true });
  };
  let stopped: Promise<void> | undefined;
  return {
    path,
    serve: (api, mounts, way) => {
      if (way !== undefined) addCalls(way, api);
      http = way;
      // In one go: no request comes between.
      for (const service of [...SERVICES, StatusServiceService]) server.removeService(service);
      addServices(server, api);
      for (const mount of mounts) mount(server);
    },
    stop: () => (stopped ??= stop()),
  };
}

function addServices(server: Server, api: AgentApi): void {
  server.addService(AgentServiceService, {
    attach: unary((request: AttachRequest, { signal }) => api.attach(request, signal)),
    findContainer: unary((request: FindContainerRequest) => api.findContainer(request)),
    publishPorts: unary((request: PublishPortsRequest, { signal }) => api.publishPorts(request, signal)),
    unpublishPorts: unary((request: UnpublishPortsRequest, { signal }) =>
      api.unpublishPorts(request, signal),
    ),
    listPipework: unary(() => api.listPipework()),
    getAccess: unary(() => api.access()),
    listPorts: unary((request: ListPortsRequest) => api.listPorts(request)),
    detach: unary(async (request: DetachRequest, { signal }) => ({
      endpoint: await api.detach(request, signal),
    })),
    pipework: unary((request: PipeworkRequest, { signal }) => api.pipework(request, signal)),
    pipeworkDetach: unary((request: PipeworkDetachRequest, { signal }) =>
      api.pipeworkDetach(request, signal),
    ),
  });
  const { names } = api;
  server.addService(NameServiceService, {
    addName: unary(names.add),
    removeName: unary(names.remove),
    listNames: unary(names.list),
    lookupName: unary(names.lookup),
  });
  server.addService(StatusServiceService, { getStatus: unary(() => api.status()) });
}

/** What is called often: by HTTP it takes half the time, and its caller needs no library. */
function addCalls(http: HttpWay, api: AgentApi): void {
  http.addCall('attach', 'AgentService/Attach', AttachRequest, (request, signal) =>
    api.attach(request, signal),
  );
  http.addCall('detach', 'AgentService/Detach', DetachRequest, async (request, signal) => ({
    endpoint: await api.detach(request, signal),
  }));
}

/** How a connection of HTTP/2, and so of gRPC, begins (RFC 9113 §3.4); no method of HTTP/1.1 does. */
const PREFACE = 'PRI';

/** @throws WeftError FAILED_PRECONDITION */
async function listen(
  server: Server,
  path: string,
  audit: AuditLog | undefined,
  http: () => HttpWay | undefined,
): Promise<{ close(): void }> {
  /** Connections that have not said yet what they are. */
  const silent = new Set<Socket>();
  const sort = (socket: Socket): void => {
    const start = socket.read(PREFACE.length) as Buffer | null;
    if (start === null) return void socket.once('readable', () => sort(socket));
    silent.delete(socket);
    socket.unshift(start);
    if (start.toString('latin1') === PREFACE) return entranceOf(uidOf(socket)).injectConnection(socket);
    const way = http();
    // Before it can do its work, the agent answers by gRPC why.
    if (way === undefined) socket.destroy();
    else way.accept(socket);
  };
  const listener = createServer((socket) => {
    socket.on('error', () => undefined);
    silent.add(socket);
    socket.once('close', () => silent.delete(socket));
    socket.once('readable', () => sort(socket));
  });
  // One for each user, whose calls are told apart by it.
  const entrances = new Map<number, ReturnType<Server['createConnectionInjector']>>();
  const entranceOf = (uid: number) => {
    const known = entrances.get(uid);
    if (known !== undefined) return known;
    const plain = ServerCredentials.createInsecure();
    const audited = audit && [auditInterceptor(audit, { uid })];
    const made = server.createConnectionInjector(
      audited === undefined ? plain : experimental.createServerCredentialsWithInterceptors(plain, audited),
    );
    entrances.set(uid, made);
    return made;
  };
  // From the start only root may connect: connecting needs write permission, and the agent's umask (main.ts) gives it to no other
  // user. A stricter umask during bind would apply to the whole process and its children.
  try {
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(path, () => {
        listener.off('error', reject);
        resolve();
      });
    });
    chmodSync(path, 0o600);
    return {
      close: () => {
        listener.close();
        for (const socket of silent) socket.destroy();
      },
    };
  } catch (error) {
    throw failedPrecondition(`the socket ${path} cannot be made: ${messageOf(error)}`, 'Check --run-dir.', {
      cause: error,
    });
  }
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseDetach(request: DetachRequest): { network: string; target: string } {
  return { network: parseNetworkName(request.network), target: request.target };
}
