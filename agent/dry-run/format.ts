// The answer of a dry run: one line a step, grouped by target, or JSON.
import type { PlannedStep, PlannedSteps } from './describe.js';

export function formatDryRun({ steps }: Pick<PlannedSteps, 'steps'>, format: 'text' | 'json'): string {
  if (format === 'json') {
    const plain = steps.map(({ target, verb, what }) => ({ target, verb, what }));
    return `${JSON.stringify({ steps: plain }, undefined, 2)}\n`;
  }
  if (steps.length === 0) return 'nothing to do\n';
  const groups = new Map<string, PlannedStep[]>();
  for (const step of steps) groups.set(step.target, [...(groups.get(step.target) ?? []), step]);
  const lines = [...groups].flatMap(([target, group]) => [
    target,
    ...group.map(({ verb, what }) => `  ${verb.padEnd('acquire'.length)}  ${what}`),
  ]);
  return `${[...lines, steps.length === 1 ? '1 step' : `${steps.length} steps`].join('\n')}\n`;
}
