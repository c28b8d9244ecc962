// From a message and where it came from to the answer. What is plain (a name of weft's, asked for over UDP) is answered from
// a small memory of whole answers, which any change of the names empties: nothing is taken apart or put together for it.
import { IpAddress } from '../../core/address.js';
import { addressesOf, inTurn, meaningOf, type Meaning, type World } from './answer.js';
import {
  addressRecord,
  pointerRecord,
  RCODE,
  receive,
  refusal,
  respond,
  type OwnAnswer,
  type Question,
  type Transport,
} from './message.js';
import { DOMAIN } from './resolv-conf.js';
import type { Upstream } from './upstream.js';

/** Who asks. */
export interface Asker {
  /** The networks that it is on, the one that it asks through first. */
  networks: readonly string[];
  /** No container of this node: the host, a container of another node, a program on one. */
  foreign: boolean;
}

/** What became of a question. */
export const RESULTS = [
  'answered',
  'empty',
  'unknown',
  'forwarded',
  'cached',
  'failed',
  'refused',
  'malformed',
] as const;
export type Result = (typeof RESULTS)[number];

export interface ResponderOptions {
  world: World;
  upstream: Upstream;
  /** Another number after every change of what names mean, or of who is on which network. */
  generation: () => number;
  /** Undefined for who has no business asking. */
  askerAt: (ip: string) => Asker | undefined;
  onResult: (result: Result) => void;
}

/** What a name and a type mean to those on certain networks. */
interface Known {
  answer: OwnAnswer;
  up: number;
  result: Result;
  turn: number;
}

/** A question as it came, byte for byte but for its id. */
interface Asked {
  question: Question;
  known: Known;
  /** Whole, but for the id; undefined where there are several addresses, which are given in turn. */
  response: Buffer | undefined;
}

/** What those on the same networks have asked lately. */
interface Scope {
  asked: Map<string, Asked>;
  known: Map<string, Known>;
}

interface Place extends Scope {
  asker: Asker;
}

/** Beyond that many questions of different spelling there is somebody who makes them up. */
const MEMORY = 10_000;
/** Longer ones are not remembered: a question has no need of it, and what is kept has a bound in bytes. */
const MEMORABLE_BYTES = 512;

export class Responder {
  readonly #places = new Map<string, Place>();
  readonly #scopes = new Map<string, Scope>();
  #generation = -1;
  /** How much is remembered. */
  #size = 0;
  #turn = 0;

  constructor(private readonly options: ResponderOptions) {}

  /** Undefined: no answer is owed. Never throws. @param ip the asker's address */
  handle(message: Buffer, ip: string, transport: Transport): Buffer | Promise<Buffer> | undefined {
    const generation = this.options.generation();
    if (generation !== this.#generation || this.#size > MEMORY) this.#forget(generation);
    const place = this.#placeOf(ip);
    const memorable = transport === 'udp' && message.length > 2 && message.length <= MEMORABLE_BYTES;
    if (place !== undefined && memorable) {
      const asked = place.asked.get(message.toString('latin1', 2));
      if (asked !== undefined) return this.#again(asked, message.readUInt16BE(0));
    }
    const received = receive(message);
    if (received.kind === 'ignored') return undefined;
    if (received.kind === 'refused') {
      this.options.onResult(received.rcode === RCODE.FORMERR ? 'malformed' : 'refused');
      return received.response;
    }
    const { question } = received;
    if (place === undefined) {
      this.options.onResult('refused');
      return refusal(question, RCODE.REFUSED);
    }
    if (this.options.upstream.isProbe(question.name)) return refusal(question, RCODE.REFUSED);
    const known = this.#knownOf(question, place);
    if (known === undefined) return this.#forward(question, place.asker, transport);
    if (!memorable) {
      this.options.onResult(known.result);
      return respond(question, turned(known), transport);
    }
    const asked: Asked = {
      question: { ...question, bytes: Buffer.from(question.bytes) },
      known,
      response: known.answer.answers.length > 1 ? undefined : respond(question, known.answer, 'udp'),
    };
    place.asked.set(message.toString('latin1', 2), asked);
    this.#size++;
    return this.#again(asked, question.id);
  }

  async #forward(question: Question, { foreign }: Asker, transport: Transport): Promise<Buffer> {
    const { response, result } = await this.options.upstream.forward(question, transport, foreign);
    this.options.onResult(result);
    return response;
  }

  /** Undefined where somebody else has to be asked. */
  #knownOf(question: Question, { asker, known }: Place): Known | undefined {
    const key = `${question.type} ${question.name}`;
    const remembered = known.get(key);
    if (remembered !== undefined) return remembered;
    const meaning = meaningOf(this.options.world, question.name, question.type, asker.networks);
    if (meaning.kind === 'forward') return undefined;
    // Not always the same first one after every change.
    const fresh: Known = { ...ownAnswer(question, meaning), turn: this.#turn++ };
    known.set(key, fresh);
    this.#size++;
    return fresh;
  }

  #again({ question, known, response }: Asked, id: number): Buffer {
    this.options.onResult(known.result);
    if (response === undefined) return respond({ ...question, id }, turned(known), 'udp');
    const copy = Buffer.from(response);
    copy.writeUInt16BE(id, 0);
    return copy;
  }

  #placeOf(ip: string): Place | undefined {
    const remembered = this.#places.get(ip);
    if (remembered !== undefined) return remembered;
    const asker = this.options.askerAt(ip);
    if (asker === undefined) return undefined;
    const name = asker.networks.join(',');
    let scope = this.#scopes.get(name);
    if (scope === undefined) this.#scopes.set(name, (scope = { asked: new Map(), known: new Map() }));
    const place = { asker, ...scope };
    this.#places.set(ip, place);
    this.#size++;
    return place;
  }

  #forget(generation: number): void {
    this.#generation = generation;
    this.#places.clear();
    this.#scopes.clear();
    this.#size = 0;
  }
}

/** The answer with its addresses in the next order. */
const turned = (known: Known): OwnAnswer => ({
  ...known.answer,
  answers: inTurn(known.answer.answers, known.up, known.turn++),
});

/** weft's own answer to what it knows about itself. */
export function ownAnswer(
  question: Pick<Question, 'name' | 'type'>,
  meaning: Exclude<Meaning, { kind: 'forward' }>,
): { answer: OwnAnswer; up: number; result: Result } {
  const inDomain = question.name === DOMAIN || question.name.endsWith(`.${DOMAIN}`);
  const made = (
    result: Result,
    answers: readonly Buffer[],
    up = answers.length,
  ): ReturnType<typeof ownAnswer> => ({
    answer: { rcode: result === 'unknown' ? RCODE.NXDOMAIN : RCODE.NOERROR, answers, inDomain },
    up,
    result,
  });
  switch (meaning.kind) {
    case 'addresses': {
      const { addresses, up } = addressesOf(meaning, question.type);
      return made(addresses.length === 0 ? 'empty' : 'answered', addresses.map(addressRecord), up);
    }
    case 'names':
      return made('answered', meaning.names.map(pointerRecord));
    case 'empty':
      return made('empty', []);
    case 'unknown':
      return made('unknown', []);
  }
}

/** The address without a zone, which a link-local one has; undefined where it is none. */
export const plainAddress = (text: string): IpAddress | undefined =>
  IpAddress.tryParse(text.split('%')[0] ?? '');
