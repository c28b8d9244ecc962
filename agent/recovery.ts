// What the state directory cannot tell any more, because a file is torn or the directory was lost, is looked for in etcd:
// an endpoint of this node whose container is still there is taken up again, so that no address in use counts as free.
import type { Endpoint } from '../core/records.js';
import type { Logger } from '../daemon/log.js';
import type { Store } from '../store/store.js';
import type { Endpoints } from './endpoints.js';
import type { Kernel } from './kernel/kernel.js';
import type { Problems } from './problems.js';
import { sameSandbox } from './reconciler.js';
import type { Loaded } from './state.js';

export interface RecoveryOptions {
  loaded: Loaded;
  store: Store;
  kernel: Kernel;
  endpoints: Endpoints;
  problems: Problems;
  log: Logger;
  node: string;
}

export async function recoverEndpoints(options: RecoveryOptions): Promise<void> {
  const { loaded, store, kernel, endpoints, problems, log, node } = options;
  const torn = new Set(loaded.torn.filter((file) => file.kind === 'endpoint').map((file) => file.id));
  const isLost = (endpoint: Endpoint): boolean => {
    if (endpoint.node !== node || endpoints.get(endpoint.id) !== undefined) return false;
    if (!torn.has(endpoint.id) && !loaded.fresh) return false;
    const now = kernel.identify(endpoint.sandbox.path);
    return now !== undefined && sameSandbox(now, endpoint.sandbox);
  };
  const found = [...store.view.endpoints.values()].flatMap((byId) => [...byId.values()].filter(isLost));
  for (const endpoint of found) {
    log.warn('an endpoint is taken up again from etcd', {
      endpoint: endpoint.name,
      network: endpoint.network,
    });
    await endpoints.recover(endpoint);
    torn.delete(endpoint.id);
  }
  for (const { path, kind, id, why } of loaded.torn) {
    if (kind === 'endpoint' && !torn.has(id)) continue;
    problems.set(`torn ${path}`, {
      what: `the state file ${path}`,
      why: `it cannot be read: ${why}`,
      fix: `What it said was not found in etcd either; when nothing of it is missed, delete it.`,
    });
  }
}
