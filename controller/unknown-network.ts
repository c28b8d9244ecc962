// Errors for a network that is not in the view: a config that is not served, or a misspelt name.
import { notFound } from '../core/errors.js';
import { didYouMean } from '../daemon/suggest.js';
import type { Store } from '../store/store.js';
import { notServed, unservedConfig } from '../store/unserved.js';

export function unknownNetwork(store: Store, name: string): Error {
  const bad = unservedConfig(store.view, name);
  if (bad !== undefined) return notServed(name, bad);
  const hint = didYouMean(name, store.view.networks.keys());
  return notFound(`network ${name}: there is no such network`, hint === '' ? 'See weft network ls.' : hint);
}
