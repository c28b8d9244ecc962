// Wait for sync: no answer before the first full list of etcd.
//
// An empty list would be wrong.
import { unavailable } from '../core/errors.js';
import type { Store } from '../store/store.js';

/** How long a call waits for a controller that has just started. */
const WAIT_MS = 3000;

/** @throws WeftError UNAVAILABLE with etcd's reason */
export async function waitForSync(store: Store): Promise<void> {
  if (store.isSynced) return;
  try {
    await store.synced(AbortSignal.timeout(WAIT_MS));
  } catch (error) {
    const { error: why } = store.state;
    throw unavailable(
      `the controller has not been able to read etcd yet${why === undefined ? '' : `: ${why}`}`,
      'See that etcd runs and is reached at the controller’s --etcd.',
      { cause: error },
    );
  }
}
