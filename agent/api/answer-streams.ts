// Queries that a controller forwards: their answers go back through the session, as fast as their caller reads them.
import type { NodeAnswer, NodeQuery } from '../../proto/gen/weft/v1/inspection.js';
import type { QueryControl, Reply } from '../../proto/gen/weft/v1/session.js';

/** Answers a query: each call of `send` settles when the next answer may be sent, and rejects where nobody reads any more. */
export type Answering = (
  query: NodeQuery,
  send: (answer: NodeAnswer) => Promise<void>,
  signal: AbortSignal,
) => Promise<void>;

/** Answers of one query that may be under way. */
const WINDOW = 16;

interface Stream {
  abort: AbortController;
  /** How many more answers may be sent. */
  credit: number;
  more: () => void;
}

export interface AnswerStreamsOptions {
  answering: Answering;
  reply: (reply: Reply) => void;
  failure: (error: unknown) => Reply['reply'];
}

export class AnswerStreams {
  readonly #streams = new Map<number, Stream>();

  constructor(private readonly options: AnswerStreamsOptions) {}

  async begin(id: number, query: NodeQuery): Promise<void> {
    const { answering, reply, failure } = this.options;
    const stream: Stream = { abort: new AbortController(), credit: WINDOW, more: () => undefined };
    this.#streams.set(id, stream);
    const { signal } = stream.abort;
    const send = async (answer: NodeAnswer): Promise<void> => {
      while (stream.credit === 0 && !signal.aborted) await new Promise<void>((go) => (stream.more = go));
      signal.throwIfAborted();
      stream.credit--;
      reply({ id, reply: { $case: 'answer', value: answer } });
    };
    let end: Reply['reply'] = { $case: 'done', value: {} };
    try {
      await answering(query, send, signal);
    } catch (error) {
      // Nobody waits for it any more, and that it was ended is no fault.
      if (!signal.aborted) end = failure(error);
    }
    this.#streams.delete(id);
    if (!signal.aborted) reply({ id, reply: end });
  }

  control({ id, more, cancel }: QueryControl): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.credit += more;
    if (cancel) stream.abort.abort();
    stream.more();
  }

  stop(): void {
    for (const { abort, more } of this.#streams.values()) {
      abort.abort();
      more();
    }
  }
}
