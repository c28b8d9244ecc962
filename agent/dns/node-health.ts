// Health of nodes, which decides whether their endpoints are named.
//
// A node whose life lease has ended is `silent`: its endpoints are named last. After five seconds it is `gone`, unless it still
// answers on the underlay: then only its agent or its path to etcd is down, and its containers still serve. It is gone at once
// where another node is in its place, which would answer for it.
import type { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { Change, View } from '../../store/store.js';
import type { NodeHealth } from './answer.js';

export interface NodeHealthOptions {
  view: View;
  /** It has handled the changes before `handle` is called. */
  displaced: Pick<DisplacedNodes, 'isGone'>;
  /** This node, which is always up for itself. */
  node: string;
  ping: (ips: readonly string[], timeoutMs: number) => Promise<(number | undefined)[]>;
  /** The health of a node changed. */
  onChange: () => void;
  /** Milliseconds, of a monotonic clock. */
  now?: () => number;
}

const GONE_AFTER_MS = 5000;
/** How long an answer on the underlay counts: one or two lost packets do not matter. */
const ANSWER_COUNTS_MS = 2500;
const EVERY_MS = 500;
const PING_TIMEOUT_MS = 400;
const AT_ONCE = 128;
/** Kinds of records by which another node is in a node's place. */
const PLACES: ReadonlySet<Change['kind']> = new Set(['node', 'lease', 'endpoint', 'claim']);

interface Down {
  since: number;
  answered: number | undefined;
  health: NodeHealth;
}

export class NodeHealths {
  readonly #down = new Map<string, Down>();
  readonly #now: () => number;
  #timer: NodeJS.Timeout | undefined;
  #pinging: Promise<void> | undefined;
  #stopped = false;
  #next = 0;

  constructor(private readonly options: NodeHealthOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  of(node: string): NodeHealth {
    if (node === this.options.node || this.options.view.alive.has(node)) return 'up';
    const { health } = this.#down.get(node) ?? this.#noteDown(node);
    return this.options.displaced.isGone(node) ? 'gone' : health;
  }

  handle(changes: readonly Change[]): void {
    let changed = false;
    for (const change of changes) {
      // The place of a node that is down may be another's now.
      changed ||= this.#down.size > 0 && PLACES.has(change.kind);
      // Removed from the cluster, with its endpoints.
      if (change.kind === 'node' && change.after === undefined) this.#down.delete(change.name);
      if (change.kind !== 'alive' || (change.before === undefined) === (change.after === undefined)) continue;
      changed = true;
      if (change.after !== undefined) this.#down.delete(change.name);
      else this.#noteDown(change.name);
    }
    if (changed) this.options.onChange();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#pinging;
  }

  /** Starts polling, which lasts only while a node is down. */
  #noteDown(node: string): Down {
    const down: Down = { since: this.#now(), answered: undefined, health: 'silent' };
    this.#down.set(node, down);
    if (!this.#stopped) this.#timer ??= setInterval(() => this.#look(), EVERY_MS);
    return down;
  }

  #look(): void {
    this.#pinging ??= this.#ping().finally(() => {
      this.#pinging = undefined;
    });
    this.judge();
    if (this.#down.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Updates the health of the nodes that are down, by the clock. */
  judge(): void {
    const now = this.#now();
    let changed = false;
    for (const down of this.#down.values()) {
      const answers = down.answered !== undefined && now - down.answered < ANSWER_COUNTS_MS;
      const health = now - down.since < GONE_AFTER_MS || answers ? 'silent' : 'gone';
      changed ||= health !== down.health;
      down.health = health;
    }
    if (changed) this.options.onChange();
  }

  async #ping(): Promise<void> {
    // In turn, for the case that half the cluster is down.
    const all = [...this.#down];
    this.#next = all.length === 0 ? 0 : (this.#next + AT_ONCE) % all.length;
    const turn = all.length <= AT_ONCE ? all : [...all, ...all].slice(this.#next, this.#next + AT_ONCE);
    const known = turn.flatMap(([node, down]) => {
      const ip = this.options.view.nodes.get(node)?.publicIp;
      return ip === undefined ? [] : [{ ip, down }];
    });
    if (known.length === 0) return;
    const answers = await this.options
      .ping(
        known.map(({ ip }) => ip),
        PING_TIMEOUT_MS,
      )
      .catch((): undefined[] => []);
    for (const [i, { down }] of known.entries()) if (answers[i] !== undefined) down.answered = this.#now();
  }
}
