// Calls to the controller and to this host's agent.
//
// An error names the daemon that does not answer, and the next step.
import { existsSync } from 'node:fs';

import { WeftError } from '../core/errors.js';
import { hostPort } from '../daemon/kinds.js';
import { readTls, type ClientTls } from '../daemon/tls.js';
import type { GlobalOptions } from './global-options.js';
import { credentialsFor, isServed, type Trust } from './identity.js';
import type { Event, WatchEventsRequest } from '../proto/gen/weft/v1/events.js';
import type { NodeAnswer, NodeQuery } from '../proto/gen/weft/v1/inspection.js';
import type { Ask, At, Method, ServiceClient, ServiceName } from './services.js';
import { notSilently } from './waiting.js';

/** Deadline of calls that read, in milliseconds. */
export const READ_MS = 5_000;
/** Deadline of calls that change something, in milliseconds. */
export const WRITE_MS = 30_000;

/** Whom a call goes to. */
type Whom = Pick<Ask<ServiceName, unknown, unknown>, 'at' | 'peer' | 'next'>;

type Call = <S extends ServiceName, Q, A>(
  service: S,
  method: (client: ServiceClient<S>) => Method<Q, A>,
  request: Q,
  deadlineMs: number,
  /** By which an agent answers it by HTTP, too, in the same fields: it is asked so where it can be. */
  route?: string,
) => Promise<A>;

export interface Inspection {
  whom: 'controller' | 'agent';
  /** `operate`: what only managers may ask. */
  method: 'inspect' | 'operate';
  query: NodeQuery;
  /** Ends it; what was answered counts. */
  signal?: AbortSignal | undefined;
}

export interface Connector {
  readonly controller: Call;
  readonly agent: Call;
  /** Reads events of the cluster, or of this host's node, until they end. */
  events(
    whom: 'controller' | 'agent',
    request: WatchEventsRequest,
    onEvent: (event: Event) => void,
  ): Promise<void>;
  /** Asks a node a question with many answers. Settles after the last one. */
  inspect(asking: Inspection, onAnswer: (answer: NodeAnswer) => void): Promise<void>;
  /** Checks the controller's options, where it is asked only after the agent has failed. @throws WeftError INVALID_ARGUMENT */
  checkController(): void;
  /** A call is about to be sent: from now on an error is not a wrong call. */
  asking(): void;
  /** Where the controller is, and what is shown to it; for what keeps a connection of its own. @throws WeftError */
  controllerAt(): Promise<{ address: string; tls: ClientTls | undefined }>;
  readonly controllerAddress: string;
  readonly agentPath: string;
}

/** How long this host's agent may take to say where the controller is, in milliseconds. */
const ACCESS_MS = 2000;

/**
 * @param isGiven whether the controller's address was given; else this host's agent knows it where none is on this host
 * @param onAsk called when the options are valid and a call is about to be sent
 */
export function connectorFor(options: GlobalOptions, isGiven: boolean, onAsk: () => void): Connector {
  const ask = async <S extends ServiceName, Q, A>(of: Ask<S, Q, A>): Promise<A> => {
    const services = await import('./services.js');
    return await services.ask(of);
  };
  const agentName = `the agent at ${options.agent}`;
  // Where no address was given, another one may be found.
  const controllerName = isGiven ? `the controller at ${options.controller}` : 'the controller';
  /** One time for all steps of a call: to find the controller, its certificate, and its answer. */
  const waited = <T>(
    whom: 'controller' | 'agent',
    work: (begun: () => void) => Promise<T>,
    node = '',
  ): Promise<T> => {
    const peer = whom === 'agent' ? agentName : controllerName;
    return notSilently(node === '' ? peer : `node ${node}, through ${peer}`, work);
  };
  const { tlsCa, tlsCert, tlsKey, insecure } = options;
  const trust: Trust = { tlsCa, tlsCert, tlsKey, insecure };
  const controller = (): string => hostPort({ listen: false }).parse(options.controller, '--controller').text;
  let known: Promise<At> | undefined;
  const toController = async (): Promise<Whom> => {
    const address = controller();
    readTls(trust);
    onAsk();
    const at = await (known ??= isGiven ? withCredentials(address) : nearestController(address));
    return {
      at,
      peer: `the controller at ${'address' in at ? at.address : address}`,
      next: 'Is `weft controller` running there? Name it with --controller or WEFT_CONTROLLER.',
    };
  };
  const withCredentials = async (address: string): Promise<At> => ({
    address,
    tls: await credentialsFor(address, trust),
  });
  /** On this host, else the one that this host's agent reports to, with what the agent shows where nothing else is there. */
  const nearestController = async (address: string): Promise<At> => {
    if (!existsSync(options.agent) || (await isServed(address))) return await withCredentials(address);
    const request = { request: {}, deadlineMs: ACCESS_MS, ...toAgent() };
    const access = await ask({
      ...{ ...request, service: 'AgentService' as const },
      method: (client) => client.getAccess,
    }).catch(() => undefined);
    if (access === undefined || access.controller === '') return await withCredentials(address);
    const { controller: told, ca, cert, key } = access;
    if (ca === undefined) return { address: told, tls: undefined };
    try {
      return await withCredentials(told);
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'UNAUTHENTICATED') throw error;
      return { address: told, tls: readTls({ tlsCa: ca, tlsCert: cert, tlsKey: key }) };
    }
  };
  const toAgent = (): Whom => {
    onAsk();
    return {
      at: { socket: options.agent },
      peer: agentName,
      next: 'Is `weft agent` running on this host? Name its socket with --agent or WEFT_AGENT.',
    };
  };
  const to = async (whom: 'controller' | 'agent'): Promise<Whom> =>
    whom === 'agent' ? toAgent() : await toController();
  return {
    checkController: () => {
      readTls(trust);
      controller();
    },
    asking: onAsk,
    controllerAt: async () => {
      const { at } = await toController();
      if ('socket' in at) throw new WeftError('INTERNAL', 'a controller has no socket');
      return at;
    },
    controllerAddress: options.controller,
    agentPath: options.agent,
    controller: (service, method, request, deadlineMs) =>
      waited(
        'controller',
        async () => await ask({ service, method, request, deadlineMs, ...(await toController()) }),
      ),
    agent: (service, method, request, deadlineMs, route) =>
      waited('agent', async () => {
        const agent = toAgent();
        if (route !== undefined) {
          const { callByHttp } = await import('./http-call.js');
          const answer = await callByHttp(options.agent, route, request, deadlineMs);
          // The fields are those of the message, whose type the caller's method has.
          if (answer !== undefined) return answer as never;
        }
        return await ask({ service, method, request, deadlineMs, ...agent });
      }),
    events: (whom, request, onEvent) =>
      waited(whom, async (onBegun) => {
        const asked = await to(whom);
        const services = await import('./services.js');
        await services.watch({
          ...{ service: 'EventService', request, onEvent, onBegun, deadlineMs: READ_MS, ...asked },
          method: (client) => (wanted) => client.watchEvents(wanted),
        });
      }),
    inspect: ({ whom, method, query, signal }, onEvent) =>
      waited(
        whom,
        async (begun) => {
          const asked = await to(whom);
          const services = await import('./services.js');
          // What goes on until it is ended is no wait.
          const onBegun = signal === undefined ? (): void => undefined : begun;
          await services.watch({
            ...{ service: 'InspectionService', request: query, onEvent, onBegun, signal },
            ...{ deadlineMs: READ_MS, ...asked },
            method: (client) => (wanted) => client[method](wanted),
          });
        },
        query.node,
      ),
  };
}
