// Forwards queries outside weft to upstream servers, with a cache.
//
// Servers are asked in order of preference and responsiveness, every wait is bounded, and equal queries share one exchange.
// Queries never loop: weft's own addresses are no servers, and a query that arrives while the same one is open may come from a
// server that forwards to weft, which a probe then detects.
import { randomBytes, randomInt } from 'node:crypto';

import { encode } from 'dns-packet';

import { messageOf } from '../../core/errors.js';
import { DNS, type Problems } from '../health/index.js';
import { askTcp, askUdp, shownServer, type ServerAddress } from './exchange.js';
import {
  canonicalQuestion,
  isTruncated,
  RCODE,
  rcodeOf,
  refusal,
  type Question,
  type Transport,
} from './message.js';
import { DOMAIN } from './resolv-conf.js';
import { keyOfQuestion, queryOf } from './upstream-query.js';
import { answerWith, readResponse, type Response } from './response.js';

/** A server for every name, or for one domain and its subdomains. */
export interface UpstreamServer extends ServerAddress {
  /** In lower case, without leading and trailing dots. */
  domain?: string;
}

export interface UpstreamOptions {
  /** Servers in order of preference; called for every query. */
  servers: () => readonly UpstreamServer[];
  /** Whether weft itself answers on this address. */
  isOwn: (ip: string) => boolean;
  problems: Problems;
  /** Called after every exchange that ended with an answer. */
  onAnswered?: (server: string, seconds: number) => void;
  /** Milliseconds, of a monotonic clock. */
  now?: () => number;
}

export type ForwardResult = 'forwarded' | 'cached' | 'failed';
export interface Forwarded {
  response: Buffer;
  result: ForwardResult;
  /** The server that answered. */
  server?: string;
}

/** The next server is asked as well if this one has not answered by then. */
const NEXT_AFTER_MS = 1000;
/** Shorter than the timeout of resolvers (5 s, resolv.conf(5)), so that they receive the failure. */
const GIVE_UP_MS = 4500;
/** How long a server that did not answer is asked last. */
const UNRESPONSIVE_MS = 30_000;
const LOOP_MS = 60_000;
const CACHE_SIZE = 4096;
/** Limit of open queries; further ones fail at once rather than late. */
const MAX_OPEN = 512;
/** Of one client, so that one that asks without end leaves most of them to the others. */
const MAX_OPEN_OF_CLIENT = 64;

/** An open query. */
interface Open {
  name: string;
  answer: Promise<Kept>;
  /** The servers asked so far. */
  asked: ReadonlySet<string>;
  giveUp: (why: Error) => void;
}

interface Kept {
  response: Response;
  since: number;
  server: string;
}

export class Upstream {
  readonly #cache = new Map<string, Kept>();
  readonly #open = new Map<string, Open>();
  /** How many of them each client has begun, by its address. */
  readonly #openOf = new Map<string, number>();
  /** Servers that are asked last, and until when. */
  readonly #unresponsive = new Map<string, number>();
  /** Servers that are not asked, and until when. */
  readonly #looping = new Map<string, number>();
  /** Probe names that were sent to a server to detect a loop. */
  readonly #probes = new Map<string, ServerAddress>();
  /** Exchanges under way, which end with the agent. */
  readonly #running = new Set<AbortController>();
  readonly #now: () => number;

  constructor(private readonly options: UpstreamOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  /** Forgets what was learnt from the previous servers. */
  reset(): void {
    this.#cache.clear();
    this.#unresponsive.clear();
    this.#looping.clear();
    this.options.problems.replace(DNS, 'forwarding-loop', new Map());
  }

  stop(): void {
    for (const controller of this.#running) controller.abort(new Error('the agent ends'));
  }

  /** Number of open queries. */
  get open(): number {
    return this.#open.size;
  }

  /** The servers for a name: those of its longest matching domain, else the general ones; never weft itself. */
  serversFor(name: string): UpstreamServer[] {
    const now = this.#now();
    const usable = this.options
      .servers()
      .filter((server) => !this.options.isOwn(server.ip) && (this.#looping.get(keyOf(server)) ?? 0) <= now);
    const fitting = usable.filter(({ domain }) => domain === undefined || isBelow(name, domain));
    const longest = Math.max(-1, ...fitting.map(({ domain }) => domain?.length ?? -1));
    const chosen = fitting.filter(({ domain }) => (domain?.length ?? -1) === longest);
    const isUnresponsive = (server: UpstreamServer): number =>
      (this.#unresponsive.get(keyOf(server)) ?? 0) > now ? 1 : 0;
    return chosen.toSorted((a, b) => isUnresponsive(a) - isUnresponsive(b));
  }

  /**
   * Forwards a query of a client. Always returns a response; the worst is SERVFAIL.
   * @param external whether the client is not a container of this node: it may then be a server that forwards to weft
   * @param client its address; absent: its open queries are not bounded
   */
  async forward(
    question: Question,
    transport: Transport,
    external: boolean,
    client?: string,
  ): Promise<Forwarded> {
    const canonical = canonicalQuestion(question.bytes);
    const key = keyOfQuestion(question, canonical);
    const kept = this.#kept(key);
    if (kept !== undefined && !(transport === 'tcp' && isTruncated(kept.response.bytes))) {
      const age = Math.floor((this.#now() - kept.since) / 1000);
      return {
        response: answerWith(kept.response, question, age, transport),
        result: 'cached',
        server: kept.server,
      };
    }
    const openKey = `${transport} ${key}`;
    let open = this.#open.get(openKey);
    // Usually another client, or the same one again, has the same query: all wait for the one answer.
    const back = external ? (open ?? this.#open.get(`udp ${key}`)) : undefined;
    if (back !== undefined) this.#suspect(back.asked);
    try {
      if (open === undefined) {
        if (this.#open.size >= MAX_OPEN) throw new Error('too many queries are open');
        this.#count(client, 1);
        const asked = new Set<string>();
        const { controller, signal, end } = this.#limited(GIVE_UP_MS);
        const answer = this.#ask(question, canonical, transport, asked, signal);
        open = { name: question.name, answer, asked, giveUp: (why) => controller.abort(why) };
        this.#open.set(openKey, open);
        // Cached or failed: the next query starts anew.
        const done = (): void => {
          this.#open.delete(openKey);
          this.#count(client, -1);
          controller.abort(new Error('another server has answered'));
          end();
        };
        answer
          .then(
            (fresh) => this.#keep(key, fresh),
            () => undefined,
          )
          .finally(done)
          .catch(() => undefined);
      }
      const { response, server } = await open.answer;
      return { response: answerWith(response, question, 0, transport), result: 'forwarded', server };
    } catch {
      return { response: refusal(question, RCODE.SERVFAIL), result: 'failed' };
    }
  }

  /** @throws Error where the client has its share of the open queries */
  #count(client: string | undefined, change: 1 | -1): void {
    if (client === undefined) return;
    const open = (this.#openOf.get(client) ?? 0) + change;
    if (open > MAX_OPEN_OF_CLIENT) throw new Error('too many queries of this client are open');
    if (open > 0) this.#openOf.set(client, open);
    else this.#openOf.delete(client);
  }

  /** Whether a name is that of a probe; then the probed server forwards to weft. */
  isProbe(name: string): boolean {
    const server = this.#probes.get(name);
    if (server === undefined) return false;
    this.#probes.delete(name);
    const shown = shownServer(server);
    this.#looping.set(keyOf(server), this.#now() + LOOP_MS);
    this.options.problems.set(
      { scope: DNS, kind: 'forwarding-loop', id: shown },
      {
        what: `the name server ${shown}`,
        why: 'it forwards queries to weft, which would forward them back; it is not asked for a minute',
        fix: 'Give it upstream servers of its own, or give weft others with --dns-server.',
      },
    );
    for (const open of this.#open.values())
      if (this.serversFor(open.name).length === 0) open.giveUp(new Error('there is no other server'));
    return true;
  }

  #kept(key: string): Kept | undefined {
    const kept = this.#cache.get(key);
    if (kept === undefined) return undefined;
    if (this.#now() - kept.since < kept.response.keepSeconds * 1000) return kept;
    this.#cache.delete(key);
    return undefined;
  }

  #keep(key: string, kept: Kept): void {
    if (kept.response.keepSeconds <= 0) return;
    this.#cache.delete(key);
    this.#cache.set(key, kept);
    if (this.#cache.size <= CACHE_SIZE) return;
    const oldest = this.#cache.keys().next().value;
    if (oldest !== undefined) this.#cache.delete(oldest);
  }

  /** @throws Error where no server answered in time */
  async #ask(
    question: Question,
    canonical: Buffer,
    transport: Transport,
    asked: Set<string>,
    signal: AbortSignal,
  ): Promise<Kept> {
    const servers = this.serversFor(question.name);
    if (servers.length === 0) throw new Error('there is no server');
    const waitedFor = new Set<UpstreamServer>();
    return firstOf(
      servers.map((server) => async () => {
        // A server that has not answered before the next one is asked is asked last from now on.
        for (const late of waitedFor) this.#noteUnresponsive(late);
        asked.add(keyOf(server));
        waitedFor.add(server);
        try {
          return await this.#askOne(server, question, canonical, transport, signal);
        } finally {
          waitedFor.delete(server);
        }
      }),
      NEXT_AFTER_MS,
      signal,
    );
  }

  async #askOne(
    server: UpstreamServer,
    question: Question,
    canonical: Buffer,
    transport: Transport,
    signal: AbortSignal,
  ): Promise<Kept> {
    const id = randomInt(0x10000);
    const message = queryOf(id, question, canonical);
    const read = (bytes: Buffer): Response | undefined => readResponse(Buffer.from(bytes), id, canonical);
    const began = this.#now();
    try {
      let response = await askUdp(server, message, read, signal);
      if (isTruncated(response.bytes) && transport === 'tcp')
        response = await askTcp(server, message, read, signal);
      this.#unresponsive.delete(keyOf(server));
      this.options.onAnswered?.(shownServer(server), (this.#now() - began) / 1000);
      const rcode = rcodeOf(response.bytes);
      if (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN) throw new RefusedAnswer(rcode);
      return { response, since: this.#now(), server: shownServer(server) };
    } catch (error) {
      if (!signal.aborted && !(error instanceof RefusedAnswer)) this.#noteUnresponsive(server);
      throw error;
    }
  }

  #noteUnresponsive(server: UpstreamServer): void {
    this.#unresponsive.set(keyOf(server), this.#now() + UNRESPONSIVE_MS);
  }

  /** A signal that aborts after a timeout, or with the agent. */
  #limited(ms: number): { controller: AbortController; signal: AbortSignal; end: () => void } {
    const controller = new AbortController();
    this.#running.add(controller);
    const timer = setTimeout(() => controller.abort(new Error('no server answered in time')), ms);
    const end = (): void => {
      clearTimeout(timer);
      this.#running.delete(controller);
    };
    return { controller, signal: controller.signal, end };
  }

  /** A query came back: probes every server asked with a name that only this agent knows. */
  #suspect(asked: ReadonlySet<string>): void {
    for (const server of this.options.servers()) {
      if (!asked.has(keyOf(server)) || [...this.#probes.values()].some((one) => keyOf(one) === keyOf(server)))
        continue;
      const name = `${randomBytes(8).toString('hex')}.loop.${DOMAIN}`;
      this.#probes.set(name, server);
      const message = encode({
        type: 'query',
        id: randomInt(0x10000),
        flags: 0x0100,
        questions: [{ type: 'TXT', name }],
      });
      const { signal, end } = this.#limited(NEXT_AFTER_MS * 2);
      void askUdp(server, message, () => true, signal)
        .catch(() => undefined)
        .finally(() => {
          this.#probes.delete(name);
          end();
        });
    }
  }
}

class RefusedAnswer extends Error {
  constructor(rcode: number) {
    super(`the server answered with code ${rcode}`);
  }
}

const keyOf = ({ ip, port }: ServerAddress): string => `${ip} ${port}`;
const isBelow = (name: string, domain: string): boolean => name === domain || name.endsWith(`.${domain}`);

/**
 * The first success. The next server is tried when one fails, or beside it when it has not answered for a while.
 * @throws Error of the last one, or the signal's reason
 */
async function firstOf<T>(
  attempts: readonly (() => Promise<T>)[],
  waitMs: number,
  signal: AbortSignal,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    let next = 0;
    let running = 0;
    let timer: NodeJS.Timeout | undefined;
    const finish = (act: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', aborted);
      next = attempts.length;
      act();
    };
    const aborted = (): void => finish(() => reject(signal.reason as Error));
    const start = (): void => {
      clearTimeout(timer);
      const attempt = attempts[next++];
      if (attempt === undefined) return;
      running++;
      timer = setTimeout(start, waitMs);
      attempt().then(
        (value) => finish(() => resolve(value)),
        (error: unknown) => {
          running--;
          if (next < attempts.length) start();
          else if (running === 0) finish(() => reject(new Error(messageOf(error), { cause: error })));
        },
      );
    };
    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted, { once: true });
    start();
  });
}
