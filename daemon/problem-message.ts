// Problems as messages of the services.
import type { Problem } from '../core/problem.js';
import type { Problem as ProblemMessage } from '../proto/gen/weft/v1/types.js';

/** Without what only the node itself needs, to find out what follows from what. */
export const problemMessage = (problem: Problem): ProblemMessage => {
  const { what, why, fix, consequences = [], isCause = false, broken = [] } = problem;
  return {
    ...{ what, why, fix, consequences, isCause },
    broken: broken.map(({ node, network, family, hears }) => ({ node, network, family, hears })),
  };
};
