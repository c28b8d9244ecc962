// Calls to the controller and to this host's agent.
//
// An error names the daemon that does not answer, and the next step.
import { hostPort } from '../daemon/kinds.js';
import { readTls } from '../daemon/tls.js';
import type { GlobalOptions } from './global-options.js';
import { credentialsFor, type Trust } from './identity.js';
import type { Ask, Method, ServiceClient, ServiceName } from './services.js';

/** Deadline of calls that read, in milliseconds. */
export const READ_MS = 5_000;
/** Deadline of calls that change something, in milliseconds. */
export const WRITE_MS = 30_000;

type Call = <S extends ServiceName, Q, A>(
  service: S,
  method: (client: ServiceClient<S>) => Method<Q, A>,
  request: Q,
  deadlineMs: number,
  /** By which an agent answers it by HTTP, too, in the same fields: it is asked so where it can be. */
  route?: string,
) => Promise<A>;

export interface Connector {
  readonly controller: Call;
  readonly agent: Call;
  /** Checks the controller's options, where it is asked only after the agent has failed. @throws WeftError INVALID_ARGUMENT */
  checkController(): void;
  /** A call is about to be sent: from now on an error is not a wrong call. */
  asking(): void;
  readonly controllerAddress: string;
  readonly agentPath: string;
}

/** @param onAsk called when the options are valid and a call is about to be sent */
export function connectorFor(options: GlobalOptions, onAsk: () => void): Connector {
  const ask = async <S extends ServiceName, Q, A>(of: Ask<S, Q, A>): Promise<A> => {
    const services = await import('./services.js');
    return await services.ask(of);
  };
  const { tlsCa, tlsCert, tlsKey, insecure } = options;
  const trust: Trust = { tlsCa, tlsCert, tlsKey, insecure };
  const controller = (): string => hostPort({ listen: false }).parse(options.controller, '--controller').text;
  return {
    checkController: () => {
      readTls(trust);
      controller();
    },
    asking: onAsk,
    controllerAddress: options.controller,
    agentPath: options.agent,
    controller: async (service, method, request, deadlineMs) => {
      const address = controller();
      readTls(trust);
      onAsk();
      const tls = await credentialsFor(address, trust);
      return await ask({
        ...{ service, method, request, deadlineMs, at: { address, tls } },
        peer: `the controller at ${options.controller}`,
        next: 'Is `weft controller` running there? Name it with --controller or WEFT_CONTROLLER.',
      });
    },
    agent: async (service, method, request, deadlineMs, route) => {
      onAsk();
      if (route !== undefined) {
        const { callByHttp } = await import('./http-call.js');
        const answer = await callByHttp(options.agent, route, request, deadlineMs);
        // The fields are those of the message, whose type the caller's method has.
        if (answer !== undefined) return answer as never;
      }
      return await ask({
        ...{ service, method, request, deadlineMs, at: { socket: options.agent } },
        peer: `the agent at ${options.agent}`,
        next: 'Is `weft agent` running on this host? Name its socket with --agent or WEFT_AGENT.',
      });
    },
  };
}
