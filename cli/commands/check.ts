// weft check: what a node needs, looked at one after the other.
import { setTimeout as delay } from 'node:timers/promises';

import type { Command } from 'commander';

import { WeftError } from '../../core/errors.js';
import type { Check } from '../../proto/gen/weft/v1/inspection.js';
import { Problem } from '../../proto/gen/weft/v1/types.js';
import type { Action } from '../action.js';
import { integer } from '../checks.js';
import type { Connector } from '../connect.js';
import { answersOf, forEachNode, listNodes } from '../nodes.js';
import { printNote, table, type Result } from '../output.js';
import { problemLines } from '../problem-lines.js';

/** Of one node; null: of this host, whose agent does not answer. */
type NodeCheck = Check & { node: string | null };

interface CheckOptions {
  all?: true;
  wait?: number;
}

const EVERY_MS = 1000;

export function checkCommand(program: Command, action: Action): void {
  program
    .command('check')
    .description('look at everything that a node needs; failures come last, each with the next step')
    .option('--all', 'every node of the cluster, through the controller')
    .option('--wait <seconds>', 'look again until all is well, so long at most', integer('wait', 1, 86_400))
    .action(
      action(async ({ connect }, _words, { all, wait = 0 }: CheckOptions): Promise<Result> => {
        const until = performance.now() + wait * 1000;
        let checks = await look(connect, all === true);
        if (wait > 0 && !isGood(checks)) printNote(`waiting up to ${wait} s until all is well`);
        while (!isGood(checks) && performance.now() < until) {
          await delay(EVERY_MS);
          checks = await look(connect, all === true);
        }
        if (!isGood(checks)) process.exitCode = 1;
        return {
          value: {
            ok: isGood(checks),
            checks: checks.map(({ node, group, name, ok, what, why, fix }) => ({
              ...{ node, group, name, what, why, fix },
              ok: ok ?? null,
            })),
          },
          text: () => textOf(checks),
        };
      }),
    );
}

const isGood = (checks: readonly NodeCheck[]): boolean => checks.every(({ ok }) => ok !== false);

const QUESTION = { $case: 'check', value: {} } as const;

async function look(connect: Connector, all: boolean): Promise<NodeCheck[]> {
  try {
    if (!all) {
      const node = await ownName(connect);
      return (await answersOf(connect, 'check', { question: QUESTION })).map((check) => ({ ...check, node }));
    }
    return await lookAtAll(connect);
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    return [
      all
        ? failed(null, 'controller', 'the controller', error)
        : failed(null, 'agent', 'the agent of this host', error),
    ];
  }
}

async function ownName(connect: Connector): Promise<string> {
  const { node } = await connect.agent('StatusService', (client) => client.getStatus, {}, 5000);
  return node?.name ?? '';
}

async function lookAtAll(connect: Connector): Promise<NodeCheck[]> {
  const nodes = await listNodes(connect);
  const down = nodes.filter(({ state }) => state !== 'up');
  const up = nodes.filter(({ state }) => state === 'up').map(({ name }) => name);
  const answers = await forEachNode(up, (node) => answersOf(connect, 'check', { node, question: QUESTION }));
  return [
    ...answers.flatMap(({ node, result }) =>
      result instanceof WeftError
        ? [failed(node, 'agent', `node ${node}`, result)]
        : result.map((check) => ({ ...check, node })),
    ),
    ...down.map(({ name, why }) => ({
      ...failed(name, 'node', `node ${name}`, undefined),
      why: why ?? 'it is down',
      fix: `Start its agent; if it is gone for good: weft node rm ${name}.`,
    })),
  ];
}

const failed = (
  node: string | null,
  name: string,
  what: string,
  error: WeftError | undefined,
): NodeCheck => ({
  ...{ node, name, what },
  group: 'agent',
  ok: false,
  why: error?.message ?? '',
  fix: error?.next ?? '',
});

const RESULT = { true: 'ok', false: 'FAILED', undefined: '?' } as const;

async function textOf(checks: readonly NodeCheck[]): Promise<string> {
  const bad = checks.filter(({ ok }) => ok === false);
  const several = new Set(checks.map(({ node }) => node)).size > 1;
  const rows = checks
    .filter(({ ok }) => ok !== false)
    .map(({ node, group, ok, what, why }) => [
      ...(several ? [node ?? ''] : []),
      group,
      RESULT[`${ok ?? undefined}`],
      why === '' ? what : `${what}: ${why}`,
    ]);
  const problems = bad.map(({ node, what, why, fix }) =>
    Problem.fromPartial({ what: several && node !== null ? `${node}: ${what}` : what, why, fix }),
  );
  const open = checks.length - bad.length - checks.filter(({ ok }) => ok === true).length;
  return [
    ...(rows.length === 0
      ? []
      : [await table([...(several ? ['NODE'] : []), 'GROUP', 'RESULT', 'WHAT'], rows)]),
    ...problemLines(problems, 'Failed'),
    '',
    `${checks.length} checks: ${bad.length} failed${open > 0 ? `, ${open} not known or not needed` : ''}`,
  ].join('\n');
}
