// Messages between the bench of large clusters and its processes: one JSON text a line on a unix socket.
import type { HollowPlan } from './hollow-node.js';

/** A container of a hollow node. */
export interface Container {
  node: string;
  network: string;
  name: string;
}

/** Something whose arrival is timed: a subnet, as `10.1.2.0/24`, or a name, as `NETWORK/NAME`. */
export type Mark = string;

export const nameMark = (network: string, name: string): Mark => `${network}/${name}`;

/** What a process is asked. Each is answered once, in turn. */
export type Request =
  /** Starts hollow nodes; answered when they have joined their networks. */
  | { do: 'start'; plans: readonly HollowPlan[] }
  /** Ends all agents and starts them again, all at once; answered as start. */
  | { do: 'restart' }
  /** `atOnce`: all of them, each with the name asked for; else a few at a time, with the names that targets have. */
  | { do: 'attach'; containers: readonly Container[]; atOnce: boolean }
  /** From now on these parts of the containers are replaced by new ones in every minute; 0 ends it. */
  | { do: 'churn'; share: number }
  /** Arrivals of these are timed from now on, and of no others. */
  | { do: 'mark'; marks: readonly Mark[] }
  | { do: 'arrivals' }
  /** Counts events from now on. */
  | { do: 'count' }
  | { do: 'counts' };

export interface Answer {
  /** Why it could not be done. */
  error?: string;
  /** Of `arrivals`: by mark, the times of the monotonic clock in milliseconds, one for each node. */
  arrivals?: Readonly<Record<Mark, readonly number[]>>;
  /** Of `counts`: by the text of a count (textOf), how many nodes have counted that. */
  counts?: Readonly<Record<string, number>>;
  /** Of `churn`: replaced containers since it began. */
  replaced?: number;
}

/** Endpoints that appeared and vanished in one network. Two with equal sums have seen the same ones. */
export interface Count {
  appeared: number;
  vanished: number;
  sum: number;
}

const MODULUS = 2 ** 48;

export class Counts {
  readonly #byNetwork = new Map<string, Count>();

  /** @param id 16 hexadecimal digits */
  add(network: string, id: string, what: 'appeared' | 'vanished'): void {
    const count = this.#byNetwork.get(network) ?? { appeared: 0, vanished: 0, sum: 0 };
    count[what]++;
    // Unlike for both, so that one cannot stand for the other.
    const value = Number.parseInt(id.slice(0, 11), 16) * (what === 'appeared' ? 1 : 3);
    count.sum = (count.sum + value) % MODULUS;
    this.#byNetwork.set(network, count);
  }

  textOf(network: string): string {
    const { appeared, vanished, sum } = this.#byNetwork.get(network) ?? { appeared: 0, vanished: 0, sum: 0 };
    return `${network}: ${appeared} appeared, ${vanished} vanished, sum ${sum}`;
  }

  get networks(): string[] {
    return [...this.#byNetwork.keys()];
  }
}
