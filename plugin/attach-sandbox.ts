// Attach a container under its manager's key, for plugins whose runtime has made the namespace (CNI, netavark).
//
// All or nothing, up to the answer: what a caller does not hear of is undone, since it may ask again.
import { alreadyExists, notFound } from '../core/errors.js';
import type { ForeignKey } from '../core/manager.js';
import { satisfies, type PublishRequest } from '../core/publish.js';
import type { Endpoint } from '../core/records.js';
import type { ContainerView, PluginHost, SandboxRequest } from '../daemon/plugin-host.js';

/** A key of a container's interface. */
export type InterfaceKey = Extract<ForeignKey, { containerId: string }>;

/** Calls about one interface run one after the other. */
export const queueOf = ({ network, containerId, ifname }: InterfaceKey): string =>
  JSON.stringify([network, containerId, ifname]);

/**
 * @param finish makes the answer, or throws where the endpoint is not what was asked for
 * @throws WeftError, what `finish` throws, or the signal's reason; then the container has nothing of it
 */
export async function attachSandbox<T>(
  { endpoints }: Pick<PluginHost, 'endpoints'>,
  request: SandboxRequest & { key: InterfaceKey },
  signal: AbortSignal,
  finish: (endpoint: Endpoint, view: ContainerView) => T,
): Promise<T> {
  const { key, network } = request;
  signal.throwIfAborted();
  // Its removal was not told: the container of that id has another namespace now.
  const left = endpoints.find(key);
  if (left !== undefined && endpoints.isAlive(left.id) === false) await endpoints.disconnect(left.id);
  const before = endpoints.find(key)?.id;
  const publish = withoutOpen(request.publish, endpoints.list(), key);
  const endpoint = await endpoints.attach({ ...request, publish }, signal);
  try {
    if (endpoint.id !== before) checkAlone(endpoint, endpoints.list());
    const view = endpoints.view(endpoint.id);
    if (view === undefined) throw notFound(`this node is not on network ${network} any more`);
    signal.throwIfAborted();
    return finish(endpoint, view);
  } catch (error) {
    if (endpoint.id !== before) await endpoints.disconnect(endpoint.id);
    throw error;
  }
}

/** Runtimes ask for a container's ports on each of its networks: they lead to the first. */
function withoutOpen(
  publish: readonly PublishRequest[],
  all: readonly Endpoint[],
  key: InterfaceKey,
): PublishRequest[] {
  const open = all
    .filter(
      ({ foreignKey: other }) =>
        other !== undefined &&
        'containerId' in other &&
        other.containerId === key.containerId &&
        queueOf(other) !== queueOf(key),
    )
    .flatMap((endpoint) => endpoint.publish);
  return publish.filter((request) => !open.some((published) => satisfies(published, request, false)));
}

/** The routes of two interfaces would be the same. */
function checkAlone(endpoint: Endpoint, all: readonly Endpoint[]): void {
  const { network, sandbox, id } = endpoint;
  const twin = all.find(
    (one) => one.id !== id && one.network === network && one.sandbox.cookie === sandbox.cookie,
  );
  if (twin === undefined) return;
  throw alreadyExists(
    `the container is on network ${network} already, by ${twin.ifname}`,
    'Use another network for the second interface.',
  );
}
