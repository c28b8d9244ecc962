// Problems and warnings as text: object, cause and next step.
import { visible } from '../../core/text.js';
import type { Problem } from '../../proto/gen/weft/v1/types.js';

export function problemLines(problems: readonly Problem[], heading = 'Problems'): string[] {
  if (problems.length === 0) return [];
  return [
    '',
    `${heading}:`,
    ...problems.flatMap(({ what, why, fix }) =>
      [`  ${what}`, `    why: ${why}`, `    fix: ${fix}`].map(visible),
    ),
  ];
}
