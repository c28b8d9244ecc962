// The agent's session with a controller.
//
// It connects to the first controller that answers, reports the node's status and executes forwarded requests. The node's work
// never depends on it, so nothing here throws.
import { setTimeout as delay } from 'node:timers/promises';

import type { ClientDuplexStream } from '@grpc/grpc-js';

import { Backoff } from '../../core/backoff.js';
import { messageOf, WeftError } from '../../core/errors.js';
import { channel, explainFailure } from '../../daemon/grpc.js';
import type { EventLog } from '../../daemon/event-log.js';
import type { CalledAddress } from '../../daemon/transport-errors.js';
import type { Logger } from '../../daemon/log.js';
import type { Tls } from '../../daemon/tls.js';
import {
  SessionServiceClient,
  type Acknowledgement,
  type AgentMessage,
  type ControllerMessage,
  type Reply,
  type Request,
} from '../../proto/gen/weft/v1/session.js';
import type { Event } from '../../proto/gen/weft/v1/events.js';
import type { Status } from '../../proto/gen/weft/v1/types.js';
import { type Answering, AnswerStreams } from './answer-streams.js';
import { EventFeed } from './event-feed.js';
import { reportOf } from './report.js';

/** A request that a controller forwards and that has one answer: attach or detach. */
export type SessionRequest = Exclude<NonNullable<Request['request']>, { $case: 'query' }>;
export type SessionReply = NonNullable<Reply['reply']>;

export interface SessionState {
  /** "none" where no controller is set. */
  state: 'connected' | 'disconnected' | 'none';
  /** HOST:PORT of the controller; the one tried last while disconnected. */
  address: string;
  /** Why it is not connected, or empty. */
  error: string;
}

export interface Session {
  state(): SessionState;
  /** Schedules a report after a change; calls within 100 ms become one report. */
  changed(): void;
  stop(): Promise<void>;
}

export interface SessionOptions {
  /** HOST:PORT, in order of preference; may be empty. */
  controllers: readonly string[];
  tls?: Tls | undefined;
  hello: { node: string; instance: string; version: string };
  status: () => Status;
  handle: (request: SessionRequest) => Promise<SessionReply>;
  /** Answers queries; absent: none is known. */
  answering?: Answering;
  /** What the controller is told; absent: nothing. */
  events?: Pick<EventLog, 'after' | 'subscribe'>;
  /** The controller's clock, milliseconds since 1970, as it was at some moment of the last `withinMs` milliseconds. */
  onTime?: (controller: number, withinMs: number) => void;
  /** Hashes of the CAs that this node must trust. */
  onAuthorities?: (hashes: readonly string[]) => void;
  log: Logger;
  /** Called with what a controller says that containers must not reach, HOST:PORT. */
  onControl?: (addresses: readonly string[]) => void;
  /** Called with the version of each controller that it is connected to, and its HOST:PORT. */
  onVersion?: (version: string, address: string) => void;
  onState?: (state: SessionState) => void;
}

const DEBOUNCE_MS = 100;
export const REPORT_EVERY_MS = 10_000;
/** How long a controller may take to answer Hello before the next one is tried. */
const HELLO_WITHIN_MS = 3000;
/** How long a controller may take to end a session when the agent ends. */
const GOODBYE_WITHIN_MS = 300;
/** Randomized, so that a controller that comes back does not get every agent at once. */
const BACKOFF = { firstMs: 200, lastMs: 2000, jitter: { from: 0.5, to: 1.5 } } as const;

export function startSession(options: SessionOptions): Session {
  if (options.controllers.length === 0) {
    return {
      state: () => ({ state: 'none', address: '', error: '' }),
      changed: () => undefined,
      stop: () => Promise.resolve(),
    };
  }
  return new ControllerSession(options);
}

class ControllerSession implements Session {
  readonly #options: SessionOptions;
  readonly #stopping = new AbortController();
  readonly #ended: Promise<void>;
  #state: SessionState;
  #current: Conversation | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#state = { state: 'disconnected', address: options.controllers[0] ?? '', error: FIRST_ERROR };
    this.#ended = this.#run();
  }

  state(): SessionState {
    return { ...this.#state };
  }

  changed(): void {
    this.#current?.reportSoon();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#current?.end();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { controllers } = this.#options;
    const backoff = new Backoff(BACKOFF);
    while (!this.#stopping.signal.aborted) {
      for (const address of controllers) {
        if (this.#stopping.signal.aborted) return;
        const wasConnected = await this.#converse(address);
        if (wasConnected) {
          // From the start of the list: it is in order of preference.
          backoff.reset();
          break;
        }
      }
      const { signal } = this.#stopping;
      await delay(backoff.next(), undefined, { signal }).catch(() => undefined);
    }
  }

  /** @returns whether the controller had accepted the session */
  async #converse(address: string): Promise<boolean> {
    const conversation = new Conversation(address, this.#options, () => {
      this.#become({ state: 'connected', address, error: '' });
    });
    this.#current = conversation;
    const error = await conversation.ended;
    this.#current = undefined;
    if (!this.#stopping.signal.aborted) this.#become({ state: 'disconnected', address, error });
    return conversation.accepted;
  }

  #become(next: SessionState): void {
    const { log, onState } = this.#options;
    const before = this.#state;
    this.#state = next;
    if (before.state === next.state && before.error === next.error && before.address === next.address) return;
    // While several controllers are all down, they take turns here: one state, one line in the log.
    const isNews =
      before.state !== next.state || (before.error === FIRST_ERROR && next.state === 'disconnected');
    if (isNews && next.state === 'connected')
      log.info('connected to the controller', { controller: next.address });
    if (isNews && next.state === 'disconnected') {
      log.warn('no connection to the controller; the node works on without it', {
        controller: next.address,
        error: next.error,
      });
    }
    try {
      onState?.({ ...next });
    } catch (error) {
      log.error('a listener of the controller session failed', { error });
    }
  }
}

const FIRST_ERROR = 'not connected yet';

/** One stream to one controller, from Hello to its end. */
class Conversation {
  /** Settles with the reason when the session ends; never rejects. */
  readonly ended: Promise<string>;
  accepted = false;
  readonly #options: SessionOptions;
  readonly #client: SessionServiceClient;
  readonly #stream: ClientDuplexStream<AgentMessage, ControllerMessage>;
  readonly #onAccepted: () => void;
  #finish: (reason: string) => void = () => undefined;
  #over = false;
  #sequence = 0;
  #acknowledged = 0;
  #wantsReport = false;
  /** What the controller knows by this session. */
  #told = '';
  #debounce: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #feed: EventFeed | undefined;
  readonly #answers: AnswerStreams;
  /** When the message was sent that is acknowledged next. */
  #sentAt = performance.now();

  constructor(
    private readonly address: string,
    options: SessionOptions,
    onAccepted: () => void,
  ) {
    this.#options = options;
    this.#onAccepted = onAccepted;
    const peer = `the controller at ${address}`;
    this.#client = new SessionServiceClient(address, ...channel(address, options.tls));
    this.#stream = this.#client.connect();
    this.#answers = new AnswerStreams({
      answering: options.answering ?? (() => Promise.reject(notKnown())),
      reply: (reply) => this.#send({ $case: 'reply', value: reply }),
      failure: (error) => this.#failure(error),
    });
    const helloDeadline = setTimeout(() => this.#close(`${peer} did not answer in time`), HELLO_WITHIN_MS);
    this.ended = new Promise<string>((resolve) => {
      this.#finish = resolve;
    }).finally(() => clearTimeout(helloDeadline));
    this.#stream.on('data', (message: ControllerMessage) => {
      clearTimeout(helloDeadline);
      this.#receive(message);
    });
    this.#stream.on('error', (error) => this.#failed(error, { address, tls: options.tls }));
    this.#stream.on('end', () => this.#close(`${peer} ended the session`));
    this.#send({ $case: 'hello', value: options.hello });
  }

  reportSoon(): void {
    if (this.#over || !this.accepted) return;
    this.#debounce ??= setTimeout(() => {
      this.#debounce = undefined;
      this.#report();
    }, DEBOUNCE_MS);
  }

  /** The controller is told that somebody ends the agent, and ends the session. */
  end(): void {
    this.#send({ $case: 'goodbye', value: {} });
    this.#stream.end();
    setTimeout(() => this.#close('ending'), this.accepted ? GOODBYE_WITHIN_MS : 0);
  }

  #failed(error: Error, at: CalledAddress): void {
    const explained = explainFailure(error, { peer: `the controller at ${at.address}`, at });
    if (explained instanceof WeftError) return this.#close(reasonOf(explained));
    // The 'end' that follows the error has less detail.
    this.#stream.removeAllListeners('end');
    void explained.then((known) => this.#close(reasonOf(known)));
  }

  #receive({ message }: ControllerMessage): void {
    if (message?.$case === 'ack') return this.#acknowledge(message.value);
    if (message?.$case === 'authorities') return this.#options.onAuthorities?.(message.value.hashes);
    if (message?.$case === 'control') return this.#answers.control(message.value);
    if (message?.$case === 'request') void this.#carryOut(message.value);
  }

  #acknowledge({ sequence, control, events, time, version }: Acknowledgement): void {
    if (time > 0) this.#options.onTime?.(time, performance.now() - this.#sentAt);
    if (!this.accepted) {
      this.#options.onControl?.(control);
      this.#options.onVersion?.(version, this.address);
      this.accepted = true;
      this.#onAccepted();
      this.#heartbeat = setInterval(() => this.#report(), REPORT_EVERY_MS);
      const tell = (told: Event[]): void => this.#send({ $case: 'events', value: { events: told } });
      if (this.#options.events !== undefined) this.#feed = new EventFeed(this.#options.events, tell, events);
      return this.#report();
    }
    this.#feed?.acknowledge(events);
    this.#acknowledged = Math.max(this.#acknowledged, sequence);
    if (this.#wantsReport && this.#acknowledged === this.#sequence) this.#report();
  }

  // One report is in flight at a time: a slow controller gets the newest state, not every one.
  #report(): void {
    if (this.#over) return;
    this.#wantsReport = this.#acknowledged < this.#sequence;
    if (this.#wantsReport) return;
    try {
      const status = reportOf(this.#options.status());
      const told = JSON.stringify(status);
      const isNews = told !== this.#told;
      this.#told = told;
      this.#sequence += 1;
      this.#sentAt = performance.now();
      const value = { sequence: this.#sequence, status: isNews ? status : undefined };
      this.#send({ $case: 'report', value });
    } catch (error) {
      this.#options.log.error('the report for the controller could not be made', { error });
    }
  }

  async #carryOut({ id, request }: Request): Promise<void> {
    if (request?.$case === 'query') return await this.#answers.begin(id, request.value);
    const reply = await this.#replyTo(request);
    this.#send({ $case: 'reply', value: { id, reply } });
  }

  async #replyTo(request: SessionRequest | undefined): Promise<Reply['reply']> {
    try {
      if (request === undefined) throw notKnown();
      return await this.#options.handle(request);
    } catch (error) {
      return this.#failure(error);
    }
  }

  #failure(error: unknown): Reply['reply'] {
    const { code, message, next } =
      error instanceof WeftError ? error : new WeftError('INTERNAL', `a fault in weft: ${messageOf(error)}`);
    if (!(error instanceof WeftError))
      this.#options.log.error('a request of the controller failed', { error });
    return { $case: 'failure', value: { code, message, next: next ?? '' } };
  }

  #send(message: NonNullable<AgentMessage['message']>): void {
    if (!this.#over) this.#stream.write({ message });
  }

  #close(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#debounce);
    clearInterval(this.#heartbeat);
    this.#feed?.stop();
    this.#answers.stop();
    // Later errors, such as the CANCELLED of our own end, do not matter, but need a listener.
    this.#stream.removeAllListeners();
    this.#stream.on('error', () => undefined);
    this.#stream.cancel();
    this.#client.close();
    this.#finish(reason);
  }
}

const notKnown = (): WeftError =>
  new WeftError(
    'UNIMPLEMENTED',
    'the agent does not support this request',
    'Run the same version of weft on both sides.',
  );

const reasonOf = ({ message, next }: WeftError): string =>
  next === undefined ? message : `${message}. ${next}`;
