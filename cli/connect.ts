// Calls to the controller and to this host's agent.
//
// An error names the daemon that does not answer, and the next step.
import { hostPort } from '../daemon/kinds.js';
import { readTls, type Tls } from '../daemon/tls.js';
import type { GlobalOptions } from './global-options.js';
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
) => Promise<A>;

export interface Connector {
  readonly controller: Call;
  readonly agent: Call;
  /** Checks the controller's options, where it is asked only after the agent has failed. @throws WeftError INVALID_ARGUMENT */
  checkController(): void;
  readonly controllerAddress: string;
  readonly agentPath: string;
}

/** @param onAsk called when the options are valid and a call is about to be sent */
export function connectorFor(options: GlobalOptions, onAsk: () => void): Connector {
  const ask = async <S extends ServiceName, Q, A>(of: Ask<S, Q, A>): Promise<A> => {
    const services = await import('./services.js');
    onAsk();
    return await services.ask(of);
  };
  const controller = (): { address: string; tls: Tls | undefined } => ({
    tls: readTls({ tlsCa: options.tlsCa, tlsCert: options.tlsCert, tlsKey: options.tlsKey }),
    address: hostPort({ listen: false }).parse(options.controller, '--controller').text,
  });
  return {
    checkController: () => void controller(),
    controllerAddress: options.controller,
    agentPath: options.agent,
    controller: async (service, method, request, deadlineMs) =>
      ask({
        ...{ service, method, request, deadlineMs, at: controller() },
        peer: `the controller at ${options.controller}`,
        next: 'Is `weft controller` running there? Name it with --controller or WEFT_CONTROLLER.',
      }),
    agent: (service, method, request, deadlineMs) =>
      ask({
        ...{ service, method, request, deadlineMs, at: { socket: options.agent } },
        peer: `the agent at ${options.agent}`,
        next: 'Is `weft agent` running on this host? Name its socket with --agent or WEFT_AGENT.',
      }),
  };
}
