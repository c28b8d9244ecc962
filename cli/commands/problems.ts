// Problems as text: object, cause and next step.
import type { Problem } from '../../proto/gen/weft/v1/types.js';

export function problemLines(problems: readonly Problem[]): string[] {
  if (problems.length === 0) return [];
  return [
    '',
    'Problems:',
    ...problems.flatMap(({ what, why, fix }) => [`  ${what}`, `    why: ${why}`, `    fix: ${fix}`]),
  ];
}
