// The containers of a network in this node's view: there from its join to its end, and while somebody asks about others.
import { unavailable } from '../../core/errors.js';
import type { FollowedNetwork, Store } from '../../store/store.js';

/** Milliseconds: etcd answers, or the caller is told that it does not. */
const LISTED_WITHIN = 5000;

type Follower = Pick<Store, 'follow' | 'state'>;

export interface FollowOptions {
  /** Whether it can be done with what is known while etcd is away. */
  alone: boolean;
  signal: AbortSignal | undefined;
}

/**
 * Takes something of a network that this node begins to follow meanwhile, for the sake of time.
 * @throws WeftError UNAVAILABLE where etcd does not answer and is needed; what `take` throws; then it is not followed
 */
export async function takeAndFollow<T>(
  store: Follower,
  network: string,
  { alone, signal }: FollowOptions,
  take: () => Promise<T>,
): Promise<[T, FollowedNetwork]> {
  const followed = store.follow(network);
  const listed = allOf(followed, network, signal);
  // It may fail while nobody waits for it yet, or any more.
  listed.catch(() => undefined);
  try {
    const taken = await take();
    if (!alone) await listed;
    else if (store.state.connected)
      await listed.catch((error: unknown) => {
        if (signal?.aborted === true) throw error;
      });
    return [taken, followed];
  } catch (error) {
    followed.end();
    throw error;
  }
}

/**
 * Looks at networks one after the other, each while the view has its containers: where somebody asks about networks that this
 * node is not on. @returns what the first look finds
 * @throws WeftError UNAVAILABLE where etcd does not answer
 */
export async function lookThrough<T>(
  store: Follower,
  networks: Iterable<string>,
  look: (network: string) => T | undefined,
): Promise<T | undefined> {
  for (const network of networks) {
    const followed = store.follow(network);
    try {
      await allOf(followed, network, undefined);
      const found = look(network);
      if (found !== undefined) return found;
    } finally {
      followed.end();
    }
  }
  return undefined;
}

async function allOf(
  followed: FollowedNetwork,
  network: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const late = AbortSignal.timeout(LISTED_WITHIN);
  try {
    await followed.listed(signal === undefined ? late : AbortSignal.any([signal, late]));
  } catch (error) {
    if (!late.aborted || signal?.aborted === true) throw error;
    throw unavailable(
      `the containers of network ${network} are not known yet: etcd does not answer`,
      'Try again when it does.',
    );
  }
}
