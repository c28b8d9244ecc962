// The managers of endpoints: what differs between them, and their words for people. Whatever depends on a manager asks this
// table, so that a new one is a line here and a plugin.
import { failedPrecondition } from '../../core/errors.js';
import type { Manager } from '../../core/manager.js';
import type { Endpoint } from '../../core/records.js';

interface ManagerTraits {
  /**
   * It reserves addresses before there is a container, and the endpoint before its namespace: the reservations outlive the
   * endpoint, and until the container is seen nothing is known of the namespace but its path.
   */
  readonly reservesAhead: boolean;
  /** Behind "was connected by". */
  readonly name: string;
  readonly toDetach: string;
}

const TRAITS: Readonly<Record<Manager, ManagerTraits>> = {
  weft: { reservesAhead: false, name: 'weft', toDetach: 'Take it off with weft detach.' },
  docker: { reservesAhead: true, name: 'Docker', toDetach: 'Take it off with docker network disconnect.' },
  cni: {
    reservesAhead: false,
    name: 'a CNI runtime',
    toDetach: 'Remove the container with the runtime that made it (podman rm, nerdctl rm, crictl rmp).',
  },
  netavark: { reservesAhead: false, name: 'podman', toDetach: 'Take it off with podman network disconnect.' },
};

/** Whether the endpoint's addresses are its own: taken and given back with it, not kept by a reservation. */
export const ownsAddresses = ({ manager }: Endpoint): boolean => !TRAITS[manager].reservesAhead;

/** What all changes of an endpoint stand in one queue for. */
export const queueOf = (endpoint: Endpoint): string =>
  TRAITS[endpoint.manager].reservesAhead ? endpoint.id : endpoint.sandbox.cookie;

export const howToDetach = ({ manager }: Endpoint): string => TRAITS[manager].toDetach;

/** @throws WeftError FAILED_PRECONDITION where another program manages the endpoint */
export function checkOwn(endpoint: Endpoint): void {
  const { manager, target, network } = endpoint;
  if (manager === 'weft') return;
  throw failedPrecondition(
    `${target} was connected to network ${network} by ${TRAITS[manager].name}`,
    howToDetach(endpoint),
  );
}
