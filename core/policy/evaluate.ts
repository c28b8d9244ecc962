// What the policies say of one packet, and which of them says it.
//
// A plain evaluator: it is what people are told (`weft policy test`), and what the compiled form is tested against.
import type { IpAddress } from '../address.js';
import type { Policy, PortRange } from './policy.js';
import {
  holdsAddress,
  isOfAddresses,
  selects,
  selectsTarget,
  type Selector,
  type Subject,
} from './selector.js';

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
  const [source, target] = [world.subjectOf(from), world.subjectOf(to)];
  const open = (why: string): PolicyVerdict => ({ verdict: 'allowed', policy: null, why });
  if (target?.network === undefined && target?.host !== true)
    return open(`${to.toString()} is the address of no container and no host`);
  if (target.host === true && (source?.network === undefined || source.host === true))
    return open('what reaches a host from no container is for the host’s own firewall');
  const closing = closingOf(world, target, to);
  if (closing === undefined) return open('no policy selects the target, which is open');
  const fitting = closing.policies.filter((policy) => comesFrom(policy.from, source, from));
  const allowing = fitting.find(({ ports }) => admits(ports, packet));
  if (allowing !== undefined)
    return { verdict: 'allowed', policy: allowing.name, why: `policy ${allowing.name} allows it` };
  const { by, unlabelled } = closing;
  if (unlabelled === true)
    return { verdict: 'denied', policy: null, why: 'the labels of the target are not known yet' };
  const why =
    by === undefined
      ? `network ${target.network ?? ''} is isolated, and no policy allows it`
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
const awaitsLabels = (policies: readonly Policy[], { host, unlabelled }: Subject): boolean =>
  unlabelled === true && host !== true && askForLabels(policies);

/** Whether any of them selects targets by labels. */
export const askForLabels = (policies: readonly Policy[]): boolean =>
  policies.some(({ to }) => to.some(({ terms }) => terms.some(({ kind }) => kind === 'label')));

/** A node is no target of isolation. */
export const isIsolated = (isolated: ReadonlySet<string>, { host, network }: Subject): boolean =>
  host !== true && network !== undefined && isolated.has(network);

/** Why the target admits only what is allowed; undefined: it is open. @param ip undefined: one that is not known */
export function closingOf(
  { policies, isolated }: Pick<PolicyWorld, 'policies' | 'isolated'>,
  target: Subject,
  ip: IpAddress | undefined,
): Closing | undefined {
  if (awaitsLabels(policies, target)) return { policies: [], by: undefined, unlabelled: true };
  const selecting = policies.filter(({ to }) => to.some((selector) => selectsTarget(selector, target, ip)));
  if (selecting.length === 0 && !isIsolated(isolated, target)) return undefined;
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
