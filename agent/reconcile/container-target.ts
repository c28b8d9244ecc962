// Targets for the namespaces of containers: each has its record's objects.
//
// A namespace is open only during one comparison; an open descriptor would keep it alive after its container. If it is
// absent, or its path leads to another one, its record ends.
import { messageOf, WeftError } from '../../core/errors.js';
import { sysctlPaths, type Actual, type KernelObject } from '../../core/objects/index.js';
import { assume, plan, type Plan, type Step } from '../../core/plan.js';
import type { Sandbox } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { AgentMetrics, Problems } from '../health/index.js';
import type { Kernel, KernelNamespace, StepFailure } from '../kernel/index.js';
import { addressesIn } from './announcements.js';
import { applySteps, repairsOf, type StepCounters, without } from './apply-steps.js';
import { Drift, type DriftOptions } from './drift.js';
import { reportConflicts, reportFailures } from './kernel-errors.js';
import { RecordMap, type SandboxKey } from './record-key.js';
import type { Applied, Observers, Target } from './target.js';

/** The desired objects of one container, and the node's link that it is connected to. */
export interface SandboxRecord {
  sandbox: Sandbox;
  hostIfname: string;
  objects: readonly KernelObject[];
}

export interface ContainerTargetOptions extends StepCounters, DriftOptions {
  kernel: Kernel;
  problems: Problems;
  metrics: AgentMetrics;
  log: Logger;
  /** A container's namespace is absent: its record should be deleted. */
  onGone: (record: SandboxKey) => void;
  observers?: Observers;
}

export class ContainerTarget implements Target {
  readonly drift: Drift;
  #namespace: KernelNamespace | undefined;

  constructor(
    private readonly options: ContainerTargetOptions,
    private readonly record: SandboxKey,
    public inside: SandboxRecord,
  ) {
    this.drift = new Drift(options, record);
  }

  get #where(): string {
    return ` in ${this.inside.sandbox.path}`;
  }

  async observe(): Promise<Actual | undefined> {
    this.#namespace = await this.open();
    const actual = await this.#namespace?.observe(sysctlPaths(this.inside.objects));
    if (this.#namespace !== undefined && actual !== undefined)
      this.options.observers?.container(this.record, this.#namespace, actual);
    return actual;
  }

  plan(actual: Actual): Plan {
    return plan(actual, this.inside.objects, { prune: false });
  }

  async apply({ steps, conflicts }: Plan): Promise<Applied> {
    const { kernel, problems } = this.options;
    problems.clear({ scope: this.record, kind: 'namespace' });
    reportConflicts(problems, this.record, conflicts, this.#where);
    if (steps.some((step) => step.do === 'create-link')) {
      reportFailures(problems, this.record, []);
      // The container's end is absent or was renamed: the next comparison makes a new pair.
      await applySteps(this.options, kernel.node, [{ do: 'delete-link', name: this.inside.hostIfname }]);
      return { repaired: repairsOf(steps, this.#where), again: true };
    }
    const failures = await this.run(steps);
    reportFailures(problems, this.record, failures, this.#where);
    return { repaired: repairsOf(without(steps, failures), this.#where), again: false };
  }

  /** Tells the neighbours of the container that it has its addresses. */
  async announce(): Promise<void> {
    const namespace = await this.#find();
    try {
      namespace?.announce(addressesIn(this.inside.objects));
    } finally {
      namespace?.close();
    }
  }

  /** MTU of the container's end of its link pair. */
  get mtu(): number {
    return Math.max(...this.inside.objects.map((object) => ('mtu' in object ? (object.mtu ?? 0) : 0)));
  }

  /** Applies the steps of a changed record, without a comparison. @returns the steps that the kernel refused */
  async change(steps: readonly Step[]): Promise<StepFailure[]> {
    this.#namespace = await this.open();
    if (this.#namespace === undefined) return [];
    try {
      return await this.run(steps);
    } finally {
      this.release();
    }
  }

  run(steps: readonly Step[]): Promise<StepFailure[]> {
    if (this.#namespace === undefined) throw new Error(`${this.inside.sandbox.path} was not observed`);
    return applySteps(this.options, this.#namespace, steps);
  }

  release(): void {
    this.#namespace?.close();
    this.#namespace = undefined;
  }

  /** Undefined where it is absent, which ends its record, or cannot be opened now (EMFILE), which is a problem of its own. */
  async open(): Promise<KernelNamespace | undefined> {
    try {
      const namespace = await this.#find();
      if (namespace === undefined) this.options.onGone(this.record);
      return namespace;
    } catch (error) {
      this.#cannotOpen(error);
      return undefined;
    }
  }

  /** Observes without consequences. @returns undefined where it is gone. @throws WeftError where it cannot be opened now */
  async look(): Promise<Actual | undefined> {
    const namespace = await this.#find();
    try {
      return await namespace?.observe(sysctlPaths(this.inside.objects));
    } finally {
      namespace?.close();
    }
  }

  /** Undefined where it is gone. @throws WeftError where it cannot be opened now */
  async #find(): Promise<KernelNamespace | undefined> {
    const { sandbox } = this.inside;
    try {
      const opened = await this.options.kernel.openNamespace(sandbox.path);
      if (sameSandbox(opened.sandbox, sandbox)) return opened.namespace;
      opened.namespace.close();
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') throw error;
    }
    return undefined;
  }

  #cannotOpen(error: unknown): void {
    const { problems, log } = this.options;
    const { path } = this.inside.sandbox;
    const key = { scope: this.record, kind: 'namespace' } as const;
    const why = `it cannot be opened: ${messageOf(error)}`;
    const next = error instanceof WeftError && error.next !== undefined ? `${error.next} ` : '';
    if (problems.get(key) === undefined) log.error('a namespace cannot be opened', { path, why });
    problems.set(key, { what: `namespace ${path}`, why, fix: `${next}It is tried again every 10 seconds.` });
  }

  /** Ends the record if its namespace is absent. Opens nothing. */
  checkGone(): void {
    if (isGone(this.options.kernel, this.inside.sandbox)) this.options.onGone(this.record);
  }

  /** Clears its problems and drift when its record has ended. */
  end(): void {
    const { problems } = this.options;
    this.drift.clear();
    problems.clear({ scope: this.record, kind: 'namespace' });
    for (const kind of ['conflict', 'step'] as const) problems.replace(this.record, kind, new Map());
  }
}

/** The steps inside a container whose link pair is created at the same time. */
export function stepsInside({ objects }: SandboxRecord, actual: Actual): Step[] {
  // The container's end is created with the node's; it is down and otherwise as described.
  const peer = objects.filter((object) => object.kind === 'link' && object.type === 'peer');
  const withPeer = new Map([...actual.objects, ...assume(peer).objects]);
  const { unownedLinks, up } = actual;
  return plan({ objects: withPeer, unownedLinks, up }, objects, { prune: false }).steps;
}

/** The targets of all containers, by record. */
export class ContainerTargets {
  readonly #targets = new RecordMap<ContainerTarget, SandboxKey>();

  constructor(private readonly options: ContainerTargetOptions) {}

  /** @returns the steps from what the record compiled to before; none for a new one, which is compared instead */
  set(record: SandboxKey, inside: SandboxRecord): Step[] {
    const there = this.#targets.get(record);
    if (there === undefined) {
      this.#targets.set(record, new ContainerTarget(this.options, record, inside));
      return [];
    }
    const before = there.inside;
    there.inside = inside;
    if (!sameSandbox(before.sandbox, inside.sandbox)) return [];
    return plan(assume(before.objects), inside.objects, { prune: true }).steps;
  }

  delete(record: SandboxKey): void {
    this.#targets.get(record)?.end();
    this.#targets.delete(record);
  }

  get(record: SandboxKey): ContainerTarget | undefined {
    return this.#targets.get(record);
  }

  records(): SandboxKey[] {
    return [...this.#targets.keys()];
  }

  /** The targets that are connected to one of these links of the node. */
  connectedBy(links: ReadonlySet<string>): ContainerTarget[] {
    if (links.size === 0) return [];
    return [...this.#targets.values()].filter(({ inside }) => links.has(inside.hostIfname));
  }

  /** Opens the namespaces that link pairs are created into. @returns also the links whose container is absent */
  async openPeers(
    steps: readonly Step[],
  ): Promise<{ peers: Map<string, KernelNamespace>; missing: Set<string> }> {
    const missing = new Set(
      steps.flatMap((step) =>
        step.do === 'create-link' && step.link.type === 'veth' && step.link.peer.onNode !== true
          ? [step.link.name]
          : [],
      ),
    );
    const peers = new Map<string, KernelNamespace>();
    for (const target of this.connectedBy(missing)) {
      const namespace = await target.open();
      if (namespace === undefined) continue;
      peers.set(target.inside.hostIfname, namespace);
      missing.delete(target.inside.hostIfname);
    }
    return { peers, missing };
  }
}

export const sameSandbox = (a: Sandbox, b: Sandbox): boolean =>
  a.cookie === b.cookie && a.bootId === b.bootId;

/** Whether the namespace is absent, or another one is in its place. One that cannot be opened now is not gone. */
export function isGone(kernel: Pick<Kernel, 'identify'>, sandbox: Sandbox): boolean {
  try {
    const now = kernel.identify(sandbox.path);
    return now === undefined || !sameSandbox(now, sandbox);
  } catch {
    // The next comparison reports it as a problem.
    return false;
  }
}
