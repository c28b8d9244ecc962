// Problems and warnings as text: object, cause and next step.
import { visible } from '../core/text.js';
import type { Problem } from '../proto/gen/weft/v1/types.js';

/** More of them push what is above off the screen: the causes come first. */
const MOST_PROBLEMS = 50;

export function problemLines(problems: readonly Problem[], heading = 'Problems'): string[] {
  if (problems.length === 0) return [];
  const rest = problems.length - MOST_PROBLEMS;
  return [
    '',
    `${heading}:`,
    ...problems
      .slice(0, MOST_PROBLEMS)
      .flatMap(({ what, why, fix, consequences }) =>
        [...[`  ${what}`, `    why: ${why}`, `    fix: ${fix}`], ...consequenceLines(consequences)].map(
          visible,
        ),
      ),
    ...(rest > 0 ? [`  and ${rest} more, see -o json`] : []),
  ];
}

/** A longer list does not help. */
const MOST_CONSEQUENCES = 10;

function consequenceLines(consequences: readonly string[]): string[] {
  const rest = consequences.length - MOST_CONSEQUENCES;
  const shown = consequences.slice(0, MOST_CONSEQUENCES).map((line) => `      - ${line}`);
  return [
    ...(shown.length === 0 ? [] : ['    so:']),
    ...shown,
    ...(rest > 0 ? [`      - and ${rest} more, see -o json`] : []),
  ];
}
