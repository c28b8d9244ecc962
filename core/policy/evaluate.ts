// What the policies say of one packet, and which of them says it.
//
// A plain evaluator: it is what people are told (`weft policy test`), and what the compiled form is tested against.
import type { IpAddress } from '../address.js';
import type { Policy, PortRange } from './policy.js';
import { holdsAddress, isOfAddresses, selects, type Selector, type Subject } from './selector.js';

export interface PolicyWorld {
  policies: readonly Policy[];
  /** Names of isolated networks. */
  isolated: ReadonlySet<string>;
  /** The container or node that has the address. */
  subjectOf: (ip: IpAddress) => Subject | undefined;
}

/** The first packet of a connection. */
export interface PolicyPacket {
  from: IpAddress;
  to: IpAddress;
  /** Absent: of another protocol. */
  protocol?: 'tcp' | 'udp';
  /** At the container. */
  port?: number;
}

export interface PolicyVerdict {
  verdict: 'allowed' | 'denied';
  /** What allows it, or closes the target; null: no policy concerns it, or the isolation of its network closes it. */
  policy: string | null;
  why: string;
}

/** Names the rule for a packet. */
export function judge(world: PolicyWorld, packet: PolicyPacket): PolicyVerdict {
  const { from, to } = packet;
  const target = world.subjectOf(to);
  if (target?.network === undefined || target.host === true)
    return { verdict: 'allowed', policy: null, why: `${to.toString()} is no container’s address` };
  const closing = closingOf(world, target, to);
  if (closing === undefined)
    return { verdict: 'allowed', policy: null, why: 'no policy selects the target, which is open' };
  const source = world.subjectOf(from);
  const fitting = closing.policies.filter((policy) => comesFrom(policy.from, source, from));
  const allowing = fitting.find(({ ports }) => admits(ports, packet));
  if (allowing !== undefined)
    return { verdict: 'allowed', policy: allowing.name, why: `policy ${allowing.name} allows it` };
  const { by, unlabelled } = closing;
  if (unlabelled === true)
    return { verdict: 'denied', policy: null, why: 'the labels of the target are not known yet' };
  const why =
    by === undefined
      ? `network ${target.network} is isolated, and no policy allows it`
      : `policy ${by} selects the target, and no policy allows it`;
  const [other] = fitting;
  const hint = other === undefined ? '' : `; ${other.name} allows other ports`;
  return { verdict: 'denied', policy: by ?? null, why: why + hint };
}

export interface Closing {
  /** Those that select the target. */
  policies: readonly Policy[];
  /** The first of them; undefined: the network's isolation. */
  by: string | undefined;
  /** Its labels are not known yet: it admits nothing. */
  unlabelled?: true;
}

/** Whether a policy may select the target once its labels are known: until then it admits nothing. */
const awaitsLabels = (policies: readonly Policy[], { unlabelled }: Subject): boolean =>
  unlabelled === true && askForLabels(policies);

/** Whether any of them selects targets by labels. */
export const askForLabels = (policies: readonly Policy[]): boolean =>
  policies.some(({ to }) => to.some(({ terms }) => terms.some(({ kind }) => kind === 'label')));

/** Why the target admits only what is allowed; undefined: it is open. */
export function closingOf(
  { policies, isolated }: Pick<PolicyWorld, 'policies' | 'isolated'>,
  target: Subject,
  ip: IpAddress,
): Closing | undefined {
  if (awaitsLabels(policies, target)) return { policies: [], by: undefined, unlabelled: true };
  const selecting = policies.filter(({ to }) => to.some((selector) => selects(selector, target, ip)));
  if (selecting.length === 0 && (target.network === undefined || !isolated.has(target.network)))
    return undefined;
  return { policies: selecting, by: selecting[0]?.name };
}

const comesFrom = (selectors: readonly Selector[], source: Subject | undefined, ip: IpAddress): boolean =>
  selectors.some((selector) =>
    source === undefined
      ? isOfAddresses(selector) && holdsAddress(selector, ip)
      : selects(selector, source, ip),
  );

const admits = (ports: readonly PortRange[], { protocol, port = 0 }: PolicyPacket): boolean =>
  ports.length === 0 ||
  ports.some((range) => range.protocol === protocol && range.first <= port && port <= range.last);
