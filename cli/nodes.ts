// Questions to nodes: to this host's agent, or to any node through the controller.
import { WeftError } from '../core/errors.js';
import type { NodeAnswer, NodeQuery } from '../proto/gen/weft/v1/inspection.js';
import type { Node } from '../proto/gen/weft/v1/types.js';
import { READ_MS, type Connector } from './connect.js';

type Question = NonNullable<NodeQuery['query']>;
type Answer = NonNullable<NodeAnswer['answer']>;
type Value<K extends Answer['$case']> = Extract<Answer, { $case: K }>['value'];

/** Nodes that are asked at once. */
const AT_ONCE = 16;

interface Asking {
  /** Undefined: this host's own. */
  node?: string | undefined;
  question: Question;
  /** Ends the question; what was answered counts. */
  signal?: AbortSignal | undefined;
  /** `operate`: what only managers may ask. */
  method?: 'inspect' | 'operate';
}

/** Settles when the node has answered all. @throws WeftError */
export async function askNode(
  connect: Connector,
  { node, question, signal, method = 'inspect' }: Asking,
  onAnswer: (answer: Answer) => void,
): Promise<void> {
  const whom = node === undefined ? 'agent' : 'controller';
  const query = { node: node ?? '', query: question };
  await connect.inspect({ whom, method, query, signal }, ({ answer }) => {
    if (answer !== undefined) onAnswer(answer);
  });
}

/** All answers of one kind. */
export async function answersOf<K extends Answer['$case']>(
  connect: Connector,
  kind: K,
  asking: Asking,
): Promise<Value<K>[]> {
  const found: Value<K>[] = [];
  await askNode(connect, asking, (answer) => {
    if (answer.$case === kind) found.push(answer.value as Value<K>);
  });
  return found;
}

export const listNodes = async (connect: Connector): Promise<Node[]> =>
  (await connect.controller('NodeService', (client) => client.listNodes, {}, READ_MS)).nodes;

/** Calls it for each, several at once, and keeps the order. An error is the result of its node. */
export async function forEachNode<T>(
  nodes: readonly string[],
  ask: (node: string) => Promise<T>,
): Promise<{ node: string; result: T | WeftError }[]> {
  const results: { node: string; result: T | WeftError }[] = [];
  const waiting = [...nodes.entries()];
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [at, node] = next;
      try {
        results[at] = { node, result: await ask(node) };
      } catch (error) {
        if (!(error instanceof WeftError)) throw error;
        results[at] = { node, result: error };
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return results;
}
