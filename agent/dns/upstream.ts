// Questions that are not weft's own go to the servers of the host: one after the other as they answer, with a cache, and an
// end to every wait. The same question asked by many is asked once. Questions never run in circles: weft's own addresses are
// no servers, and one that comes while it is still open may come from a server that hands everything on to weft, which is
// then found out.
import { randomBytes, randomInt } from 'node:crypto';

import { encode } from 'dns-packet';

import { messageOf } from '../../core/errors.js';
import { DNS, type Problems } from '../health/index.js';
import { askTcp, askUdp, shownServer, type ServerAddress } from './exchange.js';
import {
  canonicalQuestion,
  EDNS_UDP_BYTES,
  HEADER_BYTES,
  isTruncated,
  RCODE,
  rcodeOf,
  refusal,
  type Question,
  type Transport,
} from './message.js';
import { DOMAIN } from './resolv-conf.js';
import { answerWith, readResponse, type Response } from './response.js';

/** A server for everything, or for one domain and what is below it. */
export interface UpstreamServer extends ServerAddress {
  /** In lower case, without dots around it. */
  domain?: string;
}

export interface UpstreamOptions {
  /** Servers in order of preference; asked anew for every question. */
  servers: () => readonly UpstreamServer[];
  /** Addresses that weft itself answers at. */
  isOwn: (ip: string) => boolean;
  problems: Problems;
  /** Told of every exchange that ended with an answer. */
  onAnswered?: (server: string, seconds: number) => void;
  /** Milliseconds, of a clock that nobody sets. */
  now?: () => number;
}

export type ForwardResult = 'forwarded' | 'cached' | 'failed';
export interface Forwarded {
  response: Buffer;
  result: ForwardResult;
  /** Who answered. */
  server?: string;
}

/** The next server is asked as well when this one has not answered by then. */
const NEXT_AFTER_MS = 1000;
/** Before resolvers give up on weft (5 s, resolv.conf(5)), so that they hear of it. */
const GIVE_UP_MS = 4500;
/** A server that did not answer comes last for so long. */
const SULK_MS = 30_000;
const LOOP_MS = 60_000;
const CACHE_SIZE = 4096;
/** Questions that wait for servers at once; what comes beyond is refused at once, rather than late. */
const MAX_OPEN = 512;

/** A question that waits for servers. */
interface Open {
  name: string;
  answer: Promise<Kept>;
  /** The servers that have been asked so far. */
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
  /** Servers that are asked last, until when. */
  readonly #sulking = new Map<string, number>();
  /** Servers that are not asked, until when. */
  readonly #looping = new Map<string, number>();
  /** Names that were sent to a server to see whether they come back. */
  readonly #probes = new Map<string, ServerAddress>();
  /** What is under way, to be ended with the agent. */
  readonly #running = new Set<AbortController>();
  readonly #now: () => number;

  constructor(private readonly options: UpstreamOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  /** What was learnt from servers that are no more is no more. */
  reset(): void {
    this.#cache.clear();
    this.#sulking.clear();
    this.#looping.clear();
    this.options.problems.replace(DNS, 'forwarding-loop', new Map());
  }

  stop(): void {
    for (const controller of this.#running) controller.abort(new Error('the agent ends'));
  }

  /** How many questions wait for an answer. */
  get open(): number {
    return this.#open.size;
  }

  /** The servers for a name: those of the longest domain that it is in, else the general ones; never weft itself. */
  serversFor(name: string): UpstreamServer[] {
    const now = this.#now();
    const usable = this.options
      .servers()
      .filter((server) => !this.options.isOwn(server.ip) && (this.#looping.get(keyOf(server)) ?? 0) <= now);
    const fitting = usable.filter(({ domain }) => domain === undefined || isBelow(name, domain));
    const longest = Math.max(-1, ...fitting.map(({ domain }) => domain?.length ?? -1));
    const chosen = fitting.filter(({ domain }) => (domain?.length ?? -1) === longest);
    const sulks = (server: UpstreamServer): number => ((this.#sulking.get(keyOf(server)) ?? 0) > now ? 1 : 0);
    return chosen.toSorted((a, b) => sulks(a) - sulks(b));
  }

  /**
   * Asks for somebody. Always answers, in the worst case that it failed.
   * @param foreign whether the asker is no container of this node: then it may be a server that asks back
   */
  async forward(question: Question, transport: Transport, foreign: boolean): Promise<Forwarded> {
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
    // Most often another one, or the same one again, just wants to know it, too: everybody waits for the one answer.
    const back = foreign ? (open ?? this.#open.get(`udp ${key}`)) : undefined;
    if (back !== undefined) this.#suspect(back.asked);
    try {
      if (open === undefined) {
        if (this.#open.size >= MAX_OPEN) throw new Error('too many questions are open');
        const asked = new Set<string>();
        const { controller, signal, end } = this.#limited(GIVE_UP_MS);
        const answer = this.#ask(question, canonical, transport, asked, signal);
        open = { name: question.name, answer, asked, giveUp: (why) => controller.abort(why) };
        this.#open.set(openKey, open);
        // Whether it is kept or failed: the next one asks anew.
        const done = (): void => {
          this.#open.delete(openKey);
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

  /** Whether a question is one that was sent to see whether it comes back; then its server runs in circles. */
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
        why: 'it hands questions on to weft, which would hand them back to it; it is not asked for a minute',
        fix: 'Give it servers of its own, or name others for weft with --dns-server.',
      },
    );
    for (const open of this.#open.values())
      if (this.serversFor(open.name).length === 0) open.giveUp(new Error('there is no other server to ask'));
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

  /** @throws Error where no server gave an answer in time */
  async #ask(
    question: Question,
    canonical: Buffer,
    transport: Transport,
    asked: Set<string>,
    signal: AbortSignal,
  ): Promise<Kept> {
    const servers = this.serversFor(question.name);
    if (servers.length === 0) throw new Error('there is no server to ask');
    const waitedFor = new Set<UpstreamServer>();
    return firstOf(
      servers.map((server) => async () => {
        // What has not answered by the time the next one is asked is asked later from now on.
        for (const late of waitedFor) this.#sulk(late);
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
      this.#sulking.delete(keyOf(server));
      this.options.onAnswered?.(shownServer(server), (this.#now() - began) / 1000);
      const rcode = rcodeOf(response.bytes);
      if (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN) throw new RefusedAnswer(rcode);
      return { response, since: this.#now(), server: shownServer(server) };
    } catch (error) {
      if (!signal.aborted && !(error instanceof RefusedAnswer)) this.#sulk(server);
      throw error;
    }
  }

  #sulk(server: UpstreamServer): void {
    this.#sulking.set(keyOf(server), this.#now() + SULK_MS);
  }

  /** A signal that ends after a while, or with the agent. */
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

  /** A question came back: which of the servers sends them back is found with a name that only this agent knows. */
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

/** What the answer depends on. */
function keyOfQuestion({ flags, edns }: Question, canonical: Buffer): string {
  const bits = `${(flags & 0x0010) === 0 ? '' : 'c'}${edns === undefined ? '' : 'e'}${edns?.dnssecOk === true ? 'd' : ''}`;
  return `${bits} ${canonical.toString('latin1')}`;
}

/** The question as weft asks it: recursion is wanted always, EDNS as far as the asker knows it, none of its options. */
function queryOf(id: number, { flags, edns }: Question, canonical: Buffer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(0x0100 | (flags & 0x0010), 2);
  header.writeUInt16BE(1, 4);
  if (edns === undefined) return Buffer.concat([header, canonical]);
  header.writeUInt16BE(1, 10);
  const opt = Buffer.from([
    0,
    0,
    41,
    EDNS_UDP_BYTES >> 8,
    EDNS_UDP_BYTES & 0xff,
    0,
    0,
    edns.dnssecOk ? 0x80 : 0,
    0,
    0,
    0,
  ]);
  return Buffer.concat([header, canonical, opt]);
}

/**
 * The first that succeeds: the next one is tried when one fails, or has not answered for a while and goes on beside it.
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
