// The node's own namespace as a target: all objects of all records.
//
// Link pairs reach into containers, whose namespaces are open only while the pairs are created.
import { LINK_PREFIX, linkKey, type Actual } from '../../core/objects/index.js';
import { plan, type Plan, type Step } from '../../core/plan.js';
import type { Logger } from '../../daemon/log.js';
import { type AgentMetrics, NODE, type Problems } from '../health/index.js';
import type { Kernel, KernelEvent, KernelNamespace, StepFailure } from '../kernel/index.js';
import { announcedBy, type Announcer } from './announcements.js';
import { applySteps, deletesLink, repairsOf, type StepCounters, without } from './apply-steps.js';
import type { ContainerTargets } from './container-target.js';
import { Desired } from './desired.js';
import { Drift, type DriftOptions } from './drift.js';
import { type Obstacle, portInUse, reportConflicts, reportFailures } from './kernel-errors.js';
import { portHolder, type PortHolder } from './port-holder.js';
import type { Applied, Observers, Target } from './target.js';

export interface NodeTargetOptions extends StepCounters, DriftOptions {
  kernel: Kernel;
  log: Logger;
  problems: Problems;
  metrics: AgentMetrics;
  containers: ContainerTargets;
  announcer: Announcer;
  observers?: Observers;
}

export class NodeTarget implements Target {
  readonly desired = new Desired();
  readonly drift: Drift;
  /** Whether objects that carry weft's mark and are in no record are deleted. */
  prune = false;
  /** What the last comparison could not put right. */
  obstacles: readonly Obstacle[] = [];
  /** What the comparison at work has observed. */
  #actual: Actual | undefined;

  constructor(private readonly options: NodeTargetOptions) {
    this.drift = new Drift(options, NODE);
  }

  async observe(): Promise<Actual> {
    this.#actual = await this.options.kernel.node.observe(this.desired.sysctls());
    this.options.observers?.node(this.#actual);
    return this.#actual;
  }

  plan(actual: Actual): Plan {
    return plan(actual, this.desired.all(), { prune: this.prune });
  }

  async apply({ steps, conflicts }: Plan): Promise<Applied> {
    const { problems, containers } = this.options;
    const obstacles = reportConflicts(problems, NODE, conflicts);
    const { peers, missing } = await containers.openPeers(steps);
    try {
      const doable = steps.filter((step) => step.do !== 'create-link' || !missing.has(step.link.name));
      const refused = await this.run(doable, peers);
      const done = without(doable, refused);
      const failures = refused.filter((failure) => !this.#isOver(failure));
      obstacles.push(...reportFailures(problems, NODE, failures, '', await this.#holders(failures)));
      this.obstacles = obstacles;
      // A renamed link, deleted just now, may have held what its successor needs (a VNI).
      const again = failures.some(({ step }) => step.do === 'create-link') && done.some(deletesLink);
      return { repaired: repairsOf(done), again };
    } finally {
      this.#actual = undefined;
      for (const peer of peers.values()) peer.close();
    }
  }

  /** Of a link that no record wants any more: the record of the step's own object ends next. */
  #isOver({ step }: StepFailure): boolean {
    if (step.do !== 'put' || !('link' in step.object)) return false;
    const { link } = step.object;
    return link.startsWith(LINK_PREFIX) && this.desired.get(linkKey(link)) === undefined;
  }

  /** Who has the UDP ports that tunnels found in use. */
  async #holders(failures: readonly StepFailure[]): Promise<Map<number, PortHolder>> {
    const holders = new Map<number, PortHolder>();
    for (const port of new Set(failures.map(portInUse)))
      if (port !== undefined && this.#actual !== undefined)
        holders.set(port, await portHolder(port, this.#actual));
    return holders;
  }

  /** Applies the steps of a record, without a comparison. */
  async run(steps: readonly Step[], peers?: ReadonlyMap<string, KernelNamespace>): Promise<StepFailure[]> {
    const { announcer, kernel } = this.options;
    const failures = await applySteps(this.options, kernel.node, steps, peers);
    const announced = announcedBy(without(steps, failures), () => this.desired.all());
    if (announced.length > 0) announcer.repeat(() => kernel.node.announce(announced));
    return failures;
  }

  concerns(event: KernelEvent): boolean {
    if (event.kind === 'lost' || event.kind === 'unknown') return true;
    // A contested object waits for the regular comparison.
    const contested = (key: string): boolean => this.drift.contested(key);
    // So may another program's: flannel's device has the VNI of the network that it shares with weft.
    const lacksLink = this.obstacles.some(({ missing }) => missing.length > 0);
    if (event.kind === 'changed' && lacksLink && event.linksGone.size > 0) return true;
    return event.kind === 'changed' && this.desired.concerns(event, contested, this.prune);
  }
}
