// What the kernel refused and what was in the way, for whoever attaches and for `weft status`: with the next step, as far as
// what the kernel said lets that be known.
import { WeftError } from '../../core/errors.js';
import { describeObject, objectKey, sysctlName } from '../../core/objects.js';
import { describeStep, type Conflict } from '../../core/plan.js';
import type { StepFailure } from '../kernel/index.js';
import type { Problem, Problems } from '../health/index.js';

const AGAIN = 'It is tried again every 10 seconds.';

/** The next step, for `weft status`. */
export function nextStep({ step, errno }: StepFailure): string {
  const object = step.do === 'put' ? step.object : undefined;
  if (object?.kind === 'sysctl') {
    return `Set it yourself: sysctl -w ${sysctlName(object.path)}=${object.value}. ${AGAIN}`;
  }
  if (errno === 'EPERM') return `Give the agent CAP_NET_ADMIN, or run it as root. ${AGAIN}`;
  if (errno === 'EACCES' && object !== undefined && 'link' in object)
    return `If IPv6 is turned off there, turn it on: sysctl -w ${sysctlName(`net/ipv6/conf/${object.link}/disable_ipv6`)}=0 (and net.ipv6.conf.default.disable_ipv6=0 for links to come). ${AGAIN}`;
  return AGAIN;
}

/** Why an attach failed, and what must be done for it to work. @param where nothing of it was left */
export function attachError(failure: StepFailure, where: string, problems: Problems): WeftError {
  const { step } = failure;
  const { what } = describeStep(step);
  const master = step.do === 'create-link' && step.link.type === 'veth' ? step.link.master : '';
  const inTheWay = problems.get(`conflict link ${master}`);
  if (inTheWay !== undefined) {
    const why = `${inTheWay.what} is needed: ${inTheWay.why}`;
    return new WeftError('FAILED_PRECONDITION', why, `Nothing was left behind ${where}. ${inTheWay.fix}`);
  }
  return new WeftError(
    'FAILED_PRECONDITION',
    `the kernel refused ${what}: ${failure.message}`,
    `Nothing was left behind ${where}; see \`weft status\` for what else is wrong on this node.`,
  );
}

/** What is in weft's way, as problems. @param inside the container, where it is one */
export function conflictProblems(
  prefix: string,
  conflicts: readonly Conflict[],
  inside?: string,
): Map<string, Problem> {
  const where = inside === undefined ? '' : ` in ${inside}`;
  return new Map(
    conflicts.map(({ object, why }) => [
      `${prefix}${objectKey(object)}`,
      {
        what: `${describeObject(object)}${where}`,
        why,
        fix: 'Remove or rename the other one; weft takes the place within 10 seconds.',
      },
    ]),
  );
}

/** What the kernel refused, as problems. @param inside the container, where it is one */
export function stepProblems(
  prefix: string,
  failures: readonly StepFailure[],
  inside?: string,
): Map<string, Problem> {
  const where = inside === undefined ? '' : ` in ${inside}`;
  return new Map(
    failures.map((failure) => {
      const { verb, what } = describeStep(failure.step);
      const why = `the kernel refused to ${verb} it: ${failure.message}`;
      return [`${prefix}${what}`, { what: `${what}${where}`, why, fix: nextStep(failure) }];
    }),
  );
}
