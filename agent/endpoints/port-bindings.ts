// Port bindings of this node, and the sockets that reserve their ports.
//
// A binding is a port of the host that leads to an endpoint; its socket keeps other processes off the port.
import type { Family } from '../../core/address.js';
import type { FirewallPort } from '../../core/firewall.js';
import { ANY_HOST_IP, ANY_HOST_IP6, clashes } from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { Kernel, PortReservation } from '../kernel/index.js';

/** The endpoint that has a port. */
export type PortHolder = Pick<Endpoint, 'id' | 'name' | 'network' | 'node' | 'manager'>;

export interface PortBinding {
  holder: PortHolder;
  published: PublishedPort;
  families: readonly Family[];
  /** Empty if the port could not be reserved. */
  held: PortReservation[];
  /** Entries in the firewall. */
  open: FirewallPort[];
  /** Why the port does not lead to the endpoint. */
  problem?: string;
}

/** Bindings by port and by endpoint. */
export class PortBindings {
  readonly #byPort = new Map<string, PortBinding[]>();
  readonly #byEndpoint = new Map<string, PortBinding[]>();

  all(): PortBinding[] {
    return [...this.#byEndpoint.values()].flat();
  }

  of(endpoint: string): readonly PortBinding[] {
    return this.#byEndpoint.get(endpoint) ?? [];
  }

  /** Endpoints with a binding. */
  holders(): PortHolder[] {
    return [...this.#byEndpoint.values()].flatMap(([binding]) => binding?.holder ?? []);
  }

  /** Those of `ports` that are not bound to the endpoint. */
  missing(endpoint: string, ports: readonly PublishedPort[]): PublishedPort[] {
    const bound = new Set(this.of(endpoint).map(({ published }) => textOf(published)));
    return ports.filter((published) => !bound.has(textOf(published)));
  }

  /** False after `remove`. */
  has(binding: PortBinding): boolean {
    return this.of(binding.holder.id).includes(binding);
  }

  /** The binding of the same port, or of one that overlaps it. */
  conflicting(
    published: PublishedPort,
    counts: (binding: PortBinding) => boolean = () => true,
  ): PortBinding | undefined {
    return this.#byPort
      .get(portKey(published))
      ?.find((binding) => clashes(binding.published, published) && counts(binding));
  }

  add(binding: PortBinding): void {
    push(this.#byPort, portKey(binding.published), binding);
    push(this.#byEndpoint, binding.holder.id, binding);
  }

  /** Also releases the port. */
  remove(binding: PortBinding): void {
    for (const held of binding.held.splice(0)) held.release();
    pull(this.#byPort, portKey(binding.published), binding);
    pull(this.#byEndpoint, binding.holder.id, binding);
  }
}

/**
 * Reserves a port against every process of the node. `away`: its address is none of the node's.
 * @throws WeftError as Kernel.reservePort; then nothing is reserved
 */
export function holdPort(
  kernel: Pick<Kernel, 'reservePort'>,
  { hostIp, hostPort, protocol }: PublishedPort,
  families: readonly Family[],
): PortReservation[] | 'taken' | 'away' {
  const any = hostIp === ANY_HOST_IP;
  const held: PortReservation[] = [];
  let isHeld = false;
  try {
    for (const ip of any ? families.map((family) => (family === 4 ? ANY_HOST_IP : ANY_HOST_IP6)) : [hostIp]) {
      const one = kernel.reservePort(ip, hostPort, protocol);
      if (typeof one === 'object') held.push(one);
      // A node without IPv6 has no IPv6 port to reserve.
      else if (one === 'taken' || !any) return one;
    }
    isHeld = true;
    return held;
  } finally {
    if (!isHeld) for (const one of held) one.release();
  }
}

const portKey = ({ protocol, hostPort }: PublishedPort): string => `${protocol} ${hostPort}`;

/** Equal for equal ports. */
export const textOf = ({ hostIp, hostPort, port, protocol, everywhere }: PublishedPort): string =>
  `${hostIp} ${hostPort} ${port} ${protocol} ${everywhere}`;

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function pull<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key)?.filter((one) => one !== value) ?? [];
  if (list.length === 0) map.delete(key);
  else map.set(key, list);
}
