// A hollow node: the agent as it is, on the kernel in memory.
//
// It has its own store, state directory, socket and session, and no links, no packets and no DNS listeners. Many run in one process.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import type { FirewallReport } from '../../../agent/kernel/kernel.js';
import { agentProgram, agentSettingsFrom, type AgentSettings } from '../../../agent/settings.js';
import {
  assemble,
  follow,
  open,
  restore,
  serve,
  type Opened,
  type Parts,
} from '../../../agent/start/index.js';
import type { Firewall } from '../../../core/firewall.js';
import type { Endpoint } from '../../../core/records.js';
import type { Step } from '../../../core/plan.js';
import { silentLogger, type Logger } from '../../../daemon/log.js';
import { loadSettings } from '../../../daemon/settings.js';
import type { Shutdown } from '../../../daemon/shutdown.js';
import { FakeKernel } from '../../fakes/kernel.js';

/** Milliseconds after which a ping of any address is answered. */
const RTT_MS = 0.2;

/** What a hollow node is started with. */
export interface HollowPlan {
  name: string;
  /** Its address on the underlay, which no interface has. */
  ip: string;
  networks: readonly string[];
  etcd: readonly string[];
  /** HOST:PORT; empty: none. */
  controllers: readonly string[];
  /** Its run and state directories are in there. */
  folder: string;
  /** Further flags of the agent. */
  flags?: readonly string[];
}

/** Called with the steps before the kernel takes them. */
export type OnSteps = (steps: readonly Step[]) => void;

export interface HollowOptions {
  /** That of an earlier agent of the node; absent: a new one. */
  kernel?: FakeKernel;
  onSteps?: OnSteps;
  log?: Logger;
}

type Agent = Opened & Parts;

/** As in a process of its own, but for the signals and the exit. */
class HollowShutdown implements Shutdown {
  readonly #started: { name: string; stop: () => void | Promise<void> }[] = [];
  readonly #controller = new AbortController();
  /** Why the agent wanted to end by itself. */
  failure: string | undefined;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  add(name: string, stop: () => void | Promise<void>): void {
    this.#started.push({ name, stop });
  }

  end(reason: string): void {
    this.failure = reason;
    void this.stop();
  }

  async stop(): Promise<void> {
    if (this.signal.aborted) return;
    this.#controller.abort(new Error('the hollow node is stopped'));
    for (const { stop } of this.#started.toReversed()) await stop();
  }
}

export class HollowNode {
  readonly #shutdown = new HollowShutdown();
  #agent: Agent | undefined;

  private constructor(
    readonly plan: HollowPlan,
    /** It outlives the agent, as that of a host. */
    readonly kernel: FakeKernel,
    onSteps: OnSteps,
  ) {
    kernel.underlays = [{ name: 'eth0', mtu: 1500, running: true, addresses: [`${plan.ip}/16`] }];
    kernel.sources = { 4: { ip: plan.ip, link: 'eth0' } };
    kernel.ping = (echoes) => Promise.resolve(echoes.map(() => RTT_MS));
    // Comparing rules of thousands of members is the work of another program than the agent.
    const accept = (desired: Firewall): Promise<FirewallReport> => {
      kernel.firewall.rules = desired;
      return Promise.resolve({ repaired: [], problems: [] });
    };
    kernel.firewall.ensure = accept;
    kernel.firewall.changeItems = accept;
    kernel.beforeApply = (steps) => {
      // Kept for tests of single nodes; here they would only grow.
      kernel.applied.length = 0;
      kernel.announced.length = 0;
      onSteps(steps);
    };
  }

  /**
   * Goes through the five stages of the agent; settles when it follows etcd, which may be before its first list.
   * @throws WeftError
   */
  static async start(
    plan: HollowPlan,
    { kernel = new FakeKernel(), onSteps = () => undefined, log = silentLogger }: HollowOptions = {},
  ): Promise<HollowNode> {
    const node = new HollowNode(plan, kernel, onSteps);
    const launch = { settings: settingsOf(plan), log, shutdown: node.#shutdown };
    try {
      const opened = await open(launch, () => Promise.resolve(node.kernel));
      const parts = assemble(opened);
      await restore(opened, parts);
      node.#agent = { ...opened, ...parts };
      await follow(opened, parts, await serve(opened, parts, []));
      return node;
    } catch (error) {
      await node.stop();
      throw error;
    }
  }

  /** Ends the agent; its state directory stays, as after a restart. */
  async stop(): Promise<void> {
    await this.#shutdown.stop();
  }

  /** The agent's parts that its start opens and assembles. */
  get agent(): Agent {
    if (this.#agent === undefined) throw new Error(`${this.plan.name} has not started`);
    return this.#agent;
  }

  get store(): Opened['store'] {
    return this.agent.store;
  }

  /** Why it ended by itself, or why it cannot work yet; undefined: it does. */
  get trouble(): string | undefined {
    if (this.#shutdown.failure !== undefined) return this.#shutdown.failure;
    const ready = this.agent.readiness.now();
    return ready.ready ? undefined : ready.reason;
  }

  /** Whether it has read etcd, is ready, has a subnet in each of its networks, and is up for the others. */
  get isUp(): boolean {
    const { store, memberships, instance } = this.agent;
    return (
      store.isSynced &&
      store.view.alive.get(this.plan.name) === instance &&
      this.trouble === undefined &&
      this.plan.networks.every((name) => memberships.get(name) !== undefined)
    );
  }

  /** A new container, attached. @param isNamed its name is asked for, and no other endpoint may have it. @throws WeftError */
  async attach(network: string, name: string, isNamed = false): Promise<Endpoint> {
    this.kernel.addContainer(pathOf(name));
    return await this.agent.attacher.attach({
      ...{ network, target: `netns:${pathOf(name)}`, aliases: [], publish: [] },
      ...{ defaultRoute: true, everywhere: false, dns: false },
      ...(isNamed && { name }),
    });
  }

  /** Takes a container off the network and ends it. @throws WeftError */
  async detach(network: string, name: string): Promise<void> {
    await this.agent.attacher.detach(network, `netns:${pathOf(name)}`);
    this.kernel.vanish(pathOf(name));
  }

  /** Whether this node would answer this name in the network. */
  knows(network: string, name: string): boolean {
    return this.agent.dns.table.find(network, name).length > 0;
  }
}

const pathOf = (name: string): string => `/run/netns/${name}`;

/** Subnets that the steps make a route to, as `10.1.2.0/24`. */
export function routedBy(steps: readonly Step[]): string[] {
  return steps.flatMap((step) => (step.do === 'put' && step.object.kind === 'route' ? [step.object.to] : []));
}

function settingsOf({ name, etcd, controllers, networks, folder, flags = [] }: HollowPlan): AgentSettings {
  const [runDir, stateDir] = [join(folder, name, 'run'), join(folder, name, 'state')];
  for (const path of [runDir, stateDir]) mkdirSync(path, { recursive: true });
  const loaded = loadSettings(
    agentProgram,
    [
      ...['--config=/dev/null', `--node=${name}`, `--etcd=${etcd.join(',')}`, '--insecure', '--dns=off'],
      ...(controllers.length === 0 ? [] : [`--controller=${controllers.join(',')}`]),
      ...(networks.length === 0 ? [] : [`--join=${networks.join(',')}`]),
      ...[`--run-dir=${runDir}`, `--state-dir=${stateDir}`, '--cni-socket=none', '--http=127.0.0.1:0'],
      ...[`--docker=unix://${join(folder, 'no-docker.sock')}`],
      ...flags,
    ],
    {},
  );
  if (loaded.kind !== 'values') throw new Error('no settings');
  return agentSettingsFrom(loaded.values, loaded.origin);
}
