// UDP ports of networks whose backends need one each.
import { alreadyExists, resourceExhausted } from '../errors.js';
import type { OtherNetwork } from './backend.js';

interface Ports {
  name: string;
  ports: readonly number[];
}

/** @throws WeftError ALREADY_EXISTS */
export function checkPorts(network: Ports, other: Ports): void {
  const port = network.ports.find((one) => other.ports.includes(one));
  if (port === undefined) return;
  throw alreadyExists(
    `network ${network.name}: UDP port ${port} is network ${other.name}'s`,
    'Give one of them another port (--port), or leave it out and a free one is taken.',
  );
}

/**
 * The first of so many ports in a row, from `first`, that no other network of the cluster has.
 * @throws WeftError RESOURCE_EXHAUSTED
 */
export function choosePort(
  name: string,
  others: Iterable<OtherNetwork>,
  first: number,
  count: number,
): number {
  const taken = new Set([...others].flatMap((other) => (other.name === name ? [] : other.ports)));
  for (let port = first; port + count <= 65_536; port += count)
    if (Array.from({ length: count }, (_, i) => port + i).every((one) => !taken.has(one))) return port;
  throw resourceExhausted(
    `network ${name}: every UDP port from ${first} is taken`,
    'Remove a network, or give a port below that range (--port).',
  );
}
