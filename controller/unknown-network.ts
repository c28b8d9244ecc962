// Errors for a network that does not exist: an unreadable config, or a misspelt name.
import { notFound } from '../core/errors.js';
import { didYouMean } from '../daemon/suggest.js';
import type { Store } from '../store/store.js';

export function unknownNetwork(store: Store, name: string): Error {
  const bad = [...store.view.bad.values()].find(({ key }) => key.endsWith(`/networks/${name}/config`));
  if (bad !== undefined)
    return notFound(
      `network ${name}: its config is not one that weft serves: ${bad.why}`,
      `Correct ${bad.key}.`,
    );
  const hint = didYouMean(name, store.view.networks.keys());
  return notFound(`network ${name}: there is no such network`, hint === '' ? 'See weft network ls.' : hint);
}
