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

interface Known {
  question: Question;
  answer: OwnAnswer;
  result: Result;
  /** Whole, but for the id; undefined where there are several addresses, which are given in turn. */
  whole: Buffer | undefined;
  up: number;
  turn: number;
}

/** Beyond that many questions of different spelling there is somebody who makes them up. */
const MEMORY = 10_000;

export class Responder {
  /** By asker's address: what was asked from there lately. */
  readonly #askers = new Map<string, { asker: Asker; known: Map<string, Known> }>();
  /** Answers, by the networks that they are for. */
  readonly #byScope = new Map<string, Map<string, Known>>();
  #generation = -1;
  #size = 0;
  #turn = 0;

  constructor(private readonly options: ResponderOptions) {}

  /** Undefined: no answer is owed. Never throws. @param ip the asker's address */
  handle(message: Buffer, ip: string, transport: Transport): Buffer | Promise<Buffer> | undefined {
    const generation = this.options.generation();
    if (generation !== this.#generation || this.#size > MEMORY) this.#forget(generation);
    const place = this.#placeOf(ip);
    if (place !== undefined && transport === 'udp' && message.length > 2) {
      const known = place.known.get(message.toString('latin1', 2));
      if (known !== undefined) return this.#again(known, message.readUInt16BE(0));
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
    return this.#answer(question, message, place, transport);
  }

  #answer(
    question: Question,
    message: Buffer,
    { asker, known }: { asker: Asker; known: Map<string, Known> },
    transport: Transport,
  ): Buffer | Promise<Buffer> {
    const { upstream, world, onResult } = this.options;
    if (upstream.isProbe(question.name)) return refusal(question, RCODE.REFUSED);
    const meaning = meaningOf(world, question.name, question.type, asker.networks);
    if (meaning.kind === 'forward') {
      return upstream.forward(question, transport, asker.foreign).then(({ response, result }) => {
        onResult(result);
        return response;
      });
    }
    const { answer, up, result } = ownAnswer(question, meaning);
    const fresh: Known = {
      question: { ...question, bytes: Buffer.from(question.bytes) },
      answer,
      result,
      whole: answer.answers.length > 1 ? undefined : respond(question, answer, 'udp'),
      up,
      // Not always the same first one after every change.
      turn: this.#turn++,
    };
    if (transport === 'tcp') {
      onResult(result);
      return respond(question, { ...answer, answers: inTurn(answer.answers, up, fresh.turn) }, 'tcp');
    }
    known.set(message.toString('latin1', 2), fresh);
    this.#size++;
    return this.#again(fresh, question.id);
  }

  #again(known: Known, id: number): Buffer {
    this.options.onResult(known.result);
    const { question, answer, whole, up } = known;
    if (whole !== undefined) {
      const copy = Buffer.from(whole);
      copy.writeUInt16BE(id, 0);
      return copy;
    }
    const answers = inTurn(answer.answers, up, known.turn++);
    return respond({ ...question, id }, { ...answer, answers }, 'udp');
  }

  #placeOf(ip: string): { asker: Asker; known: Map<string, Known> } | undefined {
    const remembered = this.#askers.get(ip);
    if (remembered !== undefined) return remembered;
    const asker = this.options.askerAt(ip);
    if (asker === undefined) return undefined;
    const scope = asker.networks.join(',');
    let known = this.#byScope.get(scope);
    if (known === undefined) this.#byScope.set(scope, (known = new Map()));
    const place = { asker, known };
    this.#askers.set(ip, place);
    this.#size++;
    return place;
  }

  #forget(generation: number): void {
    this.#generation = generation;
    this.#askers.clear();
    this.#byScope.clear();
    this.#size = 0;
  }
}

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
