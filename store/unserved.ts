// Networks that weft does not serve: unknown backend, or unreadable config.
import { failedPrecondition, type WeftError } from '../core/errors.js';
import type { BadRecord } from '../core/records.js';
import type { View } from './store.js';

/**
 * Why a network is not served, as `weft status` shows it; undefined if its config is readable or absent.
 * A network that was readable before keeps its last state (View.bad), and is served.
 */
export function unservedConfig(
  { networks, bad }: Pick<View, 'networks' | 'bad'>,
  name: string,
): BadRecord | undefined {
  if (networks.has(name)) return undefined;
  return [...bad.values()].find(({ key }) => key.endsWith(`/networks/${name}/config`));
}

/** The network exists: NOT_FOUND would have a script create it. */
export const notServed = (name: string, { key, why }: BadRecord, options?: ErrorOptions): WeftError =>
  failedPrecondition(
    `network ${name}: its config is not one that weft serves: ${why}`,
    `Correct ${key} in etcd, or remove the network: weft network rm ${name}.`,
    options,
  );
