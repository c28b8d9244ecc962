// A cloud's route tables as a target: what of them leads to this node.
//
// Each node writes its own routes and no other's. A call takes a second or fails for minutes, so that this target is compared
// beside the node's and not in turn with it: nothing on the node waits for a cloud.
import {
  describeCloudStep,
  planCloud,
  type CloudMember,
  type CloudPlan,
  type CloudTable,
} from '../../core/cloud.js';
import type { CloudName } from '../../core/backends/types.js';
import { messageOf, nextOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { CloudApi } from '../../cloud/index.js';
import { networkScope, type Problem, Problems } from '../health/index.js';
import { Drift, type DriftOptions, type Repair } from './drift.js';
import type { Applied, Target } from './target.js';

export interface CloudTargetOptions extends DriftOptions {
  problems: Problems;
  log: Pick<Logger, 'info'>;
  /** Absent: the agent is in no cloud. */
  clouds?: ((name: CloudName) => Promise<CloudApi>) | undefined;
  /** A table has changed while it was looked at: it is to be compared once more. */
  onChanged: () => void;
  /** What a network has in a cloud leads here from now on. */
  onSettled?: ((network: string) => void) | undefined;
}

interface Seen {
  member: CloudMember;
  /** This node as a next hop. */
  hop: string;
  tables: CloudTable[];
}

type Planned = Seen & CloudPlan;

const keyOf = ({ cloud, name }: Pick<CloudMember, 'cloud' | 'name'>): string => `${cloud} ${name}`;

export class CloudTarget implements Target<readonly Seen[], readonly Planned[]> {
  readonly drift: Drift;
  /** Routes that lead here and that no record wants are deleted: the records are complete. */
  prune = false;
  #members = new Map<string, CloudMember>();
  /** Networks that the node has left, until their routes are gone. */
  readonly #left = new Map<string, CloudMember>();
  /** Networks whose tables were read. */
  readonly #known = new Set<string>();
  /** Networks whose routes were as they should be: a difference from then on is drift. */
  readonly #settled = new Set<string>();

  constructor(private readonly options: CloudTargetOptions) {
    this.drift = new Drift(options, { kind: 'node' });
  }

  /** @returns whether there is anything to compare */
  set(members: readonly CloudMember[]): boolean {
    const before = this.#members;
    this.#members = new Map(members.map((member) => [keyOf(member), member]));
    for (const [key, member] of before) {
      if (this.#members.has(key)) continue;
      this.#settled.delete(key);
      // Of one whose tables could never be read this node wrote no route; an earlier run's goes with the lease.
      if (this.#known.delete(key)) this.#left.set(key, { ...member, routes: [] });
    }
    for (const [key, member] of this.#members) {
      this.#left.delete(key);
      if (!sameMember(before.get(key), member)) this.#settled.delete(key);
    }
    return this.#members.size + this.#left.size > 0;
  }

  /** Whether what a network has in a cloud led here at the last look. */
  isSettled(network: Pick<CloudMember, 'cloud' | 'name'>): boolean {
    return this.#settled.has(keyOf(network));
  }

  async observe(): Promise<readonly Seen[] | undefined> {
    const { clouds } = this.options;
    if (clouds === undefined) return undefined;
    const seen: Seen[] = [];
    for (const member of [...this.#members.values(), ...this.#left.values()]) {
      try {
        const api = await clouds(member.cloud);
        const hop = await api.hop(member);
        seen.push({ member, hop, tables: await api.tables(member, 'own', member.ip) });
        if (this.#isDesired(member)) this.#known.add(keyOf(member));
      } catch (error) {
        if (this.#isDesired(member)) this.#failed(member, error);
      }
    }
    return seen;
  }

  /** It may have been left meanwhile. */
  #isDesired(member: CloudMember): boolean {
    return this.#members.has(keyOf(member)) || this.#left.has(keyOf(member));
  }

  plan(actual: readonly Seen[]): readonly Planned[] {
    return actual.map((seen) => {
      // It may have changed since it was looked at: what is desired now counts.
      const key = keyOf(seen.member);
      const member = this.#members.get(key) ?? this.#left.get(key) ?? { ...seen.member, routes: [] };
      return { ...seen, member, ...planCloud(seen.tables, member, seen.hop, this.prune) };
    });
  }

  async apply(plan: readonly Planned[]): Promise<Applied> {
    const repaired: Repair[] = [];
    for (const one of plan) repaired.push(...(await this.#applyOne(one)));
    return { repaired, again: false };
  }

  async #applyOne({ member, hop, steps, conflicts }: Planned): Promise<Repair[]> {
    const { clouds, log, onChanged } = this.options;
    const key = keyOf(member);
    const found: Repair[] = [];
    try {
      // Packets come with the first route.
      const api = await clouds?.(member.cloud);
      if (this.#members.has(key)) await api?.forward(hop);
      for (const step of steps) {
        await api?.apply(step);
        const { verb, what: object } = describeCloudStep(step);
        const what = `${verb} ${object}`;
        log.info('changed a route of the cloud', { network: member.name, what });
        if (this.#settled.has(key))
          found.push({ key: what, found: [what], what: `the routes of network ${member.name}` });
      }
    } catch (error) {
      if (error instanceof WeftError && error.code === 'ABORTED') onChanged();
      else this.#failed(member, error);
      return found;
    }
    const [conflict] = conflicts;
    if (conflict === undefined) this.#succeeded(member);
    else
      this.options.problems.set(
        { scope: networkScope(member.name), kind: 'cloud-routes' },
        {
          what: `the route of network ${member.name} to this node`,
          why: `${conflict.table} has a route to ${conflict.to.toString()} that leads to ${conflict.hop}, and weft did not make it`,
          fix: 'Delete that route, or create the network again with another prefix.',
        },
      );
    return found;
  }

  #succeeded(member: CloudMember): void {
    const key = keyOf(member);
    this.options.problems.clear({ scope: networkScope(member.name), kind: 'cloud-routes' });
    if (this.prune) this.#left.delete(key);
    const desired = this.#members.get(key);
    // Another one than was looked at: the node has left the network and is back, and its routes were deleted meanwhile.
    if (desired === undefined || !sameMember(member, desired) || this.#settled.has(key)) return;
    this.#settled.add(key);
    this.options.onSettled?.(member.name);
  }

  #failed(member: CloudMember, error: unknown): void {
    this.options.problems.set(
      { scope: networkScope(member.name), kind: 'cloud-routes' },
      {
        what: `the routes of network ${member.name} to this node`,
        why: messageOf(error),
        fix: nextOf(error) ?? 'It is tried again every minute; see the log of the agent.',
      },
    );
  }
}

/** Deletes what leads to this node in networks that it leaves for good. @returns what could not be */
export async function deleteCloudRoutes(
  members: readonly CloudMember[],
  options: Omit<CloudTargetOptions, 'onChanged' | 'problems'>,
): Promise<Problem[]> {
  const problems = new Problems();
  const target = new CloudTarget({ ...options, problems, onChanged: () => undefined });
  target.prune = true;
  target.set(members.map((member) => ({ ...member, routes: [] })));
  const seen = await target.observe();
  if (seen !== undefined) await target.apply(target.plan(seen));
  return problems.list();
}

const sameMember = (a: CloudMember | undefined, b: CloudMember): boolean =>
  a !== undefined &&
  a.ip.equals(b.ip) &&
  a.routes.join(' ') === b.routes.join(' ') &&
  a.tables.join(' ') === b.tables.join(' ');
