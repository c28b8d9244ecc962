// A process with many hollow nodes: `hollow-worker SOCKET NAME`.
import { EventEmitter } from 'node:events';

import { messageOf } from '../../../core/errors.js';
import type { Logger } from '../../../daemon/log.js';
import type { Change } from '../../../store/store.js';
import { monotonic } from '../../lab/meter-end.js';
import { until } from '../../lab/wait.js';
import { answerAt } from './answering.js';
import { HollowNode, routedBy, type HollowPlan } from './hollow-node.js';
import { Counts, nameMark, type Answer, type Container, type Mark, type Request } from './messages.js';

/** Hollow nodes of one process that start at the same time, but where all are to. */
const STARTS = 8;
const ATTACHES = 16;
/** A thousand nodes on two cores. */
const UP_WITHIN_MS = 15 * 60_000;

// What a process has once, all agents of this one share.
EventEmitter.defaultMaxListeners = 0;

const nodes = new Map<string, HollowNode>();
/** By mark, then by node: when it arrived. Empty while nothing is timed. */
let marks = new Map<Mark, Map<string, number>>();
let counts = new Map<string, Counts>();
const containers: Container[] = [];
let churn: Churn | undefined;

/** Errors and warnings of all nodes, each text once: they say nothing new a hundred times. */
const said = new Set<string>();
const say = (message: string, fields?: Readonly<Record<string, unknown>>): void => {
  if (said.has(message)) return;
  said.add(message);
  console.error(message, JSON.stringify(fields ?? {}));
};
const log: Logger = { debug: () => undefined, info: () => undefined, warn: say, error: say };

function note(mark: Mark, node: string): void {
  const arrived = marks.get(mark);
  if (arrived !== undefined && !arrived.has(node)) arrived.set(node, monotonic());
}

async function start(plan: HollowPlan, before?: HollowNode): Promise<void> {
  const node = await HollowNode.start(plan, {
    ...(before !== undefined && { kernel: before.kernel }),
    onSteps: (steps) => {
      if (marks.size > 0) for (const subnet of routedBy(steps)) note(subnet, plan.name);
    },
    log,
  });
  nodes.set(plan.name, node);
  node.store.subscribe((changes) => heard(node, changes));
}

/** After the parts of the agent: what they do at once with the changes is done. */
function heard(node: HollowNode, changes: readonly Change[]): void {
  const { name, networks } = node.plan;
  for (const change of changes) {
    if (change.kind !== 'endpoint') continue;
    const { network, id, before, after } = change;
    if (before === undefined && after !== undefined) countsOf(name).add(network, id, 'appeared');
    if (after === undefined) countsOf(name).add(network, id, 'vanished');
    if (after === undefined || marks.size === 0 || !networks.includes(network)) continue;
    if (node.knows(network, after.name)) note(nameMark(network, after.name), name);
  }
}

function countsOf(node: string): Counts {
  let of = counts.get(node);
  if (of === undefined) counts.set(node, (of = new Counts()));
  return of;
}

/** @param width how many at a time */
async function each<T>(all: readonly T[], width: number, work: (one: T) => Promise<void>): Promise<void> {
  const queue = all.values();
  const worker = async (): Promise<void> => {
    for (const one of queue) await work(one);
  };
  await Promise.all(Array.from({ length: Math.min(width, all.length) }, worker));
}

async function allUp(): Promise<void> {
  const down = new Set(nodes.values());
  await until(
    'all nodes are up',
    () => {
      for (const node of down) if (node.isUp) down.delete(node);
      return down.size === 0;
    },
    {
      timeoutMs: UP_WITHIN_MS,
      context: () =>
        [...down]
          .slice(0, 5)
          .map((node) => `${node.plan.name}: ${node.trouble ?? 'not in all of its networks'}`)
          .join('\n'),
    },
  );
}

function nodeOf({ node }: Container): HollowNode {
  const found = nodes.get(node);
  if (found === undefined) throw new Error(`there is no hollow node ${node} here`);
  return found;
}

/** Replaces containers, the oldest first, at an even pace. */
class Churn {
  readonly #timer: NodeJS.Timeout;
  readonly #busy = new Set<Promise<void>>();
  #serial = 0;
  replaced = 0;

  /** @param share of all containers, in a minute */
  constructor(share: number) {
    this.#timer = setInterval(() => this.#next(), 60_000 / (share * Math.max(1, containers.length)));
  }

  #next(): void {
    const old = containers.shift();
    if (old === undefined) return;
    const fresh = { ...old, name: `${old.name.replace(/-r\d+$/, '')}-r${++this.#serial}` };
    const work: Promise<void> = this.#replace(old, fresh)
      .catch((error: unknown) => say('a container could not be replaced', { error: messageOf(error) }))
      .finally(() => this.#busy.delete(work));
    this.#busy.add(work);
  }

  async #replace(old: Container, fresh: Container): Promise<void> {
    await nodeOf(old).detach(old.network, old.name);
    await nodeOf(fresh).attach(fresh.network, fresh.name);
    containers.push(fresh);
    this.replaced++;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#busy);
  }
}

/** Every node's count of each of its networks. */
function countTexts(): Record<string, number> {
  const texts: Record<string, number> = {};
  for (const { plan } of nodes.values())
    for (const network of plan.networks) {
      const text = countsOf(plan.name).textOf(network);
      texts[text] = (texts[text] ?? 0) + 1;
    }
  return texts;
}

async function answer(request: Request): Promise<Answer> {
  switch (request.do) {
    case 'start':
      await each(request.plans, STARTS, (plan) => start(plan));
      await allUp();
      return {};
    case 'restart': {
      const before = [...nodes.values()];
      await Promise.all(before.map((node) => node.stop()));
      await Promise.all(before.map((node) => start(node.plan, node)));
      await allUp();
      return {};
    }
    case 'attach': {
      const made: { of: HollowNode; network: string; id: string }[] = [];
      await each(request.containers, request.atOnce ? Infinity : ATTACHES, async (container) => {
        const of = nodeOf(container);
        const { network, id } = await of.attach(container.network, container.name, request.atOnce);
        containers.push(container);
        made.push({ of, network, id });
      });
      await until(
        'all are in etcd',
        () => made.every(({ of, network, id }) => of.store.view.endpoints.get(network)?.has(id) === true),
        { timeoutMs: UP_WITHIN_MS },
      );
      return {};
    }
    case 'churn': {
      await churn?.stop();
      const replaced = churn?.replaced ?? 0;
      churn = request.share > 0 && containers.length > 0 ? new Churn(request.share) : undefined;
      return { replaced };
    }
    case 'mark':
      marks = new Map(request.marks.map((mark) => [mark, new Map()]));
      return {};
    case 'arrivals':
      return { arrivals: Object.fromEntries([...marks].map(([mark, at]) => [mark, [...at.values()]])) };
    case 'count':
      counts = new Map();
      return {};
    case 'counts':
      return { counts: countTexts() };
  }
}

const [, , path = '', name = ''] = process.argv;
answerAt(path, name, answer);
