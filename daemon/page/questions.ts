// What the page asks at one moment: the body of POST /api/NAME to the answer of a service.
import { invalidArgument } from '../../core/errors.js';
import type { CheckIpamResponse } from '../../proto/gen/weft/v1/ipam.js';
import type { ListPoliciesResponse } from '../../proto/gen/weft/v1/controller.js';
import type { Event } from '../../proto/gen/weft/v1/events.js';
import type { PingPath } from '../../proto/gen/weft/v1/inspection.js';
import type { TraceResult } from '../../proto/gen/weft/v1/trace.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import type { CheckRight } from './live.js';
import type { Source } from './source.js';

/** By name: what the page gives, and what it gets. */
export interface Questions {
  trace: [{ from: string; to: string; protocol: string; port: number; size: number }, TraceResult];
  endpoint: [{ id: string }, Endpoint];
  ping: [{ node: string; peer: string; network: string }, { paths: PingPath[] }];
  ipam: [object, CheckIpamResponse];
  policies: [object, ListPoliciesResponse];
  /** @see parseEventObject */
  events: [{ object: string }, { events: Event[] }];
}
export type QuestionName = keyof Questions;

type Fields = Readonly<Record<string, unknown>>;
type Question = (source: Source, fields: Fields, signal: AbortSignal) => Promise<object>;

/** Longer than a trace takes, in milliseconds. */
const TRACE_MS = 10_000;
/** About one object. */
const LAST_EVENTS = 20;

const QUESTIONS: Record<QuestionName, { right: string; ask: Question }> = {
  trace: {
    right: 'TraceService/Trace',
    ask: (source, fields) => {
      const request = {
        ...{ from: text(fields, 'from'), to: text(fields, 'to'), protocol: text(fields, 'protocol') },
        ...{ port: count(fields, 'port'), size: count(fields, 'size'), fromHere: [], toHere: [] },
      };
      return source.ask('TraceService', (it) => it.trace, request, { deadlineMs: TRACE_MS });
    },
  },
  endpoint: {
    right: 'EndpointService/GetEndpoint',
    ask: (source, fields) =>
      source.ask('EndpointService', (it) => it.getEndpoint, { id: text(fields, 'id') }),
  },
  ping: {
    right: 'InspectionService/Inspect',
    ask: async (source, fields, signal) => {
      const value = { peer: text(fields, 'peer'), ip: '', network: text(fields, 'network'), count: 3 };
      const query = { node: text(fields, 'node'), query: { $case: 'ping', value } } as const;
      const paths: PingPath[] = [];
      await source.read(
        'InspectionService',
        (it) => it.inspect(query),
        ({ answer }) => {
          if (answer?.$case === 'path') paths.push(answer.value);
        },
        signal,
      );
      return { paths };
    },
  },
  ipam: {
    right: 'IpamService/CheckIpam',
    ask: (source) => source.ask('IpamService', (it) => it.checkIpam, {}, { deadlineMs: 30_000 }),
  },
  policies: {
    right: 'PolicyService/ListPolicies',
    ask: (source) => source.ask('PolicyService', (it) => it.listPolicies, {}),
  },
  events: {
    right: 'EventService/WatchEvents',
    ask: async (source, fields, signal) => {
      const request = {
        since: '',
        object: text(fields, 'object'),
        type: '',
        last: LAST_EVENTS,
        follow: false,
      };
      const events: Event[] = [];
      await source.read(
        'EventService',
        (it) => it.watchEvents(request),
        (event) => void events.push(event),
        signal,
      );
      return { events };
    },
  },
};

/** @throws WeftError INVALID_ARGUMENT, or as the controller answers */
export async function answer(
  name: string,
  body: string,
  options: { source: Source; checkRight: CheckRight; signal: AbortSignal },
): Promise<object> {
  const question = Object.entries(QUESTIONS).find(([known]) => known === name)?.[1];
  if (question === undefined)
    throw invalidArgument(`${name}: is no question`, `There are ${Object.keys(QUESTIONS).join(', ')}.`);
  const fields = parse(body);
  options.checkRight(question.right);
  return await question.ask(options.source, fields, options.signal);
}

function parse(body: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    throw invalidArgument('the body is no JSON', 'Send an object.', { cause: error });
  }
  if (typeof value !== 'object' || value === null)
    throw invalidArgument('the body is no object', 'Send one.');
  return value as Fields;
}

/** Empty where it is not given. */
function text(fields: Fields, name: string): string {
  const value = fields[name] ?? '';
  if (typeof value !== 'string') throw invalidArgument(`${name}: is no text`, 'Give a text.');
  return value;
}

/** 0 where it is not given. */
function count(fields: Fields, name: string): number {
  const value = fields[name] ?? 0;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 65_535)
    throw invalidArgument(`${name}: is no number of 0 to 65535`, 'Give such a number.');
  return value;
}
