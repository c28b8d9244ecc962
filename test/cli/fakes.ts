// A scripted controller and agent, and a way to run the real bin/weft against them.
//
// They record what they were asked; bin/weft runs as a user's shell would run it.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';

import { Server, ServerCredentials } from '@grpc/grpc-js';

import { main } from '../../cli/main.js';
import { Mutex } from '../../core/keyed-mutex.js';
import { eventService } from '../../daemon/event-service.js';
import { toServiceError, unary } from '../../daemon/grpc.js';
import { streaming } from '../../daemon/streaming.js';
import type { Tls } from '../../daemon/tls.js';
import { packageRoot } from '../../daemon/version.js';
import { AgentServiceService, StatusServiceService } from '../../proto/gen/weft/v1/agent.js';
import {
  EndpointServiceService,
  NetworkServiceService,
  NodeServiceService,
  PolicyServiceService,
} from '../../proto/gen/weft/v1/controller.js';
import {
  EventServiceService,
  type Event,
  type EventServiceServer,
  type WatchEventsRequest,
} from '../../proto/gen/weft/v1/events.js';
import {
  InspectionServiceService,
  type InspectionServiceServer,
  type NodeAnswer,
  type NodeQuery,
} from '../../proto/gen/weft/v1/inspection.js';
import { IpamServiceService } from '../../proto/gen/weft/v1/ipam.js';
import { IdentityServiceService } from '../../proto/gen/weft/v1/identity.js';
import { Container, RuntimeServiceService } from '../../proto/gen/weft/v1/runtime.js';
import { TraceResult, TraceServiceService } from '../../proto/gen/weft/v1/trace.js';
import type { Status } from '../../proto/gen/weft/v1/types.js';
import { answers, endpoint, ipamFinding, network, node, policy, status, token } from './samples.js';

export const WEFT = join(packageRoot, 'bin', 'weft');

export interface Ran {
  code: number | string | null;
  stdout: string;
  /** Without `waits`. */
  stderr: string;
  /** The lines that say for what it waits: there are some on a machine that is busy enough, too. */
  waits: string[];
}

const WAITS = /^weft: waiting for .*\n/gm;

const ranAs = (code: Ran['code'], stdout: string, stderr: string): Ran => ({
  ...{ code, stdout },
  stderr: stderr.replaceAll(WAITS, ''),
  waits: stderr.match(WAITS) ?? [],
});

/** The requests to a fake, in order. */
export type Asked = [method: string, request: unknown][];

/** Ids of the endpoints of the agent's containers, by TARGET. */
const CONTAINERS_HERE: Record<string, string[]> = { c1: ['a'.repeat(16)], 'pid:4711': [endpoint.id] };

export class Fakes {
  readonly folder = mkdtempSync(join(tmpdir(), 'weft-cli-'));
  readonly socket = join(this.folder, 'agent.sock');
  readonly asked: Asked = [];
  /** While set, every call fails with this. */
  failure: Error | undefined;
  agentStatus: Status = status;
  /** What the daemons have of events. */
  controllerEvents: Event[] = [];
  agentEvents: Event[] = [];
  /** The answer to a trace. */
  trace = TraceResult.fromPartial({});
  /** What each node answers, by the kind of the question. */
  nodeAnswers: Record<string, NonNullable<NodeAnswer['answer']>[]> = answers;
  /** What nodes begin to answer, and end only then. */
  held: Promise<void> | undefined;
  /** Of the next attach. */
  warnings: string[] = [];
  address = '';
  readonly #servers: Server[] = [];

  /** @param tls of the controller; the agent's socket has none */
  async start(tls?: Tls): Promise<void> {
    const controller = new Server();
    controller.addService(NetworkServiceService, {
      createNetwork: this.#answer('createNetwork', network),
      getNetwork: this.#answer('getNetwork', network),
      listNetworks: this.#answer('listNetworks', { networks: [network] }),
      deleteNetwork: this.#answer('deleteNetwork', {}),
      watchNetworks: () => undefined,
    });
    controller.addService(NodeServiceService, {
      getNode: this.#answer('getNode', node),
      listNodes: this.#answer('listNodes', { nodes: [node] }),
      deleteNode: this.#answer('deleteNode', {}),
      watchNodes: () => undefined,
    });
    controller.addService(EndpointServiceService, {
      createEndpoint: this.#answer('createEndpoint', endpoint),
      getEndpoint: this.#answer('getEndpoint', endpoint),
      listEndpoints: this.#answer('listEndpoints', { endpoints: [endpoint] }),
      deleteEndpoint: this.#answer('deleteEndpoint', {}),
      watchEndpoints: () => undefined,
    });
    controller.addService(PolicyServiceService, {
      createPolicy: this.#answer('createPolicy', policy),
      getPolicy: this.#answer('getPolicy', policy),
      listPolicies: this.#answer('listPolicies', { policies: [policy], isolated: ['red'], pending: [] }),
      deletePolicy: this.#answer('deletePolicy', { pending: [] }),
      isolateNetwork: this.#answer('isolateNetwork', { pending: [] }),
      testPolicy: this.#answer('testPolicy', { verdict: 'allowed', policy: 'p', why: 'it is' }),
    });
    controller.addService(StatusServiceService, { getStatus: this.#answer('controllerStatus', status) });
    controller.addService(IdentityServiceService, { createToken: this.#answer('createToken', token) });
    controller.addService(EventServiceService, this.#events('controllerEvents'));
    controller.addService(TraceServiceService, {
      trace: unary((request) => {
        this.asked.push(['trace', request]);
        if (this.failure !== undefined) throw this.failure;
        return this.trace;
      }),
    });
    controller.addService(InspectionServiceService, this.#inspection('controller'));
    controller.addService(IpamServiceService, {
      checkIpam: this.#answer('checkIpam', { findings: [ipamFinding], notes: [] }),
      releaseAddresses: this.#answer('releaseAddresses', { released: [ipamFinding] }),
    });
    const agent = new Server();
    agent.addService(EventServiceService, this.#events('agentEvents'));
    agent.addService(InspectionServiceService, this.#inspection('agent'));
    agent.addService(AgentServiceService, {
      attach: unary((request) => {
        this.asked.push(['attach', request]);
        return { ...endpoint, warnings: this.warnings };
      }),
      detach: this.#answer('detach', { endpoint }),
      findContainer: unary(({ target }) => ({ endpoints: CONTAINERS_HERE[target] ?? [] })),
    });
    const containers = [Container.fromPartial({ name: 'web' })];
    agent.addService(RuntimeServiceService, {
      listContainers: this.#answer('listContainers', { containers }),
    });
    agent.addService(StatusServiceService, {
      getStatus: unary(() => {
        this.asked.push(['agentStatus', {}]);
        return this.agentStatus;
      }),
    });
    const port = await this.#listen(controller, '127.0.0.1:0', tls);
    this.address = `127.0.0.1:${port}`;
    await this.#listen(agent, `unix:${this.socket}`);
  }

  /** Runs weft against the two. */
  weft(...args: string[]): Promise<Ran> {
    return run(args, { WEFT_CONTROLLER: this.address, WEFT_AGENT: this.socket });
  }

  /** Runs it in this process (`runHere`). */
  weftHere(...args: string[]): Promise<Ran> {
    return runHere(args, { WEFT_CONTROLLER: this.address, WEFT_AGENT: this.socket });
  }

  stop(): void {
    for (const server of this.#servers) server.forceShutdown();
    rmSync(this.folder, { recursive: true });
  }

  #answer<Response>(method: string, response: Response) {
    return unary<unknown, Response>((request) => {
      this.asked.push([method, request]);
      if (this.failure !== undefined) throw this.failure;
      return response;
    });
  }

  #events(of: 'controllerEvents' | 'agentEvents'): EventServiceServer {
    const source = { list: () => this[of], subscribe: () => () => undefined };
    const { watchEvents } = eventService(source);
    return {
      watchEvents: (call) => {
        this.asked.push([of, call.request satisfies WatchEventsRequest]);
        if (this.failure === undefined) watchEvents(call);
        else call.emit('error', toServiceError(this.failure));
      },
    };
  }

  #inspection(whom: string): InspectionServiceServer {
    const method = (name: string) =>
      streaming<NodeQuery, NodeAnswer>(async (query, send) => {
        this.asked.push([`${whom} ${name}`, query]);
        if (this.failure !== undefined) throw this.failure;
        await send({ answer: undefined });
        await this.held;
        for (const answer of this.nodeAnswers[query.query?.$case ?? ''] ?? []) await send({ answer });
      });
    return { inspect: method('inspect'), operate: method('operate') };
  }

  #listen(server: Server, address: string, tls?: Tls): Promise<number> {
    this.#servers.push(server);
    const credentials =
      tls === undefined
        ? ServerCredentials.createInsecure()
        : ServerCredentials.createSsl(tls.ca, [{ cert_chain: tls.cert, private_key: tls.key }], true);
    return new Promise((resolve, reject) => {
      server.bindAsync(address, credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
  }
}

/** Commands at once: more of them than processors wait for each other and answer late. */
const AT_ONCE = 2;
let running = 0;
const waiting: (() => void)[] = [];

/** Runs it when a slot is free. */
export async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running === AT_ONCE) await new Promise<void>((go) => waiting.push(go));
  else running++;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}

/** Nothing of the caller's own settings reaches the command. */
export function run(args: readonly string[], env: Record<string, string> = {}, program = WEFT): Promise<Ran> {
  const { PATH = '', HOME = '' } = process.env;
  const options = { env: { PATH, HOME, ...env }, timeout: 20_000 };
  return inTurn(
    () =>
      new Promise((resolve) => {
        execFile(program, args, options, (error, stdout, stderr) => {
          resolve(ranAs(error === null ? 0 : (error.code ?? null), stdout, stderr));
        });
      }),
  );
}

const here = new Mutex();

/**
 * One call as the program's main serves it, in this process: for tables of calls that only differ in their words. That the
 * program itself says and ends the same is for `run` to show. Meanwhile it has this process' output and exit status: it is for
 * serial tests where others of the file use them, too.
 */
export function runHere(args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return here.run(async () => {
    const said = { stdout: '', stderr: '' };
    const writes = (['stdout', 'stderr'] as const).map((name) =>
      mock.method(process[name], 'write', (text: string) => {
        said[name] += text;
        return true;
      }),
    );
    const before = { ...process.env };
    for (const name of Object.keys(before)) if (name.startsWith('WEFT_')) delete process.env[name];
    Object.assign(process.env, env);
    const [errors, interrupts] = [process.stdout.listeners('error'), process.listeners('SIGINT')];
    try {
      await main(args);
      return ranAs(process.exitCode ?? 0, said.stdout, said.stderr);
    } finally {
      for (const write of writes) write.mock.restore();
      for (const name of Object.keys(env)) delete process.env[name];
      Object.assign(process.env, before);
      process.exitCode = undefined;
      // It listens for what ends a program.
      for (const one of process.stdout.listeners('error'))
        if (!errors.includes(one)) process.stdout.removeListener('error', one as () => void);
      for (const one of process.listeners('SIGINT'))
        if (!interrupts.includes(one)) process.removeListener('SIGINT', one);
    }
  });
}
