// The session of one agent: requests to it, and its end.
import type { ServerDuplexStream } from '@grpc/grpc-js';

import { aborted, deadlineExceeded, parseErrorCode, unavailable, WeftError } from '../core/errors.js';
import { toServiceError } from '../daemon/grpc.js';
import type { NodeAnswer, NodeQuery } from '../proto/gen/weft/v1/inspection.js';
import type { AgentMessage, ControllerMessage, Reply, Request } from '../proto/gen/weft/v1/session.js';
import type { Clock } from './clock.js';

/** What an agent answers a request with. */
/** To a request that has one. */
export type SessionAnswer = Exclude<NonNullable<Reply['reply']>, { $case: 'failure' | 'answer' | 'done' }>;

const isWhole = (reply: NonNullable<Reply['reply']>): reply is SessionAnswer =>
  reply.$case !== 'failure' && reply.$case !== 'answer' && reply.$case !== 'done';

export type Stream = ServerDuplexStream<AgentMessage, ControllerMessage>;

const REPLY_WITHIN_MS = 10_000;
/** How long an agent may take to begin the answer to a query. */
const BEGIN_WITHIN_MS = 3000;
/** A node carries out requests one network at a time: more than this many waiting means that it has stalled. */
const MOST_PENDING = 256;
/** How long a living agent may take to answer when another connection claims its name; less than an agent waits for its Hello. */
const ALIVE_WITHIN_MS = 1500;
/** A timer holds 24 days at most; an agent that is sent away connects again. */
const LONGEST_MS = 20 * 24 * 3_600_000;

export class AgentSession {
  readonly peer: string;
  /** The hashes of CAs that its agent was told last. */
  told = '';
  /** Its agent has said that it ends. */
  saidGoodbye = false;
  readonly #pending = new Map<
    number,
    { resolve: (answer: SessionAnswer) => void; reject: (error: Error) => void }
  >();
  readonly #queries = new Map<
    number,
    { take: (answer: NodeAnswer) => void; done: () => void; reject: (error: Error) => void }
  >();
  #nextId = 1;
  #over = false;
  #cancelEnd: () => void = () => undefined;

  constructor(
    readonly node: string,
    readonly instance: string,
    readonly stream: Stream,
    readonly clock: Clock,
  ) {
    this.peer = stream.getPeer();
  }

  send(message: NonNullable<ControllerMessage['message']>): void {
    if (!this.#over) this.stream.write({ message });
  }

  /** Ends it with the agent's certificate. @param until milliseconds since 1970 */
  endAt(until: number): void {
    this.#cancelEnd = this.clock.after(Math.min(until - this.clock.now(), LONGEST_MS), () =>
      this.end(unavailable(`node ${this.node}: its certificate ended, and it must show a new one`)),
    );
  }

  /** Whether the agent answers: a request that it does not know is answered, too. */
  answers(): Promise<boolean> {
    const id = this.#nextId++;
    return new Promise((resolve) => {
      const settle = (lives: boolean): void => {
        cancelDeadline();
        this.#pending.delete(id);
        resolve(lives);
      };
      const cancelDeadline = this.clock.after(ALIVE_WITHIN_MS, () => settle(false));
      this.#pending.set(id, { resolve: () => settle(true), reject: () => settle(!this.#over) });
      this.send({ $case: 'request', value: { id, request: undefined } });
    });
  }

  request(request: NonNullable<Request['request']>, signal: AbortSignal): Promise<SessionAnswer> {
    if (this.#pending.size >= MOST_PENDING) return Promise.reject(this.#isBusy());
    const id = this.#nextId++;
    return new Promise<SessionAnswer>((resolve, reject) => {
      const settle = (): void => {
        cancelDeadline();
        signal.removeEventListener('abort', giveUp);
        this.#pending.delete(id);
      };
      const fail = (error: Error): void => {
        settle();
        reject(error);
      };
      const giveUp = (): void => fail(aborted(`node ${this.node}: the request was given up`));
      const cancelDeadline = this.clock.after(REPLY_WITHIN_MS, () => {
        fail(
          deadlineExceeded(
            `node ${this.node}: its agent did not answer within ${REPLY_WITHIN_MS / 1000} s`,
            'It may still carry the request out: look at weft endpoint ls, and at the log of the agent.',
          ),
        );
      });
      this.#pending.set(id, {
        resolve: (answer) => {
          settle();
          resolve(answer);
        },
        reject: fail,
      });
      if (signal.aborted) return giveUp();
      signal.addEventListener('abort', giveUp, { once: true });
      this.send({ $case: 'request', value: { id, request } });
    });
  }

  #isBusy(): WeftError {
    return unavailable(`node ${this.node}: ${MOST_PENDING} requests wait for its agent`, 'Try again later.');
  }

  /**
   * Settles when the agent has answered all.
   * @param take the agent sends more when it has settled
   */
  query(query: NodeQuery, take: (answer: NodeAnswer) => Promise<void>, signal: AbortSignal): Promise<void> {
    if (this.#queries.size >= MOST_PENDING) return Promise.reject(this.#isBusy());
    const id = this.#nextId++;
    return new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        cancelDeadline();
        signal.removeEventListener('abort', giveUp);
        this.#queries.delete(id);
      };
      const fail = (error: Error): void => {
        settle();
        reject(error);
      };
      const cancel = (error: Error): void => {
        this.send({ $case: 'control', value: { id, more: 0, cancel: true } });
        fail(error);
      };
      const giveUp = (): void => cancel(aborted(`node ${this.node}: the request was given up`));
      const cancelDeadline = this.clock.after(BEGIN_WITHIN_MS, () =>
        cancel(
          deadlineExceeded(
            `node ${this.node}: its agent did not answer within ${BEGIN_WITHIN_MS / 1000} s`,
            'See whether it hangs or has much to do: weft node inspect, and its log.',
          ),
        ),
      );
      const pass = async (answer: NodeAnswer): Promise<void> => {
        cancelDeadline();
        await take(answer);
        this.send({ $case: 'control', value: { id, more: 1, cancel: false } });
      };
      this.#queries.set(id, {
        take: (answer) => void pass(answer).catch(giveUp),
        done: () => {
          settle();
          resolve();
        },
        reject: fail,
      });
      if (signal.aborted) return giveUp();
      signal.addEventListener('abort', giveUp, { once: true });
      this.send({ $case: 'request', value: { id, request: { $case: 'query', value: query } } });
    });
  }

  reply({ id, reply }: Reply): void {
    const query = this.#queries.get(id);
    if (query !== undefined && reply?.$case === 'answer') return query.take(reply.value);
    if (query !== undefined && reply?.$case === 'done') return query.done();
    // Unknown id: the answer came after the deadline.
    const waiting = this.#pending.get(id);
    if (waiting !== undefined && reply !== undefined && isWhole(reply)) return waiting.resolve(reply);
    const { code, message, next } =
      reply?.$case === 'failure'
        ? reply.value
        : { code: 'INTERNAL', message: `node ${this.node}: an empty reply`, next: '' };
    (query ?? waiting)?.reject(new WeftError(parseErrorCode(code), message, next === '' ? undefined : next));
  }

  end(reason: WeftError): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelEnd();
    for (const waiting of [...this.#pending.values(), ...this.#queries.values()]) waiting.reject(reason);
    refuse(this.stream, reason);
  }
}

/** Ends a stream with an error's status. */
export function refuse(stream: Stream, error: unknown): void {
  if (stream.cancelled || stream.destroyed) return;
  // grpc-js sends an emitted error as the status; the session's own listener has run already.
  stream.emit('error', toServiceError(error));
}
