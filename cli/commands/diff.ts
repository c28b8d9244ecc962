// weft diff: what the agent's next comparison would change on a node.
import type { Command } from 'commander';

import type { PlannedStep } from '../../proto/gen/weft/v1/inspection.js';
import type { Action } from '../action.js';
import { name as nameOf } from '../checks.js';
import { askNode } from '../nodes.js';
import { printWarning, table, type Result } from '../output.js';

export function diffCommand(program: Command, action: Action): void {
  program
    .command('diff')
    .description('what a comparison with the kernel would change on a node; nothing is changed')
    .argument('[node]', 'another node than this host’s, through the controller', nameOf('node'))
    .action(
      action(async ({ connect }, [node]): Promise<Result> => {
        const steps: PlannedStep[] = [];
        const asking = { ...(node !== '' && { node }), question: { $case: 'diff', value: {} } } as const;
        await askNode(connect, asking, (answer) => {
          if (answer.$case === 'step') steps.push(answer.value);
          if (answer.$case === 'note') printWarning(answer.value);
        });
        if (steps.length > 0) process.exitCode = 1;
        return {
          value: { steps: steps.map(({ target, verb, what }) => ({ target, verb, what })) },
          text: () => (steps.length === 0 ? 'nothing to do' : textOf(steps)),
        };
      }),
    );
}

const textOf = (steps: readonly PlannedStep[]): Promise<string> =>
  table(
    ['TARGET', 'STEP', 'WHAT'],
    steps.map(({ target, verb, what }) => [target, verb, what]),
  );
