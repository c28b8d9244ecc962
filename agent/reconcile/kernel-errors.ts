// Errors and problems from refused steps and conflicts.
//
// They go to the caller of an attach and to a target's problems, with the next step as far as the kernel's error shows it.
import { WeftError } from '../../core/errors.js';
import {
  describeObject,
  ipv6Enabled,
  itemKindOf,
  linkKey,
  linkKindOf,
  objectKey,
  sysctlName,
  type SysctlObject,
} from '../../core/objects/index.js';
import { describeStep, type Conflict } from '../../core/plan.js';
import { NODE, type Problem, type Problems, type ProblemScope } from '../health/index.js';
import type { StepFailure } from '../kernel/index.js';
import type { PortHolder } from './port-holder.js';

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

/** A problem, and what it keeps from working. */
export interface Obstacle {
  problem: Problem;
  /** Links that are not there, or not up. */
  missing: readonly string[];
  /** Kernel settings are wrong. */
  settings?: true;
}

/** Replaces a target's conflict problems by these. @param where ` in PATH` for a container */
export function reportConflicts(
  problems: Problems,
  scope: ProblemScope,
  conflicts: readonly Conflict[],
  where = '',
): Obstacle[] {
  const found = new Map(
    conflicts.map(({ object, why, fix }): [string, Obstacle] => [
      objectKey(object),
      {
        problem: {
          what: `${describeObject(object)}${where}`,
          why,
          fix: fix ?? 'Remove or rename the other one; weft takes the place within 10 seconds.',
        },
        missing: object.kind === 'link' ? [object.name] : [],
      },
    ]),
  );
  return report(problems, scope, 'conflict', found);
}

/**
 * Replaces a target's step problems by these failures: one for each cause, without what follows from it.
 * @param holders by UDP port that a tunnel found in use: who has it
 * @param where ` in PATH` for a container
 */
export function reportFailures(
  problems: Problems,
  scope: ProblemScope,
  failures: readonly StepFailure[],
  where = '',
  holders: ReadonlyMap<number, PortHolder> = new Map(),
): Obstacle[] {
  const found = new Map<string, Obstacle>();
  const causes = causesOf(failures);
  const settings = causes.filter(isSetting);
  if (settings.length > 0) found.set('settings', settingsObstacle(settings, where));
  for (const [port, holder] of holders) found.set(`udp ${port}`, portObstacle(port, holder, causes));
  for (const failure of causes) {
    const { step } = failure;
    if (isSetting(failure) || holders.has(portInUse(failure) ?? 0)) continue;
    const { verb, what } = describeStep(step);
    const why = `the kernel refused to ${verb} it: ${failure.message}`;
    found.set(what, {
      problem: { what: `${what}${where}`, why, fix: nextStep(failure) },
      missing: 'link' in step ? [step.link.name] : [],
    });
  }
  return report(problems, scope, 'step', found);
}

function report(
  problems: Problems,
  scope: ProblemScope,
  kind: 'conflict' | 'step',
  found: ReadonlyMap<string, Obstacle>,
): Obstacle[] {
  problems.replace(scope, kind, new Map([...found].map(([id, { problem }]) => [id, problem])));
  return [...found.values()];
}

type Setting = StepFailure & { step: { do: 'put'; object: SysctlObject } };

const isSetting = (failure: StepFailure): failure is Setting =>
  failure.step.do === 'put' && failure.step.object.kind === 'sysctl';

/** The UDP port that keeps a tunnel down. */
export function portInUse({ step, errno }: StepFailure): number | undefined {
  if (errno !== 'EADDRINUSE') return undefined;
  if (step.do === 'put') return step.object.kind === 'pump' ? step.object.port : undefined;
  return 'link' in step && 'port' in step.link ? step.link.port : undefined;
}

/** The tunnel that a step is about. */
const tunnelOf = ({ step }: StepFailure): string[] =>
  'link' in step
    ? [step.link.name]
    : step.do === 'put' && step.object.kind === 'pump'
      ? [step.object.link]
      : [];

/** Failures without those of what lies on a link that failed itself, or that has no IPv6 because it could not be turned on. */
function causesOf(failures: readonly StepFailure[]): StepFailure[] {
  const links = new Set(failures.flatMap(({ step }) => ('link' in step ? [step.link.name] : [])));
  const settings = new Set(
    failures.flatMap((failure) => (isSetting(failure) ? [failure.step.object.path] : [])),
  );
  return failures.filter(({ step }) => {
    if (step.do === 'delete-link') return true;
    if ('link' in step) {
      const kind = linkKindOf(step.link);
      return ![kind.link?.(step.link), kind.bridge?.(step.link)].some((link) => links.has(link ?? ''));
    }
    const kind = itemKindOf(step.object);
    const link = kind.link?.(step.object);
    if (links.has(link ?? '') || links.has(kind.bridge?.(step.object) ?? '')) return false;
    const isIpv6 = step.object.kind !== 'sysctl' && objectKey(step.object).includes(':');
    return link === undefined || !isIpv6 || !settings.has(ipv6Enabled(link).path);
  });
}

function settingsObstacle(failures: readonly Setting[], where: string): Obstacle {
  const objects = failures.map(({ step }) => step.object);
  const names = objects.map(({ path }) => sysctlName(path));
  const wanted = objects.map(({ path, value }) => `${sysctlName(path)}=${value}`).join(' ');
  const may = failures.some(({ errno }) => ['EROFS', 'EACCES', 'EPERM'].includes(errno))
    ? ' Or let the agent write below /proc/sys, which a container may not unless it is privileged.'
    : '';
  return {
    problem: {
      what: `${names.length === 1 ? 'a kernel setting' : `${names.length} kernel settings`}${where}`,
      why: `${names.join(', ')} ${names.length === 1 ? 'has another value' : 'have other values'}, and the agent cannot set ${names.length === 1 ? 'it' : 'them'}: ${[...new Set(failures.map(({ errno }) => errno))].join(', ')}`,
      fix: `Set ${names.length === 1 ? 'it' : 'them'} yourself: sysctl -w ${wanted}.${may} ${AGAIN}`,
    },
    missing: [],
    settings: true,
  };
}

function portObstacle(port: number, { who, fix }: PortHolder, failures: readonly StepFailure[]): Obstacle {
  const tunnels = failures.flatMap((failure) => (portInUse(failure) === port ? tunnelOf(failure) : []));
  return {
    problem: {
      what: `UDP port ${port}`,
      why: `${who} has it, and ${tunnels.join(', ')} cannot be up without it`,
      fix: `${fix}, or give the network another port (weft network create --port). ${AGAIN}`,
    },
    missing: tunnels,
  };
}
