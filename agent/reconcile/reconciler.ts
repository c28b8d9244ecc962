// Keeps the kernel as it should be. A changed record costs its own steps at once; a full comparison of everything finds
// what nobody told of: at the start, soon after the kernel notifies of a change that fits no record, and every 10 s.
//
//   set(record) ──delta──▶ steps ──▶ kernel          compare() ──observe──▶ plan ──steps──▶ kernel
import { setImmediate as turn } from 'node:timers/promises';

import type { Firewall, FirewallPort } from '../../core/firewall.js';
import { objectKey, TRANSIT_PREFIX, type Actual, type KernelObject } from '../../core/objects.js';
import { assume, describeStep, plan, type Step } from '../../core/plan.js';
import type { Sandbox } from '../../core/records.js';
import { messageOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import { Desired } from './desired.js';
import { Drift } from './drift.js';
import type { Kernel, KernelEvent, KernelNamespace, StepFailure } from '../kernel/index.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import type { AgentMetrics, Problems } from '../health/index.js';
import { DesiredFirewall } from './desired-firewall.js';
import { attachError, conflictProblems, stepProblems } from './kernel-errors.js';

/** What one container should have inside, and by which link of the node it hangs. */
export interface SandboxRecord {
  sandbox: Sandbox;
  hostIfname: string;
  objects: readonly KernelObject[];
}

export interface ReconcilerOptions {
  kernel: Kernel;
  log: Logger;
  metrics: AgentMetrics;
  problems: Problems;
  /** A container that is gone: its record should go, too. */
  onVanished: (record: string) => void;
  /** Containers' ends that waited on the node have been moved inside. */
  onMovedIn?: (names: readonly string[]) => void;
  /** Addresses, links or routes changed that the underlay may rest on. */
  onUnderlay: () => void;
  compareEveryMs?: number;
}

/** All work on the node's namespace stands in this one queue: what is compared must not change meanwhile. */
const NODE = 'node';

/** What drift of the firewall's rules is counted under. */
const FIREWALL = 'firewall';

/** From a notification to the comparison: long enough for the notifications of weft's own steps to come in together. */
const SETTLE_MS = 100;

/** Losses of notifications that follow each other within this time are one to whoever reads the log. */
const ONE_LOSS_MS = 60_000;

export class Reconciler {
  readonly #desired = new Desired();
  readonly #sandboxes = new Map<string, SandboxRecord>();
  readonly #locks = new KeyedMutex();
  readonly #drift: Drift;
  readonly #firewall: DesiredFirewall;
  #prune = false;
  #started = false;
  #stopped = false;
  #soon: NodeJS.Timeout | undefined;
  #firewallSoon: NodeJS.Timeout | undefined;
  #tick: NodeJS.Timeout | undefined;
  #unwatch: (() => void) | undefined;
  #lostAt = -Infinity;

  constructor(private readonly options: ReconcilerOptions) {
    const { kernel, problems } = options;
    this.#drift = new Drift(problems);
    this.#firewall = new DesiredFirewall({
      kernel,
      problems,
      onRepaired: (what) => this.#note(FIREWALL, ...what),
    });
  }

  /** The first comparison, and from then on every change at once. */
  async start(): Promise<void> {
    this.#unwatch = this.options.kernel.watch((event) => this.#notified(event));
    this.#started = true;
    await this.compare('start');
    const every = this.options.compareEveryMs ?? 10_000;
    this.#tick = setInterval(() => void this.compare('interval'), every);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#tick);
    clearTimeout(this.#soon);
    clearTimeout(this.#firewallSoon);
    this.#unwatch?.();
    await this.#locks.run(NODE, () => Promise.resolve());
  }

  /** From now on what carries weft's mark and is not desired goes: the records are complete. */
  allowPruning(): void {
    this.#prune = true;
  }

  /**
   * Says what records compile to now (undefined: gone), and makes it so. Before start() it is only taken note of.
   * What the kernel refused is answered, becomes a problem, and is tried again by the next comparison.
   */
  async set(changes: ReadonlyMap<string, readonly KernelObject[] | undefined>): Promise<StepFailure[]> {
    return this.#locks.run(NODE, async () => {
      const steps: Step[] = [];
      for (const [record, objects] of changes) steps.push(...this.#desired.set(record, objects));
      if (!this.#started || steps.length === 0) return [];
      if (!this.#prune) {
        // The records are still coming in, and the kernel may have what they say from an earlier run: only what is missing.
        await this.#compareNode(false);
        return [];
      }
      const failures = await this.#apply(this.options.kernel.node, inOrder(steps));
      if (steps.some(goesLink)) this.#compareSoon();
      // What is in the way is known, and told, when this returns.
      if (failures.length > 0) await this.#compareNode(true);
      return failures;
    });
  }

  /** Whether any record wants this object. @param key see objectKey */
  wants(key: string): boolean {
    return this.#desired.get(key) !== undefined;
  }

  /** Whether any record wants a link of a container's with this MAC address, whatever it is called there by now. */
  wantsPeer(mac: string): boolean {
    for (const object of this.#desired.all())
      if (object.kind === 'link' && object.type === 'veth' && object.peer.mac === mac) return true;
    return false;
  }

  /** Names of all records. */
  records(): Iterable<string> {
    return this.#desired.records();
  }

  /** Everything that the firewall should have but the ports, which changePorts says. */
  async setFirewall(firewall: Firewall): Promise<void> {
    await this.#locks.run(NODE, async () => {
      this.#firewall.wanted = firewall;
      if (this.#started) await this.#firewall.ensure(!this.#prune);
    });
  }

  /**
   * Opens and closes ports, at the cost of these alone. Before start() it is only taken note of.
   * @throws WeftError with what the firewall said; then nothing has changed
   */
  async changePorts(added: readonly FirewallPort[], removed: readonly FirewallPort[]): Promise<void> {
    await this.#locks.run(NODE, async () => {
      const { closed, rollback } = this.#firewall.notePorts(added, removed);
      if (!this.#started) return;
      try {
        await this.#firewall.changePorts(added, closed, !this.#prune);
      } catch (error) {
        rollback();
        this.#compareSoon();
        throw error;
      }
    });
  }

  /**
   * Attaches: the record's objects on the node and in the container, in one go. All or nothing.
   * @param actual what the container has that matters to its objects
   * @throws WeftError with what the kernel said, after everything was taken back
   */
  async attach(
    record: string,
    host: readonly KernelObject[],
    inside: SandboxRecord,
    namespace: KernelNamespace,
    actual: Actual,
  ): Promise<void> {
    await this.#locks.run(NODE, async () => {
      const { node } = this.options.kernel;
      const hostSteps = this.#desired.set(record, host);
      const peers = new Map([[inside.hostIfname, namespace]]);
      // The container's end comes into being with the node's, down and otherwise as described.
      const peer = inside.objects.filter((object) => object.kind === 'link' && object.type === 'peer');
      const { steps } = plan(withPeer(actual, peer), inside.objects, { prune: false });
      // One after the other: the container's end is there when the node's steps are done, which may take several turns.
      const [onNode] = await this.#apply(node, hostSteps, peers);
      const failure = onNode ?? (await this.#apply(namespace, steps))[0];
      if (failure === undefined) {
        this.#sandboxes.set(record, inside);
        return;
      }
      await node.apply(this.#desired.set(record, undefined));
      throw attachError(failure, `in ${inside.sandbox.path}`, this.options.problems);
    });
  }

  /**
   * Makes a container's objects on the node before there is a container. All or nothing.
   * @throws WeftError with what the kernel said, after everything was taken back
   */
  async prepare(record: string, host: readonly KernelObject[]): Promise<void> {
    await this.#locks.run(NODE, async () => {
      const { node } = this.options.kernel;
      const [failure] = await this.#apply(node, this.#desired.set(record, host));
      if (failure === undefined) return;
      await node.apply(this.#desired.set(record, undefined));
      throw attachError(failure, 'on this node', this.options.problems);
    });
  }

  /** Takes note of a container that hangs on the node already; the next comparison puts it right. */
  async adopt(record: string, host: readonly KernelObject[], inside: SandboxRecord): Promise<void> {
    await this.#locks.run(NODE, async () => {
      const steps = this.#desired.set(record, host);
      this.#sandboxes.set(record, inside);
      if (this.#started && steps.length > 0) this.#compareSoon();
    });
  }

  /** Takes a container's objects away; its end of the pair goes with the node's. */
  async detach(record: string): Promise<void> {
    await this.#locks.run(NODE, async () => {
      this.#sandboxes.delete(record);
      this.options.problems.replace(`inside ${record} `, new Map());
      const failures = await this.#apply(this.options.kernel.node, this.#desired.set(record, undefined));
      if (failures.length > 0) this.#compareSoon();
    });
  }

  /** Compares everything with what it should be, and puts it right. */
  async compare(reason: 'start' | 'interval' | 'notified' | 'asked'): Promise<void> {
    if (this.#stopped) return;
    const end = this.options.metrics.reconcileSeconds.startTimer({ reason });
    try {
      await this.#locks.run(NODE, () => this.#compareNode(reason !== 'start'));
      for (const record of reason === 'notified' ? [] : [...this.#sandboxes.keys()]) {
        // The kernel answers at once: without this nobody else had a turn before the last of many containers.
        await turn();
        await this.#locks.run(NODE, () => this.#compareSandbox(record));
      }
      this.options.problems.clear('reconcile');
    } catch (error) {
      this.options.log.error('comparing with the kernel failed', { reason, error: messageOf(error) });
      this.options.problems.set('reconcile', {
        what: 'the comparison with the kernel',
        why: messageOf(error),
        fix: 'It is tried again every 10 seconds; see the log of the agent.',
      });
    } finally {
      end();
    }
  }

  async #compareNode(countDrift: boolean): Promise<void> {
    const { node } = this.options.kernel;
    this.#drift.sweep();
    await this.#firewall.ensure(!this.#prune);
    const actual = await node.observe(this.#desired.sysctls());
    const { steps, conflicts } = plan(actual, this.#desired.all(), { prune: this.#prune });
    this.options.problems.replace('conflict ', conflictProblems('conflict ', conflicts));
    if (steps.length === 0) {
      this.options.problems.replace('step ', new Map());
      return;
    }
    const { peers, missing } = await this.#openPeers(steps);
    try {
      const doable = steps.filter((step) => step.do !== 'create-link' || !missing.has(step.link.name));
      const failures = await this.#apply(node, doable, peers);
      const done = without(doable, failures);
      if (countDrift) this.#repaired(done);
      this.options.problems.replace('step ', stepProblems('step ', failures));
      // A link that was renamed may have kept what its successor needs (a VNI), until it was deleted a moment ago.
      if (failures.some(({ step }) => step.do === 'create-link') && done.some(goesLink)) this.#compareSoon();
    } finally {
      for (const peer of peers.values()) peer.close();
    }
    const remade = new Set(steps.flatMap((step) => (step.do === 'create-link' ? [step.link.name] : [])));
    for (const [record, { hostIfname }] of [...this.#sandboxes]) {
      if (remade.has(hostIfname)) await this.#compareSandbox(record);
    }
  }

  /** The containers' namespaces that pairs must be made into; those that are gone are told and left out. */
  async #openPeers(
    steps: readonly Step[],
  ): Promise<{ peers: Map<string, KernelNamespace>; missing: Set<string> }> {
    const wanted = new Set(
      steps.flatMap((step) =>
        step.do === 'create-link' && step.link.type === 'veth' && step.link.peer.onNode !== true
          ? [step.link.name]
          : [],
      ),
    );
    const peers = new Map<string, KernelNamespace>();
    if (wanted.size === 0) return { peers, missing: wanted };
    for (const [record, { hostIfname, sandbox }] of this.#sandboxes) {
      if (!wanted.has(hostIfname)) continue;
      const namespace = await this.#openSandbox(record, sandbox);
      if (namespace === undefined) continue;
      peers.set(hostIfname, namespace);
      wanted.delete(hostIfname);
    }
    return { peers, missing: wanted };
  }

  /** Undefined where it is gone, which is told, or cannot be opened now (EMFILE), which is that container's problem alone. */
  async #openSandbox(record: string, sandbox: Sandbox): Promise<KernelNamespace | undefined> {
    const { path } = sandbox;
    try {
      const opened = await this.options.kernel.openNamespace(path);
      if (sameSandbox(opened.sandbox, sandbox)) return opened.namespace;
      opened.namespace.close();
    } catch (error) {
      if (!(error instanceof WeftError)) {
        const { problems, log } = this.options;
        const key = `inside ${record} open`;
        const why = `it cannot be opened: ${messageOf(error)}`;
        if (problems.get(key) === undefined) log.error('a namespace cannot be opened', { path, why });
        problems.set(key, { what: `namespace ${path}`, why, fix: 'It is tried again every 10 seconds.' });
        return undefined;
      }
    }
    this.options.onVanished(record);
    return undefined;
  }

  async #compareSandbox(record: string): Promise<void> {
    const inside = this.#sandboxes.get(record);
    if (inside === undefined) return;
    const namespace = await this.#openSandbox(record, inside.sandbox);
    if (namespace === undefined) return;
    try {
      const actual = await namespace.observe([]);
      const { steps, conflicts } = plan(actual, inside.objects, { prune: false });
      const { path } = inside.sandbox;
      const prefix = `inside ${record} `;
      const found = conflictProblems(prefix, conflicts, path);
      if (steps.length === 0) {
        this.options.problems.replace(prefix, found);
        return;
      }
      if (steps.some((step) => step.do === 'create-link')) {
        this.options.problems.replace(prefix, found);
        this.#repaired(steps, path);
        // Its end of the pair is gone or was renamed: a new pair is made by the comparison that follows.
        await this.#apply(this.options.kernel.node, [{ do: 'delete-link', name: inside.hostIfname }]);
        this.#compareSoon();
        return;
      }
      const failures = await this.#apply(namespace, steps);
      this.#repaired(without(steps, failures), path);
      this.options.problems.replace(prefix, new Map([...found, ...stepProblems(prefix, failures, path)]));
    } finally {
      namespace.close();
    }
  }

  async #apply(
    namespace: KernelNamespace,
    steps: readonly Step[],
    peers?: ReadonlyMap<string, KernelNamespace>,
  ): Promise<StepFailure[]> {
    if (steps.length === 0) return [];
    const failures = await namespace.apply(steps, peers);
    const { metrics, log } = this.options;
    for (const step of steps) metrics.steps.inc({ verb: describeStep(step).verb });
    metrics.totals.applied += steps.length - failures.length;
    metrics.totals.failed += failures.length;
    for (const { step, errno, message } of failures) {
      const { verb, what } = describeStep(step);
      metrics.stepsFailed.inc({ verb });
      log.debug('the kernel refused a step', { verb, what, errno, message });
    }
    return failures;
  }

  /** @param inside the container, where it is one: each has an eth0 and a default route of its own */
  #repaired(steps: readonly Step[], inside?: string): void {
    for (const step of steps) {
      const { verb, what } = describeStep(step);
      const where = inside === undefined ? '' : ` in ${inside}`;
      this.#note(`${stepKey(step)}${where}`, `${what} (${verb})${where}`);
    }
  }

  /** @param found what one look has found of it: undone once, however many rules it is */
  #note(key: string, ...found: readonly string[]): void {
    this.options.metrics.drift.inc(found.length);
    this.options.metrics.totals.repaired += found.length;
    for (const what of found) this.options.log.info('put right', { what });
    this.#drift.repaired(key, found[0] ?? key);
  }

  #notified(event: KernelEvent): void {
    if (event.kind === 'underlay') {
      this.options.onUnderlay();
      return;
    }
    if (event.kind === 'firewall') {
      this.#firewallChanged();
      return;
    }
    if (event.kind === 'lost') this.#lost();
    if (event.kind === 'changed') {
      const movedIn = [...event.linksGone].filter((name) => name.startsWith(TRANSIT_PREFIX));
      if (movedIn.length > 0) this.options.onMovedIn?.(movedIn);
      // What keeps coming back waits for the regular comparison.
      const contested = (key: string): boolean => this.#drift.contested(key);
      if (!this.#desired.concerns(event, contested, this.#prune)) return;
      this.#checkVanished(event.linksGone);
    }
    this.#compareSoon();
  }

  /** Others change rules all day: weft's are looked at, and nothing else. */
  #firewallChanged(): void {
    if (this.#stopped || !this.#started || this.#drift.contested(FIREWALL)) return;
    this.#firewallSoon ??= setTimeout(() => {
      this.#firewallSoon = undefined;
      void this.#locks.run(NODE, () => this.#firewall.ensure(!this.#prune));
    }, SETTLE_MS);
  }

  #lost(): void {
    const now = performance.now();
    this.options.metrics.notificationsLost.inc();
    if (now - this.#lostAt > ONE_LOSS_MS)
      this.options.log.warn('notifications of the kernel were lost; everything is compared');
    this.#lostAt = now;
  }

  #checkVanished(linksGone: ReadonlySet<string>): void {
    if (linksGone.size === 0) return;
    for (const [record, { hostIfname, sandbox }] of [...this.#sandboxes]) {
      if (!linksGone.has(hostIfname)) continue;
      const now = this.options.kernel.identify(sandbox.path);
      if (now === undefined || !sameSandbox(now, sandbox)) this.options.onVanished(record);
    }
  }

  #compareSoon(): void {
    if (this.#stopped || !this.#started) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      void this.compare('notified');
    }, SETTLE_MS);
  }
}

export const sameSandbox = (a: Sandbox, b: Sandbox): boolean =>
  a.cookie === b.cookie && a.bootId === b.bootId;

/** The key of the object that a step is about, by which notifications name it, too. */
function stepKey(step: Step): string {
  if (step.do === 'delete-link') return `link ${step.name}`;
  return objectKey(step.do === 'put' || step.do === 'delete' ? step.object : step.link);
}

/** Makes before deletions, as within one plan: several records' steps become one. */
function inOrder(steps: readonly Step[]): Step[] {
  const goes = (step: Step): boolean => step.do === 'delete';
  return [...steps.filter((step) => !goes(step)), ...steps.filter(goes)];
}

function withPeer(actual: Actual, peer: readonly KernelObject[]): Actual {
  const objects = new Map([...actual.objects, ...assume(peer).objects]);
  return { objects, foreignLinks: actual.foreignLinks, up: actual.up };
}

const goesLink = (step: Step): boolean => step.do === 'delete-link';

/** What has really been done. */
const without = (steps: readonly Step[], failures: readonly StepFailure[]): Step[] =>
  steps.filter((step) => !failures.some((failure) => failure.step === step));
