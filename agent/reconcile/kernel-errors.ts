// Errors and problems from refused steps and conflicts.
//
// They go to the caller of an attach and to a target's problems, with the next step as far as the kernel's error shows it.
import { WeftError } from '../../core/errors.js';
import { describeObject, linkKey, objectKey, sysctlName } from '../../core/objects/index.js';
import { describeStep, type Conflict } from '../../core/plan.js';
import { NODE, type Problem, type Problems, type ProblemScope } from '../health/index.js';
import type { StepFailure } from '../kernel/index.js';

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

/** Why an attach failed, and what the operator can do. @param where the place that was cleaned up */
export function attachError(failure: StepFailure, where: string, problems: Problems): WeftError {
  const { step } = failure;
  const { what } = describeStep(step);
  const master = step.do === 'create-link' && step.link.type === 'veth' ? step.link.master : '';
  const inTheWay = problems.get({ scope: NODE, kind: 'conflict', id: linkKey(master) });
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

/** Replaces a target's conflict problems by these. @param where ` in PATH` for a container */
export function reportConflicts(
  problems: Problems,
  scope: ProblemScope,
  conflicts: readonly Conflict[],
  where = '',
): void {
  const found = conflicts.map(({ object, why }): [string, Problem] => [
    objectKey(object),
    {
      what: `${describeObject(object)}${where}`,
      why,
      fix: 'Remove or rename the other one; weft takes the place within 10 seconds.',
    },
  ]);
  problems.replace(scope, 'conflict', new Map(found));
}

/** Replaces a target's step problems by these failures. @param where ` in PATH` for a container */
export function reportFailures(
  problems: Problems,
  scope: ProblemScope,
  failures: readonly StepFailure[],
  where = '',
): void {
  const refused = failures.map((failure): [string, Problem] => {
    const { verb, what } = describeStep(failure.step);
    const why = `the kernel refused to ${verb} it: ${failure.message}`;
    return [what, { what: `${what}${where}`, why, fix: nextStep(failure) }];
  });
  problems.replace(scope, 'step', new Map(refused));
}
