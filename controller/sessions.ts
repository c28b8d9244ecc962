// SessionService: agents' sessions, their reports, and requests to their nodes.
import type { handleBidiStreamingCall } from '@grpc/grpc-js';

import {
  aborted,
  deadlineExceeded,
  invalidArgument,
  permissionDenied,
  resourceExhausted,
  unauthenticated,
  unavailable,
  WeftError,
} from '../core/errors.js';
import { parseName } from '../core/network.js';
import { callerOf, type Caller } from '../daemon/caller.js';
import { MOST_OF_REPORT } from '../daemon/grpc.js';
import type { Logger } from '../daemon/log.js';
import type { NodeAnswer, NodeQuery } from '../proto/gen/weft/v1/inspection.js';
import {
  Acknowledgement,
  type AgentMessage,
  type ControllerMessage,
  type Events,
  type Hello,
  type Report,
  type Request,
} from '../proto/gen/weft/v1/session.js';
import type { Probe, ProbeReply } from '../proto/gen/weft/v1/trace.js';
import { Status, type Endpoint } from '../proto/gen/weft/v1/types.js';
import { AgentSession, refuse, type SessionAnswer, type Stream } from './agent-session.js';
import type { Clock } from './clock.js';
import type { ClusterEvents } from './cluster-events.js';
import type { NodeReport, ReportSource, SessionEnding } from './registry.js';

const HELLO_WITHIN_MS = 5000;
/** Bytes of all reports together of nodes that have no record in etcd. */
const MOST_WITHOUT_RECORD = 8 * 1024 * 1024;

/** What a report needs of a node. */
interface KnownNodes {
  readonly view: {
    readonly nodes: ReadonlyMap<string, unknown>;
    readonly alive: ReadonlyMap<string, unknown>;
  };
}

export interface SessionsOptions {
  version: string;
  clock: Clock;
  log: Logger;
  nodes: KnownNodes;
  /** Hashes of the CAs that nodes must trust; none where no controller is an authority. */
  authorities?: () => readonly string[];
  /** HOST:PORT of what containers must not reach. */
  control?: () => readonly string[];
  /** A session has begun. */
  entered?: (caller: Caller) => void;
  /** What nodes tell. */
  events?: Pick<ClusterEvents, 'lastOf' | 'take'>;
}

export class Sessions implements ReportSource {
  readonly #sessions = new Map<string, AgentSession>();
  /** Kept after the session has ended: when the node was last seen. */
  readonly #reports = new Map<string, NodeReport>();
  /** Sizes of the reports of nodes without a record. */
  readonly #unrecorded = new Map<string, number>();
  /** How the last session of a node without one has ended. */
  readonly #endings = new Map<string, SessionEnding>();
  readonly #options: SessionsOptions;
  #onReport: (node: string) => void = () => undefined;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** Called when a node reports something new, and when its session begins or ends. */
  onReport(listener: (node: string) => void): void {
    this.#onReport = listener;
  }

  get count(): number {
    return this.#sessions.size;
  }

  has(node: string): boolean {
    return this.#sessions.has(node);
  }

  reportOf(node: string): NodeReport | undefined {
    return this.#reports.get(node);
  }

  endingOf(node: string): SessionEnding | undefined {
    return this.#endings.get(node);
  }

  forget(node: string): void {
    if (this.has(node)) return;
    this.#endings.delete(node);
    this.#reports.delete(node);
    this.#unrecorded.delete(node);
  }

  /** Ends the session of a node whose certificate is refused. */
  expel(node: string): void {
    const refused = unauthenticated(
      `node ${node}: its certificate is refused: the node was removed`,
      'Join it again with a new token.',
    );
    this.#sessions.get(node)?.end(refused);
  }

  /** Nodes must trust other CAs than before. */
  authoritiesChanged(): void {
    for (const session of this.#sessions.values()) this.#tellAuthorities(session);
  }

  /** Once for each change: another controller may be the authority, so there is no event for it. */
  #tellAuthorities(session: AgentSession): void {
    const hashes = this.#options.authorities?.() ?? [];
    if (hashes.length === 0 || session.told === hashes.join()) return;
    session.told = hashes.join();
    session.send({ $case: 'authorities', value: { hashes: [...hashes] } });
  }

  /** SessionService.Connect. */
  readonly connect: handleBidiStreamingCall<AgentMessage, ControllerMessage> = (stream) => {
    const { clock, log } = this.#options;
    const caller = callerOf(stream.getAuthContext());
    let session: AgentSession | undefined;
    let isOver = false;
    const cancelHello = clock.after(HELLO_WITHIN_MS, () => {
      refuse(stream, deadlineExceeded(`session: no Hello within ${HELLO_WITHIN_MS / 1000} s`));
    });
    const over = (): void => {
      isOver = true;
      cancelHello();
      if (session === undefined) return;
      this.#leave(session);
      session = undefined;
    };
    const fail = (error: unknown): void => {
      if (!(error instanceof WeftError)) log.error('a session failed', { error });
      refuse(stream, error);
      over();
    };
    stream.on('data', ({ message }: AgentMessage) => {
      try {
        if (session !== undefined) return this.#receive(session, message);
        if (message?.$case !== 'hello') throw invalidArgument('session: the first message was not Hello');
        cancelHello();
        const hello = message.value;
        const claimed = this.#claimed(hello, caller);
        if (claimed === undefined) return void (session = this.#enter(hello, stream, caller));
        // Messages wait until it is known whether the other session lives.
        stream.pause();
        void claimed.answers().then((lives) => {
          if (isOver) return;
          if (lives) return fail(inUse(claimed));
          session = this.#enter(hello, stream, caller);
          stream.resume();
        });
      } catch (error) {
        fail(error);
      }
    });
    stream.on('error', over);
    stream.on('cancelled', over);
    stream.on('end', () => {
      over();
      stream.end();
    });
  };

  /**
   * Sends a request to the node's agent.
   * @throws WeftError the agent's own, UNAVAILABLE without a session, DEADLINE_EXCEEDED after 10 s
   */
  async request(
    node: string,
    request: Exclude<NonNullable<Request['request']>, { $case: 'probe' }>,
    signal: AbortSignal,
  ): Promise<Endpoint> {
    const answer = await this.#ask(node, request, signal);
    if (answer.$case === 'endpoint') return answer.value;
    throw unexpected(node);
  }

  /** A node's part in a trace. @throws WeftError as `request` */
  async probe(node: string, probe: Probe, signal: AbortSignal): Promise<ProbeReply> {
    const answer = await this.#ask(node, { $case: 'probe', value: probe }, signal);
    if (answer.$case === 'probe') return answer.value;
    throw unexpected(node);
  }

  async #ask(
    node: string,
    request: NonNullable<Request['request']>,
    signal: AbortSignal,
  ): Promise<SessionAnswer> {
    return await this.#sessionOf(node).request(request, signal);
  }

  /**
   * Asks the node's agent a question with many answers. Settles after the last one.
   * @throws WeftError the agent's own, UNAVAILABLE without a session, DEADLINE_EXCEEDED where it does not begin
   */
  async query(
    node: string,
    query: NodeQuery,
    take: (answer: NodeAnswer) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#sessionOf(node).query(query, take, signal);
  }

  /** @throws WeftError UNAVAILABLE */
  #sessionOf(node: string): AgentSession {
    const session = this.#sessions.get(node);
    if (session !== undefined) return session;
    throw unavailable(
      `node ${node}: its agent has no session with this controller`,
      'Start the agent with --controller and this address, or run the command on the node itself.',
    );
  }

  /** Ends all sessions; the agents look for another controller. */
  close(): void {
    for (const session of this.#sessions.values()) session.end(unavailable('the controller is ending'));
  }

  /**
   * The session of that name that must be asked whether it lives: an instance id proves nothing, a certificate does.
   * @throws WeftError where the caller is somebody else
   */
  #claimed(hello: Hello, { identity }: Caller): AgentSession | undefined {
    const node = parseName(hello.node, 'hello.node');
    const instance = parseName(hello.instance, 'hello.instance');
    if (hello.version.length > 100) throw invalidArgument('hello.version: is longer than 100 characters');
    if (identity.role === 'node' && identity.node !== node)
      throw permissionDenied(
        `node ${node}: this certificate is of node ${identity.node}`,
        'An agent has a session under the name of its certificate alone: see --node.',
      );
    const before = this.#sessions.get(node);
    if (before !== undefined && before.instance !== instance) throw inUse(before);
    return identity.role === 'node' ? undefined : before;
  }

  #enter({ node, instance, version: agent }: Hello, stream: Stream, caller: Caller): AgentSession {
    const { version, clock, log, control = () => [] } = this.#options;
    const { until } = caller;
    // The same agent again: its earlier connection broke unnoticed.
    this.#sessions.get(node)?.end(aborted(`node ${node}: its agent has opened another session`));
    const session = new AgentSession(node, instance, stream, clock);
    this.#sessions.set(node, session);
    this.#endings.delete(node);
    if (until !== undefined) session.endAt(until);
    const known = this.#options.events?.lastOf(node, instance) ?? 0;
    this.#acknowledge(session, { version, control: [...control()], events: known, time: clock.now() });
    this.#tellAuthorities(session);
    log.info('an agent has connected', { node, version: agent, peer: session.peer });
    this.#options.entered?.(caller);
    this.#onReport(node);
    return session;
  }

  #receive(session: AgentSession, message: AgentMessage['message']): void {
    if (message?.$case === 'report') return this.#take(session, message.value);
    if (message?.$case === 'reply') return session.reply(message.value);
    if (message?.$case === 'events') return this.#takeEvents(session, message.value);
    if (message?.$case === 'goodbye') return void (session.saidGoodbye = true);
    if (message?.$case === 'hello') throw invalidArgument('session: a second Hello');
    // A message type of a newer agent: it gets no answer.
  }

  #take(session: AgentSession, { sequence, status }: Report): void {
    if (status !== undefined) {
      this.#measure(session.node, Status.encode(status).finish().length);
      const before = this.#reports.get(session.node);
      this.#reports.set(session.node, { at: this.#options.clock.now(), status });
      // Most reports are only signs of life and change nothing for those who watch nodes.
      if (before === undefined || substance(before.status) !== substance(status))
        this.#onReport(session.node);
    } else {
      const before = this.#reports.get(session.node);
      if (before !== undefined) before.at = this.#options.clock.now();
    }
    this.#acknowledge(session, { sequence, time: this.#options.clock.now() });
    this.#tellAuthorities(session);
  }

  #takeEvents(session: AgentSession, { events: told }: Events): void {
    const events = this.#options.events?.take(session.node, session.instance, told);
    if (events !== undefined) this.#acknowledge(session, { events });
  }

  #acknowledge(session: AgentSession, ack: Partial<Acknowledgement>): void {
    session.send({ $case: 'ack', value: Acknowledgement.fromPartial(ack) });
  }

  /** @throws WeftError RESOURCE_EXHAUSTED for what is too large to be kept */
  #measure(node: string, size: number): void {
    if (size > MOST_OF_REPORT)
      throw resourceExhausted(`node ${node}: a report of ${size} bytes; at most ${MOST_OF_REPORT} are kept`);
    if (this.#options.nodes.view.nodes.has(node)) return void this.#unrecorded.delete(node);
    this.#unrecorded.set(node, size);
    const total = [...this.#unrecorded.values()].reduce((sum, one) => sum + one, 0);
    if (total <= MOST_WITHOUT_RECORD) return;
    this.#unrecorded.delete(node);
    throw resourceExhausted(
      `node ${node}: is not in etcd, and there are too many reports of such nodes`,
      'Its agent must reach etcd first.',
    );
  }

  #leave(session: AgentSession): void {
    session.end(unavailable(`node ${session.node}: the session with its agent has ended`, 'Try again.'));
    if (this.#sessions.get(session.node) !== session) return;
    this.#sessions.delete(session.node);
    const { nodes } = this.#options;
    // A process that dies takes its connection along, before its lease ends.
    const ending = nodes.view.alive.has(session.node) ? 'closed' : 'silent';
    this.#endings.set(session.node, session.saidGoodbye ? 'stopped' : ending);
    // Nobody would ever delete it.
    if (!nodes.view.nodes.has(session.node)) this.forget(session.node);
    this.#options.log.info('an agent has disconnected', { node: session.node });
    this.#onReport(session.node);
  }
}

const unexpected = (node: string): WeftError =>
  new WeftError('INTERNAL', `node ${node}: the answer of its agent is of another kind`);

const inUse = ({ node, instance, peer }: AgentSession): WeftError =>
  aborted(
    `node ${node}: another agent of this name has a session (instance ${instance}, from ${peer})`,
    'Give each node a name of its own with --node.',
  );

/** The part of a report that others are shown. */
function substance({ problems, networks }: Status): string {
  return JSON.stringify([problems, networks.map(({ name, mtu }) => [name, mtu])]);
}
