// Managers of endpoints: how they differ, and their names in messages.
//
// All code that depends on a manager reads this table: a new manager is one line here and a plugin.
import { failedPrecondition } from '../../core/errors.js';
import type { Manager } from '../../core/manager.js';
import type { Endpoint } from '../../core/records.js';

interface ManagerTraits {
  /**
   * It reserves addresses before the container exists, and the endpoint before its namespace. The reservations outlive the
   * endpoint, and until the container is seen only the path of the namespace is known.
   */
  readonly reservesAhead: boolean;
  /**
   * Its runtime keeps other processes off published ports by itself, or nobody does. podman listens on them once its network is
   * there, and fails where somebody else does.
   */
  readonly holdsPorts: boolean;
  /** Follows "was connected by". */
  readonly name: string;
  readonly toDetach: string;
}

const TRAITS: Readonly<Record<Manager, ManagerTraits>> = {
  weft: { reservesAhead: false, holdsPorts: false, name: 'weft', toDetach: 'Take it off with weft detach.' },
  docker: {
    reservesAhead: true,
    holdsPorts: false,
    name: 'Docker',
    toDetach: 'Take it off with docker network disconnect.',
  },
  cni: {
    reservesAhead: false,
    holdsPorts: true,
    name: 'a CNI runtime',
    toDetach: 'Remove the container with the runtime that made it (podman rm, nerdctl rm, crictl rmp).',
  },
  netavark: {
    reservesAhead: false,
    holdsPorts: true,
    name: 'podman',
    toDetach: 'Take it off with podman network disconnect.',
  },
};

/** Whether the addresses are allocated and released with the endpoint, rather than kept by a reservation. */
export const ownsAddresses = ({ manager }: Endpoint): boolean => !TRAITS[manager].reservesAhead;

export const holdsPorts = ({ manager }: Pick<Endpoint, 'manager'>): boolean => TRAITS[manager].holdsPorts;

/** The key by which changes of an endpoint are serialized. */
export const queueOf = (endpoint: Endpoint): string =>
  TRAITS[endpoint.manager].reservesAhead ? endpoint.id : endpoint.sandbox.cookie;

export const howToDetach = ({ manager }: Endpoint): string => TRAITS[manager].toDetach;

/** @throws WeftError FAILED_PRECONDITION if another program manages the endpoint */
export function checkOwn(endpoint: Endpoint): void {
  const { manager, target, network } = endpoint;
  if (manager === 'weft') return;
  throw failedPrecondition(
    `${target} was connected to network ${network} by ${TRAITS[manager].name}`,
    howToDetach(endpoint),
  );
}
