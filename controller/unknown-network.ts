// Errors for a network that is not in the view: a config that is not served, or a misspelt name.
import { unknownName } from '../daemon/unknown.js';
import type { Store } from '../store/store.js';
import { notServed, unservedConfig } from '../store/unserved.js';

export function unknownNetwork(store: Store, name: string): Error {
  const bad = unservedConfig(store.view, name);
  return bad === undefined ? unknownName('network', name, store.view.networks.keys()) : notServed(name, bad);
}
