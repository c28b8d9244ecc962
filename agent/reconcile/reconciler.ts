// The reconciler: keeps its targets equal to the records.
//
// A changed record costs its own steps, at once. A full comparison finds every other change: at the start, soon after the
// kernel notifies of a change that fits no record, and every 10 s.
//
//   set(record) ──delta──▶ steps ──▶ kernel          compare() ──observe──▶ plan ──apply──▶ every target
import { setImmediate as turn } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import type { ContainerPort, Firewall, FirewallMember, FirewallPort } from '../../core/firewall.js';
import { Mutex } from '../../core/keyed-mutex.js';
import { TRANSIT_PREFIX, type Actual, type KernelObject, type ObjectKey } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import { NODE, type Problem } from '../health/index.js';
import type { KernelEvent, KernelNamespace, StepFailure } from '../kernel/index.js';
import { Announcer } from './announcements.js';
import { applySteps, createdLinks, deletesLink, inOrder } from './apply-steps.js';
import { CloudRoutes } from './cloud-routes.js';
import {
  type ContainerTarget,
  ContainerTargets,
  type SandboxRecord,
  stepsInside,
} from './container-target.js';
import { FirewallTarget, type Noted } from './firewall-target.js';
import { attachError } from './kernel-errors.js';
import { NodeTarget } from './node-target.js';
import { preview, type Preview } from './preview.js';
import type { ReconcilerOptions } from './reconciler-options.js';
import type { RecordKey, SandboxKey } from './record-key.js';
import { Settle } from './settle.js';
import { compareTarget, type Target } from './target.js';

/** Records with the objects that they compile to; undefined: the record is deleted. */
export type RecordChanges = Iterable<readonly [RecordKey, readonly KernelObject[] | undefined]>;

const COMPARISON = { scope: NODE, kind: 'comparison' } as const;

/** Losses within this time make one line in the log. */
const ONE_LOSS_MS = 60_000;

export class Reconciler {
  /** For all work on the node: nothing must change during a comparison. */
  readonly #lock = new Mutex();
  readonly #node: NodeTarget;
  readonly #containers: ContainerTargets;
  readonly #firewall: FirewallTarget;
  /** What leads to this node in route tables of clouds. */
  readonly cloud: CloudRoutes;
  readonly #announcer: Announcer;
  #started = false;
  #stopped = false;
  readonly #comparison = new Settle(() => void this.compare('notified'));
  /** Other programs change rules all day: only weft's rules are compared then. */
  readonly #rules = new Settle(() => void this.#lock.run(() => this.#reconcile(this.#firewall)));
  #tick: NodeJS.Timeout | undefined;
  #unwatch: (() => void) | undefined;
  #lostAt = -Infinity;
  /** When the last comparison of the containers began. */
  #lookedAt = -Infinity;

  constructor(private readonly options: ReconcilerOptions) {
    this.#containers = new ContainerTargets({ ...options, onGone: options.onSandboxGone });
    this.#announcer = new Announcer(options.log);
    this.#node = new NodeTarget({ ...options, containers: this.#containers, announcer: this.#announcer });
    this.#firewall = new FirewallTarget(options);
    this.cloud = new CloudRoutes({ ...options, onSettled: options.onCloudRoutes });
  }

  /** Makes the first comparison; from then on every change is applied at once. */
  async start(): Promise<void> {
    this.#unwatch = this.options.kernel.watch((event) => this.#notified(event));
    this.#started = true;
    await this.compare('start');
    const every = this.options.compareEveryMs ?? 10_000;
    this.#tick = setInterval(() => void this.compare('interval'), every);
    this.cloud.start();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#tick);
    this.#comparison.stop();
    this.#rules.stop();
    this.#announcer.stop();
    this.#unwatch?.();
    await this.cloud.stop();
    await this.#lock.idle();
  }

  /** The records are complete: from now on undesired objects with weft's mark are deleted. */
  allowPruning(): void {
    this.#node.prune = true;
    this.#firewall.keepItems = false;
    this.cloud.allowPruning();
  }

  /**
   * Sets what records compile to, each record once, and applies it. Before start() it is only noted.
   * @returns the steps that the kernel refused; they become problems, and the next comparison retries them
   */
  async set(changes: RecordChanges): Promise<StepFailure[]> {
    return this.#lock.run(async () => {
      const steps: Step[] = [];
      for (const [record, objects] of changes) steps.push(...this.#node.desired.set(record, objects));
      if (!this.#started || steps.length === 0) return [];
      if (!this.#node.prune) {
        // Records are still arriving, and an earlier run may have made their objects: apply only what is missing.
        await this.#compareNode(false);
        return [];
      }
      const failures = await this.#node.run(inOrder(steps));
      if (steps.some(deletesLink)) this.#compareSoon();
      // Conflicts are problems by the time this returns.
      if (failures.length > 0) await this.#compareNode(true);
      return failures;
    });
  }

  /** Whether any record wants this object. */
  wants(key: ObjectKey): boolean {
    return this.#node.desired.get(key) !== undefined;
  }

  /** Problems of the node by which these links, or settings of all, are not as they should be. */
  obstacles(links: readonly string[]): Problem[] {
    return this.#node.obstacles.flatMap(({ problem, missing, settings }) =>
      settings === true || missing.some((link) => links.includes(link)) ? [problem] : [],
    );
  }

  /** Whether one of these links cannot be there, for a reason that is a problem of the node. */
  lacks(links: readonly string[]): boolean {
    return this.#node.obstacles.some(({ missing }) => missing.some((link) => links.includes(link)));
  }

  /** Whether any record wants a container's link with this MAC address, under any name. */
  wantsPeer(mac: string): boolean {
    return this.#node.desired.wantsPeer(mac);
  }

  /** The records of one network. */
  recordsOf(network: string): RecordKey[] {
    return this.#node.desired.recordsOf(network);
  }

  /**
   * Sets the desired firewall rules and the other nodes, which rules of a network depend on: in one transaction, as packets of
   * a network without its members are dropped. Ports and containers have calls of their own.
   */
  async setFirewall(firewall: Firewall, members: ReadonlyMap<string, FirewallMember>): Promise<void> {
    await this.#lock.run(async () => {
      this.#firewall.rules = firewall;
      this.#firewall.noteMembers(members);
      if (this.#started) await this.#reconcile(this.#firewall);
    });
  }

  /**
   * Opens and closes ports, at the cost of these ports alone. Before start() it is only noted.
   * @throws WeftError with the firewall's error; then nothing has changed
   */
  async changePorts(added: readonly FirewallPort[], removed: readonly FirewallPort[]): Promise<void> {
    await this.#lock.run(async () => {
      const { closed, rollback } = this.#firewall.notePorts(added, removed);
      if (!this.#started) return;
      try {
        await this.#firewall.changePorts(added, closed);
      } catch (error) {
        rollback();
        this.#compareSoon();
        throw error;
      }
    });
  }

  /**
   * Sets what containers may send on these ports of the node, and ends what was set of others (by link). Before start() it is
   * only noted. @throws WeftError with the firewall's error; then nothing has changed
   */
  changeContainers(ports: readonly ContainerPort[], gone: readonly string[] = []): Promise<void> {
    return this.#changeItems(() => this.#firewall.noteContainers(ports, gone));
  }

  /** Sets the other nodes. Before start() it is only noted. @throws WeftError as changeContainers */
  setMembers(members: ReadonlyMap<string, FirewallMember>): Promise<void> {
    return this.#changeItems(() => this.#firewall.noteMembers(members));
  }

  /** Writes what has changed of policies. Before start() nothing is done. @throws WeftError as changeContainers */
  changePolicy(): Promise<void> {
    return this.#changeItems(() => ({ added: [], removed: [], rollback: () => undefined }));
  }

  async #changeItems(note: () => Noted): Promise<void> {
    await this.#lock.run(async () => {
      const noted = note();
      const isNews = noted.added.length + noted.removed.length > 0 || this.#firewall.hasNews;
      if (!this.#started || !isNews) return;
      try {
        await this.#firewall.change(noted);
      } catch (error) {
        noted.rollback();
        this.#compareSoon();
        throw error;
      }
    });
  }

  /**
   * Attaches: the record's objects on the node and in the container, in one go. All or nothing.
   * @param actual the container's objects that matter to the desired ones
   * @throws WeftError with the kernel's error, after everything was rolled back
   */
  async attach(
    record: SandboxKey,
    host: readonly KernelObject[],
    inside: SandboxRecord,
    namespace: KernelNamespace,
    actual: Actual,
  ): Promise<void> {
    await this.#lock.run(async () => {
      const hostSteps = this.#node.desired.set(record, host);
      const peers = new Map([[inside.hostIfname, namespace]]);
      const steps = stepsInside(inside, actual);
      // In this order: the container's end exists once the node's steps are done, which may take several turns.
      const [onNode] = await this.#node.run(hostSteps, peers);
      const failure = onNode ?? (await applySteps(this.options, namespace, steps))[0];
      if (failure === undefined) {
        this.#containers.set(record, inside);
        this.#announce(record);
        return;
      }
      await this.#rollBack(record);
      throw attachError(failure, `in ${inside.sandbox.path}`, this.options.problems);
    });
  }

  /**
   * Makes a container's objects on the node before there is a container. All or nothing.
   * @throws WeftError with the kernel's error, after everything was rolled back
   */
  async prepare(record: SandboxKey, host: readonly KernelObject[]): Promise<void> {
    await this.#lock.run(async () => {
      const [failure] = await this.#node.run(this.#node.desired.set(record, host));
      if (failure === undefined) return;
      await this.#rollBack(record);
      throw attachError(failure, 'on this node', this.options.problems);
    });
  }

  async #rollBack(record: RecordKey): Promise<void> {
    await this.options.kernel.node.apply(this.#node.desired.set(record, undefined));
  }

  /**
   * Notes a container that is already connected to the node; the next comparison repairs it. Where its record compiles to
   * something else than before, both sides are changed at once.
   */
  async adopt(record: SandboxKey, host: readonly KernelObject[], inside: SandboxRecord): Promise<void> {
    await this.#lock.run(async () => {
      const known = this.#containers.get(record);
      const mtu = known?.mtu ?? 0;
      const onNode = this.#node.desired.set(record, host);
      const within = this.#containers.set(record, inside);
      if (!this.#started) return;
      // Its link may be there; and while records are still arriving, an earlier run may have made their objects.
      if (known === undefined || !this.#node.prune) {
        if (onNode.length > 0) this.#compareSoon();
        if (known === undefined) this.#announce(record);
        else await this.#changeContainer(known, within);
        return;
      }
      const sides = [() => this.#changeNode(onNode), () => this.#changeContainer(known, within)];
      // The end with the lower MTU silently drops a larger frame: no end sends more than the other takes.
      if (known.mtu < mtu) sides.reverse();
      for (const change of sides) await change();
    });
  }

  #announce(record: SandboxKey): void {
    // It may have ended by then.
    this.#announcer.repeat(() => this.#containers.get(record)?.announce());
  }

  async #changeNode(steps: readonly Step[]): Promise<void> {
    const failures = await this.#node.run(steps);
    if (failures.length > 0) this.#compareSoon();
  }

  async #changeContainer(container: ContainerTarget, steps: readonly Step[]): Promise<void> {
    if (steps.length === 0) return;
    const failures = await container.change(steps);
    if (failures.length > 0) await this.#reconcile(container);
  }

  /** Ends a record and deletes its objects; the container's end of the pair is deleted with the node's. */
  async detach(record: RecordKey): Promise<void> {
    await this.#lock.run(async () => {
      if (record.kind === 'endpoint' || record.kind === 'attachment') this.#containers.delete(record);
      const failures = await this.#node.run(this.#node.desired.set(record, undefined));
      if (failures.length > 0) this.#compareSoon();
    });
  }

  /** What a comparison would change now. Changes nothing. @throws WeftError where the firewall cannot be read */
  async preview(): Promise<Preview> {
    const targets = {
      ...{ node: this.#node, containers: this.#containers, firewall: this.#firewall },
      cloud: this.cloud,
    };
    return this.#lock.run(() => preview(targets));
  }

  /** Compares every target with its desired state and repairs it. */
  async compare(reason: 'start' | 'interval' | 'notified' | 'asked'): Promise<void> {
    if (this.#stopped) return;
    const end = this.options.metrics.reconcileSeconds.startTimer({ reason });
    try {
      await this.#lock.run(() => this.#compareNode(reason !== 'start'));
      if (reason !== 'notified') await this.#compareContainers();
      this.options.problems.clear(COMPARISON);
    } catch (error) {
      this.options.log.error('comparing with the kernel failed', { reason, error: messageOf(error) });
      this.options.problems.set(COMPARISON, {
        what: 'the comparison with the kernel',
        why: messageOf(error),
        fix: 'It is tried again every 10 seconds; see the log of the agent.',
      });
    } finally {
      end();
    }
  }

  /** Compares the containers, if that was longer ago (in milliseconds). */
  async lookInside(ms: number): Promise<void> {
    if (!this.#stopped && performance.now() - this.#lookedAt > ms) await this.#compareContainers();
  }

  async #compareContainers(): Promise<void> {
    this.#lookedAt = performance.now();
    for (const record of this.#containers.records()) {
      // The kernel answers at once: without this, no other work would run until the last of many containers.
      await turn();
      await this.#lock.run(async () => {
        const container = this.#containers.get(record);
        if (container !== undefined) await this.#reconcile(container);
      });
    }
  }

  async #compareNode(countDrift: boolean): Promise<void> {
    await this.#reconcile(this.#firewall);
    const applied = await this.#reconcile(this.#node, countDrift);
    const remade = createdLinks(applied?.steps ?? []);
    for (const container of this.#containers.connectedBy(remade)) await this.#reconcile(container);
  }

  /** One comparison of one target. */
  async #reconcile<A, P>(target: Target<A, P>, countDrift = true): Promise<P | undefined> {
    const compared = await compareTarget(target, countDrift);
    if (compared?.again === true) this.#compareSoon();
    return compared?.plan;
  }

  #notified(event: KernelEvent): void {
    if (event.kind === 'underlay') this.options.onUnderlay();
    if (event.kind === 'routes') this.options.onRoutes?.();
    if (event.kind === 'lost') this.#lost();
    if (event.kind === 'changed') {
      const movedIn = [...event.linksGone].filter((name) => name.startsWith(TRANSIT_PREFIX));
      if (movedIn.length > 0) this.options.onMovedIn?.(movedIn);
    }
    if (this.#started && this.#firewall.concerns(event)) this.#rules.soon();
    if (!this.#node.concerns(event)) return;
    if (event.kind === 'changed')
      for (const container of this.#containers.connectedBy(event.linksGone)) container.checkGone();
    this.#compareSoon();
  }

  #lost(): void {
    const now = performance.now();
    this.options.metrics.notificationsLost.inc();
    if (now - this.#lostAt > ONE_LOSS_MS)
      this.options.log.warn('kernel notifications were lost; comparing everything');
    this.#lostAt = now;
  }

  #compareSoon(): void {
    if (this.#started) this.#comparison.soon();
  }
}
