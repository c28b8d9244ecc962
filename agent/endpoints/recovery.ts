// What the state directory cannot tell any more, because a file is torn or the directory was lost, is looked for in etcd:
// an endpoint of this node whose container is still there is taken up again, so that no address in use counts as free.
import { parseInterface, IpNetwork } from '../../core/address.js';
import type { Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import type { Addresses } from './addresses.js';
import type { Endpoints } from './endpoints.js';
import type { Memberships } from '../networks/index.js';
import type { Kernel } from '../kernel/index.js';
import {
  type Attempt,
  attempt,
  endpointScope,
  networkScope,
  NODE,
  type Problems,
  type ProblemScope,
} from '../health/index.js';
import { sameSandbox } from '../reconcile/index.js';
import type { Loaded } from '../state/index.js';

export interface RecoveryOptions {
  loaded: Loaded;
  store: Store;
  kernel: Kernel;
  endpoints: Endpoints;
  addresses: Addresses;
  memberships: Memberships;
  problems: Problems;
  log: Logger;
  node: string;
}

/** Whether this node may have endpoints that only etcd remembers. */
export const mayBeMore = ({ fresh, torn }: Loaded): boolean =>
  fresh || torn.some(({ kind }) => kind === 'endpoint');

/**
 * Settles when no earlier life of this host counts as alive any more: one that is told apart by its instance, for the state
 * directory was lost, and is at the same address. Until its sign of life ends nothing can be taken up under its name.
 * @throws the signal's reason
 */
export async function earlierLifeEnds(
  store: Pick<Store, 'view' | 'subscribe'>,
  own: { node: string; instance: string; publicIp: () => string },
  signal: AbortSignal,
): Promise<void> {
  const isThere = (): boolean => {
    const holder = store.view.alive.get(own.node);
    const at = store.view.nodes.get(own.node)?.publicIp;
    return holder !== undefined && holder !== own.instance && at === own.publicIp();
  };
  signal.throwIfAborted();
  if (!isThere()) return;
  let stop: () => void = () => undefined;
  let unsubscribe: () => void = () => undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      stop = () => reject(signal.reason as Error);
      signal.addEventListener('abort', stop, { once: true });
      unsubscribe = store.subscribe(() => {
        if (!isThere()) resolve();
      });
    });
  } finally {
    signal.removeEventListener('abort', stop);
    unsubscribe();
  }
}

export async function recoverEndpoints(options: RecoveryOptions): Promise<void> {
  const { loaded, store, kernel, endpoints, addresses, memberships, problems, log, node } = options;
  const torn = new Set(loaded.torn.filter((file) => file.kind === 'endpoint').map((file) => file.id));
  const isLost = (endpoint: Endpoint): boolean => {
    if (endpoint.node !== node || endpoints.get(endpoint.id) !== undefined) return false;
    if (!torn.has(endpoint.id) && !loaded.fresh) return false;
    const now = kernel.identify(endpoint.sandbox.path);
    return now !== undefined && sameSandbox(now, endpoint.sandbox);
  };
  const found = [...store.view.endpoints.values()].flatMap((byId) => [...byId.values()].filter(isLost));
  for (const endpoint of found) {
    const { name, network } = endpoint;
    const what = `endpoint ${name} of network ${network}`;
    await attempt(options, recoveryOf(endpointScope(endpoint), what), async () => {
      log.warn('an endpoint is taken up again from etcd', { endpoint: name, network });
      await endpoints.recover(endpoint);
    });
  }
  addresses.complete();
  await rejoin(options);
  for (const { path, kind, id, why } of loaded.torn) {
    if (kind !== 'instance' && (kind === 'endpoint' ? endpoints : memberships).get(id) !== undefined)
      continue;
    problems.set(
      { scope: NODE, kind: 'state-file', id: path },
      {
        what: `the state file ${path}`,
        why: `it cannot be read: ${why}`,
        fix: `What it said was not found in etcd either; when nothing of it is missed, delete it.`,
      },
    );
  }
}

/** Networks whose file is lost and that this node is on all the same: its containers, or what is left of the file, say so. */
async function rejoin(options: RecoveryOptions): Promise<void> {
  const { loaded, endpoints, memberships, store, log } = options;
  const named = loaded.torn.filter(({ kind }) => kind === 'network').map(({ id }) => id);
  for (const network of new Set([...endpoints.list().map((endpoint) => endpoint.network), ...named])) {
    if (memberships.get(network) !== undefined || !store.view.networks.has(network)) continue;
    await attempt(options, recoveryOf(networkScope(network), `network ${network}`), async () => {
      log.warn('a network whose state file is lost is joined again', { network });
      const previous = subnetsOf(endpoints.list(), network);
      await memberships.join(network, previous === undefined ? {} : { previous });
    });
  }
}

/** The subnets that the containers of a network have their addresses from. */
function subnetsOf(
  all: readonly Endpoint[],
  network: string,
): { subnet: IpNetwork; subnet6?: IpNetwork } | undefined {
  const prefix = (text: string | undefined, single: number): IpNetwork | undefined => {
    const parsed = text === undefined ? undefined : parseInterface(text);
    return parsed === undefined || parsed.length === single
      ? undefined
      : IpNetwork.of(parsed.address, parsed.length);
  };
  for (const endpoint of all) {
    if (endpoint.network !== network) continue;
    const subnet = prefix(endpoint.ip, 32);
    const subnet6 = prefix(endpoint.ip6, 128);
    if (subnet !== undefined) return { subnet, ...(subnet6 === undefined ? {} : { subnet6 }) };
  }
  return undefined;
}

/** One that cannot be recovered is a problem, and does not keep the others. */
const recoveryOf = (scope: ProblemScope, what: string): Attempt => ({
  scope,
  kind: 'recovery',
  what,
  because: (message) => `its state file is lost, and it could not be taken up again from etcd: ${message}`,
  otherwise: 'Restart the agent when the cause is mended; it is tried again then.',
});
