// Answers DNS messages, from a cache of complete responses if possible.
//
// The cache serves plain queries (a name of weft's, over UDP) without decoding or encoding. Any change of the names empties it.
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

/** The client of a query. */
export interface Client {
  /** Its networks, the one of its source address first. */
  networks: readonly string[];
  /** Not a container of this node: the host, or a container or program of another node. */
  external: boolean;
  /** Only on internal networks: nothing of it leaves the host, a query neither. */
  isolated: boolean;
}

/** Results of a query. */
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
  /** Changes whenever the meaning of names or the networks of clients change. */
  generation: () => number;
  /** Undefined where the address may not send queries: the answer is REFUSED. */
  clientAt: (ip: string) => Client | undefined;
  onResult: (result: Result) => void;
}

/** The answer to a name and type for clients on the same networks. */
interface Known {
  answer: OwnAnswer;
  up: number;
  result: Result;
  turn: number;
}

/** A query, byte for byte but for its id. */
interface Asked {
  question: Question;
  known: Known;
  /** Complete but for the id; undefined for several addresses, which are rotated. */
  response: Buffer | undefined;
}

/** Recent queries of clients on the same networks. */
interface Scope {
  asked: Map<string, Asked>;
  known: Map<string, Known>;
}

interface Place extends Scope {
  client: Client;
}

/** More queries of different spelling than this are made up by a client. */
const MEMORY = 10_000;
/** Longer messages are not cached: no normal query is longer, and the cache is bounded in bytes. */
const MEMORABLE_BYTES = 512;

export class Responder {
  readonly #places = new Map<string, Place>();
  readonly #scopes = new Map<string, Scope>();
  #generation = -1;
  /** The number of cached items. */
  #size = 0;
  #turn = 0;

  constructor(private readonly options: ResponderOptions) {}

  /** @returns undefined where no answer is due. Never throws. @param ip the client's address */
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
    if (known === undefined) {
      if (!place.client.isolated) return this.#forward(question, place.client, transport, ip);
      this.options.onResult('refused');
      return refusal(question, RCODE.REFUSED);
    }
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

  async #forward(
    question: Question,
    { external }: Client,
    transport: Transport,
    ip: string,
  ): Promise<Buffer> {
    const { response, result } = await this.options.upstream.forward(question, transport, external, ip);
    this.options.onResult(result);
    return response;
  }

  /** Undefined where the query has to be forwarded. */
  #knownOf(question: Question, { client, known }: Place): Known | undefined {
    const key = `${question.type} ${question.name}`;
    const remembered = known.get(key);
    if (remembered !== undefined) return remembered;
    const meaning = meaningOf(this.options.world, question.name, question.type, client.networks);
    if (meaning.kind === 'forward') return undefined;
    // Start elsewhere, or the same address would be first after every change.
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
    const client = this.options.clientAt(ip);
    if (client === undefined) return undefined;
    const name = client.networks.join(',');
    let scope = this.#scopes.get(name);
    if (scope === undefined) this.#scopes.set(name, (scope = { asked: new Map(), known: new Map() }));
    const place = { client, ...scope };
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

/** The answer with its addresses in the next rotation. */
const turned = (known: Known): OwnAnswer => ({
  ...known.answer,
  answers: inTurn(known.answer.answers, known.up, known.turn++),
});

/** weft's own answer, from its own names. */
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

/** Parses an address without the zone of a link-local one; undefined where it is invalid. */
export const plainAddress = (text: string): IpAddress | undefined =>
  IpAddress.tryParse(text.split('%')[0] ?? '');
