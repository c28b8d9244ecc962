// Answers questions about this node.
import { notFound, unimplemented } from '../../core/errors.js';
import type { NodeAnswer, NodeQuery } from '../../proto/gen/weft/v1/inspection.js';
import { describePreview } from '../dry-run/index.js';
import type { Answering } from '../api/index.js';
import { bundle } from './bundle.js';
import { capture } from './capture.js';
import { checkNode } from './checks.js';
import { localEndpoints } from './local-endpoints.js';
import type { InspectOptions } from './options.js';
import { ping } from './ping.js';
import { trafficOf } from './traffic.js';

type Answer = NonNullable<NodeAnswer['answer']>;

export const inspector =
  (options: InspectOptions): Answering =>
  async ({ node, query }, send, signal) => {
    if (node !== '' && node !== options.node)
      throw notFound(`node ${node}: this is the agent of ${options.node}`, 'Ask a controller.');
    await send({ answer: undefined });
    for await (const answer of answersTo(query, options, signal)) await send({ answer });
  };

async function* answersTo(
  query: NodeQuery['query'],
  options: InspectOptions,
  signal: AbortSignal,
): AsyncGenerator<Answer> {
  switch (query?.$case) {
    case 'check':
      for (const value of await checkNode(options)) yield { $case: 'check', value };
      return;
    case 'ping':
      for await (const value of ping(query.value, options, signal)) yield { $case: 'path', value };
      return;
    case 'traffic':
      for (const value of trafficOf(options)) yield { $case: 'traffic', value };
      return;
    case 'diff':
      yield* plannedSteps(options);
      return;
    case 'ipam':
      for (const value of localEndpoints(options)) yield { $case: 'endpoint', value };
      return;
    case 'capture':
      yield* capture(query.value, options, signal);
      return;
    case 'sandbox':
      yield* options.sandboxes.run(query.value, signal);
      return;
    case 'probe':
      yield { $case: 'probe', value: await options.sandboxes.probe(query.value) };
      return;
    case 'bundle':
      yield* bundle(options);
      return;
    default:
      throw unimplemented(
        'this agent does not know this question',
        'Run the same version of weft everywhere.',
      );
  }
}

async function* plannedSteps({ reconciler, endpoints, attachments }: InspectOptions): AsyncGenerator<Answer> {
  const { steps, notes } = describePreview(await reconciler.preview(), ({ kind, id }) =>
    kind === 'endpoint'
      ? endpoints.get(id)?.target
      : attachments.list().find((attachment) => attachment.id === id)?.target,
  );
  for (const value of steps) yield { $case: 'step', value };
  for (const value of notes) yield { $case: 'note', value };
}
