// Probes the paths of this node, a few packets each second, and keeps what is known of each.
//
// The cost of a node does not grow with the cluster. Other nodes' probes are listened for: a node that hears a peer which
// does not answer it knows which direction is broken.
import { createHash } from 'node:crypto';

import type { Family } from '../../core/address.js';
import type { Kernel, NeighbourTable } from '../kernel/index.js';
import {
  diagnose,
  isInQuestion,
  narrow,
  questionsFor,
  sizesBetween,
  UNPROBED,
  type Answers,
  type Health,
  type Question,
} from './diagnosis.js';
import { isOpen, type OpenPath, type Path } from './path.js';
import { PACKETS, ProbeSchedule } from './probe-schedule.js';

export interface PathProberOptions {
  kernel: Pick<Kernel, 'ping' | 'heardTags' | 'neighbourTables'>;
  node: string;
  paths: () => readonly Path[];
  /** Whether the node at the other end is known to be down. */
  isDown: (path: Path) => boolean;
  /** Packets that finding out why a path is broken would take now. */
  packetsToInspect: (path: OpenPath) => number;
  /** A path was found broken: these may be sent. */
  onBroken: (path: OpenPath) => void;
  onAnswer: (rttMs: number) => void;
  /** In each turn, and where a path has another state. */
  onNews: () => void;
  /** Milliseconds of a clock that never steps. */
  now?: () => number;
}

const TURN_MS = 1000;
/** A path that is well is asked in every second turn: that is found out in time, and idle nodes cost little. */
const REST_MS = 1.5 * TURN_MS;
/** By which a timer may be early: the packets of a turn are those of a whole second. */
const EARLY_MS = 2;
/** Longer than any usable underlay needs, and less than a turn. */
const TIMEOUT_MS = 800;
/** For sizes that are tried one after the other on a path that answers small packets. */
const SEARCH_TIMEOUT_MS = 200;
const SIZES_AT_ONCE = 5;
/** Packets of a turn that are kept for them. */
const LEFT_TO_SEARCH = 6;
/** Bytes of a small packet. */
const SMALL: Record<Family, number> = { 4: 76, 6: 96 };
/** Between looks at how full the kernel's neighbour tables are; before a new neighbour is asked for they are read, too. */
const TABLES_EVERY_MS = 10 * TURN_MS;
/** Where the kernel does not say how many neighbours it remembers: its own default. */
const USUAL_MOST = 1024;

export class PathProber {
  readonly #health = new Map<string, Health>();
  /** When each tag was heard last. */
  readonly #heard = new Map<string, number>();
  readonly #schedule = new ProbeSchedule();
  /** This node's own, by family and network. */
  readonly #tags = new Map<string, string>();
  readonly #running = new Set<Promise<void>>();
  #open: readonly OpenPath[] = [];
  #isSearching = false;
  /** Paths to nodes that are down, whose neighbours were asked for since. */
  readonly #inspected = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  /** Packets of the turns of the last second; what is sent later belongs to the turn before it. */
  #spent: { at: number; packets: number }[] = [];
  /** When all paths were asked in one turn. */
  #askedAll: { at: number; paths: readonly Path[] } | undefined;
  #tablesAt = -Infinity;
  #tables: readonly NeighbourTable[] = [];
  #stopped = false;
  readonly #now: () => number;

  constructor(private readonly options: PathProberOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  start(): void {
    this.#turn();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await Promise.all(this.#running);
  }

  /** Sends each path a packet now, as far as the packets of this second go. */
  greet(): void {
    if (this.#timer !== undefined) this.#turn(true);
  }

  /** The kernel's neighbour tables, as they were read last. */
  get tables(): readonly NeighbourTable[] {
    return this.#tables;
  }

  /** Whether no path is missed. */
  get isWell(): boolean {
    for (const { misses } of this.#health.values()) if (misses > 0) return false;
    return true;
  }

  healthOf({ key }: Path): Health {
    return this.#health.get(key) ?? UNPROBED;
  }

  /** Whether the other node's probes arrive on a path that is missed; undefined: not known. */
  hears({ node, network, family, key }: Path): boolean | undefined {
    const missedAt = this.#health.get(key)?.missedAt;
    const at = node === undefined ? undefined : this.#heard.get(tagOf(node, network, family));
    // One that was never heard may be of a release that sends no tags.
    if (missedAt === undefined || at === undefined) return undefined;
    if (at > missedAt) return true;
    const round = (2 * this.#health.size * TURN_MS) / PACKETS;
    return this.#now() - missedAt > round + 4 * TURN_MS ? false : undefined;
  }

  #turn(isGreeting = false): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#turn(), TURN_MS + EARLY_MS);
    const { kernel, paths, isDown, packetsToInspect, onNews } = this.options;
    const now = this.#now();
    const all = paths();
    // Idle nodes cost little: where all were asked in the turn before, and are well, there is nothing to do in this one.
    if (!isGreeting && this.#rests(now, all)) return onNews();
    this.#spent = [...this.#spent.filter(({ at }) => now - at < TURN_MS), { at: now, packets: 0 }];
    for (const tag of kernel.heardTags()) this.#heard.set(tag, now);
    this.#open = all.filter(isOpen);
    this.#keepOnly(this.#open);
    const searches = this.#open.some((path) => this.healthOf(path).search !== undefined);
    const budget = this.#left - (searches ? LEFT_TO_SEARCH : 0);
    // What one turn has packets for is asked in one.
    const restMs = this.#areWell && this.#open.length <= budget ? TURN_MS / 2 : REST_MS;
    const waiting = this.#open.map((path) => {
      const health = this.healthOf(path);
      const questions = questionsFor(health, isGreeting || isDown(path));
      const { key, neighbour } = path;
      const inQuestion = !isGreeting && !isDown(path) && isInQuestion(health);
      const packets = questions.length + (questions.length > 1 ? packetsToInspect(path) : 0);
      const rests = isWell(health) && !isGreeting;
      return {
        key,
        neighbour,
        path,
        questions,
        packets,
        isInQuestion: inQuestion,
        restMs: rests ? restMs : 0,
      };
    });
    const chosen = this.#schedule.pick(now, waiting, budget, this.#limits(now));
    this.#askedAll = chosen.length === waiting.length ? { at: now, paths: all } : undefined;
    for (const { packets } of chosen) this.#spend(packets);
    this.#follow(this.#ask(now, chosen));
    onNews();
  }

  #rests(now: number, paths: readonly Path[]): boolean {
    const last = this.#askedAll;
    if (last?.paths !== paths || now - last.at >= REST_MS) return false;
    return this.#areWell;
  }

  get #areWell(): boolean {
    return this.#open.every((path) => isWell(this.healthOf(path)));
  }

  /** Packets that may still be sent in this turn. */
  get #left(): number {
    return this.#spent.reduce((left, { packets }) => left - packets, PACKETS);
  }

  #spend(packets: number): void {
    const turn = this.#spent.at(-1);
    if (turn !== undefined) turn.packets += packets;
  }

  #follow(work: Promise<void>): void {
    this.#running.add(work);
    void work.finally(() => this.#running.delete(work));
  }

  #keepOnly(open: readonly OpenPath[]): void {
    if (this.#health.size === 0) return;
    const keys = new Set(open.map(({ key }) => key));
    for (const key of this.#health.keys())
      if (!keys.has(key)) {
        this.#health.delete(key);
        this.#inspected.delete(key);
      }
  }

  /** Fewer than a quarter of what the kernel remembers are asked for, and new ones only while that is not half full. */
  #limits(now: number): Parameters<ProbeSchedule['pick']>[3] {
    if (now - this.#tablesAt >= TABLES_EVERY_MS) {
      this.#tablesAt = now;
      this.#tables = this.options.kernel.neighbourTables();
    }
    const most = Math.min(
      ...(this.#tables.length === 0 ? [USUAL_MOST] : this.#tables.map((one) => one.most)),
    );
    let isFresh = false;
    return {
      most: Math.ceil(most / 4) - 1,
      mayAsk: (neighbour) => {
        if (!isFresh) this.#tables = this.options.kernel.neighbourTables();
        isFresh = true;
        const table = this.#tables.find(({ family }) => neighbour.includes(':') === (family === 6));
        return table === undefined || table.entries < table.most / 2 || table.known?.has(neighbour) === true;
      },
    };
  }

  async #ask(
    now: number,
    chosen: readonly { path: OpenPath; questions: readonly Question[] }[],
  ): Promise<void> {
    const { kernel, isDown, onAnswer, onNews } = this.options;
    const packets = chosen.flatMap(({ path, questions }) =>
      questions.map((question) => ({ path, question, ...this.#packet(path, question) })),
    );
    const tagged = packets.map(({ path, question, ip, size }) => ({
      ...{ ip, size },
      // What arrives on the underlay says nothing of the tunnel.
      ...(isThroughTunnel(question) && { tag: this.#tagFor(path) }),
    }));
    const rtts = tagged.length === 0 ? [] : await kernel.ping(tagged, TIMEOUT_MS);
    let isNews = false;
    for (const { path, questions } of chosen) {
      const answers: Answers = {};
      for (const [i, packet] of packets.entries())
        if (packet.path === path) answers[packet.question] = rtts[i];
      const before = this.healthOf(path);
      const sizes = { small: this.#packet(path, 'small').size, full: path.probe.size };
      const after = diagnose(before, questions, answers, { now, ...sizes });
      if (after.rttMs !== undefined) onAnswer(after.rttMs);
      const isMissed = after.misses > 0 && isDown(path);
      // When it is back it is asked twice before anything is said of it.
      this.#health.set(path.key, isMissed ? { ...after, state: 'unknown', misses: 1 } : after);
      isNews ||= after.state !== before.state;
      this.#inspect(path, questions.length > 1);
    }
    if (isNews) onNews();
    await this.#search();
  }

  /** Of a node that is down once, also where it answers: it may be down because what it asks for goes to another host. */
  #inspect(path: OpenPath, isFoundOut: boolean): void {
    const { isDown, packetsToInspect, onBroken } = this.options;
    const { key } = path;
    if (isDown(path)) {
      const packets = packetsToInspect(path);
      if (this.#inspected.has(key) || this.#left < packets) return;
      this.#inspected.add(key);
      this.#spend(packets);
    } else {
      this.#inspected.delete(key);
      if (!isFoundOut || this.healthOf(path).state === 'ok') return;
    }
    onBroken(path);
  }

  #packet({ key, family, probe }: OpenPath, question: Question): { ip: string; size: number } {
    // The size that passed last time is asked for again.
    const small = this.#health.get(key)?.mtu ?? SMALL[family];
    const [tunnel, underlay] = [probe.address.toString(), probe.underlay.toString()];
    switch (question) {
      case 'full':
        return { ip: tunnel, size: probe.size };
      case 'small':
        return { ip: tunnel, size: small };
      case 'larger':
        return { ip: tunnel, size: small + 1 };
      case 'underlay':
        return { ip: underlay, size: SMALL[probe.underlay.family] };
      case 'underlay-full':
        return { ip: underlay, size: probe.outerSize };
    }
  }

  /** Looks for the largest packets that pass, one path after the other, with what is left of the packets. */
  async #search(): Promise<void> {
    const { kernel, onNews } = this.options;
    if (this.#isSearching) return;
    this.#isSearching = true;
    try {
      for (;;) {
        const path = this.#open.find((one) => this.healthOf(one).search !== undefined);
        if (path === undefined || this.#left <= 0 || this.#stopped) return;
        const { key, probe } = path;
        const sizes = this.#sizesFor(this.healthOf(path)).slice(0, this.#left);
        this.#spend(sizes.length);
        const tag = this.#tagFor(path);
        const ip = probe.address.toString();
        const rtts = await kernel.ping(
          sizes.map((size) => ({ ip, size, tag })),
          SEARCH_TIMEOUT_MS,
        );
        const passed = new Map(sizes.map((size, i) => [size, rtts[i] !== undefined]));
        const after = narrow(this.healthOf(path), passed);
        this.#health.set(key, after);
        if (after.search === undefined) onNews();
      }
    } finally {
      this.#isSearching = false;
    }
  }

  #tagFor({ network, family }: Path): string {
    const of = `${family} ${network}`;
    const tag = this.#tags.get(of) ?? tagOf(this.options.node, network, family);
    this.#tags.set(of, tag);
    return tag;
  }

  /** Often it is the size that another path has. */
  #sizesFor({ search = { low: 0, high: 0 } }: Health): number[] {
    const { low, high } = search;
    const other = [...this.#health.values()].find(({ mtu = 0 }) => mtu > low && mtu < high)?.mtu;
    return other === undefined
      ? sizesBetween(search, SIZES_AT_ONCE)
      : [other, other + 1].filter((size) => size < high);
  }
}

const isWell = ({ state, misses }: Health): boolean => state === 'ok' && misses === 0;

const isThroughTunnel = (question: Question): boolean => !question.startsWith('underlay');

/** By which a node is known in the probes that it sends through a network in one family. */
export const tagOf = (node: string, network: string, family: Family): string =>
  createHash('sha256')
    .update(JSON.stringify([node, network, family]))
    .digest('hex')
    .slice(0, 16);
