// Who has asked for the containers of which networks: they are followed while anybody has.
import type { FollowedNetwork } from './store.js';
import type { Watcher } from './watcher.js';

export interface FollowedNetworksOptions {
  watcher: Pick<Watcher, 'follow' | 'unfollow' | 'followOnly'>;
  /** Followed from the start; undefined: all. */
  first: Iterable<string> | undefined;
  /** Settles when the view has the containers of a network. @throws the signal's reason */
  listed: (network: string, signal: AbortSignal) => Promise<void>;
}

export class FollowedNetworks {
  readonly #asked = new Map<string, number>();
  #first: ReadonlySet<string> | undefined;

  constructor(private readonly options: FollowedNetworksOptions) {
    this.#first = options.first && new Set(options.first);
  }

  follow(network: string): FollowedNetwork {
    const { watcher, listed } = this.options;
    this.#asked.set(network, (this.#asked.get(network) ?? 0) + 1);
    watcher.follow(network);
    let isOver = false;
    return {
      listed: (signal) => listed(network, signal),
      end: () => {
        if (isOver) return;
        isOver = true;
        const left = (this.#asked.get(network) ?? 1) - 1;
        if (left > 0) return void this.#asked.set(network, left);
        this.#asked.delete(network);
        if (this.#first?.has(network) === false) watcher.unfollow(network);
      },
    };
  }

  /** What was followed from the start is followed no longer, unless somebody has asked for it. */
  narrow(): void {
    const first = this.#first;
    this.#first = new Set();
    if (first === undefined) return this.options.watcher.followOnly(this.#asked.keys());
    for (const network of first) if (!this.#asked.has(network)) this.options.watcher.unfollow(network);
  }
}
