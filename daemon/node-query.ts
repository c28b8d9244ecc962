// Which questions to a node change nothing and show no traffic: everybody who may read may ask them.
import { invalidArgument } from '../core/errors.js';
import type { NodeQuery } from '../proto/gen/weft/v1/inspection.js';

type Question = NonNullable<NodeQuery['query']>['$case'];

const READING: ReadonlySet<Question> = new Set(['check', 'ping', 'traffic', 'diff', 'ipam']);

/** @throws WeftError INVALID_ARGUMENT for no question, and for one that only Operate answers */
export function checkQuery({ query }: NodeQuery, method: 'inspect' | 'operate'): void {
  if (query === undefined)
    throw invalidArgument('query: not given, or not known here', 'Run the same version of weft everywhere.');
  if (method === 'inspect' && !READING.has(query.$case))
    throw invalidArgument(`query: ${query.$case} is not answered by Inspect`, 'Call Operate.');
}
