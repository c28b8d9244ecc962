// Recovery of endpoints and networks from etcd.
//
// It replaces records of the state directory that are torn or lost. An endpoint of this node whose container still runs is
// restored, so that no address in use counts as free.
import { addressBits, parseInterface, IpNetwork } from '../../core/address.js';
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

/** Whether this node may have endpoints that only etcd knows. */
export const mayBeMore = ({ fresh, torn }: Loaded): boolean =>
  fresh || torn.some(({ kind }) => kind === 'endpoint');

/**
 * Settles when no earlier instance of this host counts as alive: one with another instance id, because the state directory
 * was lost, at the same address. Until its liveness key expires, nothing can be restored under the node's name.
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
      log.warn('recovering an endpoint from etcd', { endpoint: name, network });
      await endpoints.recover(endpoint);
    });
  }
  addresses.complete();
  await rejoin(options);
  for (const { path, kind, id, why } of loaded.torn) {
    const key = { scope: NODE, kind: 'state-file', id: path } as const;
    const isBack =
      kind !== 'instance' && (kind === 'endpoint' ? endpoints : memberships).get(id) !== undefined;
    // It may be there from an earlier attempt.
    if (isBack) problems.clear(key);
    else
      problems.set(key, {
        what: `the state file ${path}`,
        why: `it cannot be read: ${why}`,
        fix:
          kind === 'former subnet'
            ? 'Delete it. All it said is which subnet this host had of a network that it has left; when the host joins a network of that prefix again, it may get another one.'
            : 'Its record is not in etcd either; if nothing is missing, delete the file.',
      });
  }
}

/** Joins networks again whose file is lost; the node's containers, or the name of the torn file, show that it was on them. */
async function rejoin(options: RecoveryOptions): Promise<void> {
  const { loaded, endpoints, memberships, store, log } = options;
  const named = loaded.torn.filter(({ kind }) => kind === 'network').map(({ id }) => id);
  for (const network of new Set([...endpoints.list().map((endpoint) => endpoint.network), ...named])) {
    if (memberships.get(network) !== undefined || !store.view.networks.has(network)) continue;
    await attempt(options, recoveryOf(networkScope(network), `network ${network}`), async () => {
      log.warn('joining a network again whose state file is lost', { network });
      const previous = subnetsOf(endpoints.list(), network);
      await memberships.join(network, { again: true, ...(previous && { previous }) });
    });
  }
}

/** The node's subnets in a network, from the addresses of its containers. */
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
    const subnet = prefix(endpoint.ip, addressBits(endpoint.ip.includes(':') ? 6 : 4));
    const subnet6 = prefix(endpoint.ip6, 128);
    if (subnet !== undefined) return { subnet, ...(subnet6 === undefined ? {} : { subnet6 }) };
  }
  return undefined;
}

/** A failed recovery is a problem; the others go on. */
const recoveryOf = (scope: ProblemScope, what: string): Attempt => ({
  scope,
  kind: 'recovery',
  what,
  because: (message) => `its state file is lost, and it could not be recovered from etcd: ${message}`,
  otherwise: 'Remove the cause, then restart the agent to try again.',
});
