// What all types of links have in common: key and description.
import { asKey, type ObjectKey } from './kind.js';
import { LINK_PREFIX } from './marks.js';

export const linkKey = (name: string): ObjectKey => asKey(`link ${name}`);

/** The part of a LinkKind that is the same for every type. */
export const ANY_LINK = {
  key: ({ name }: { name: string }): ObjectKey => linkKey(name),
  describe: ({ type, name }: { type: string; name: string }): string => `${type} ${name}`,
};

/** What is made does not touch a link; what is changed does. */
export const guardsItself = ({ name }: { name: string }, step: string): readonly string[] =>
  step === 'create' ? [] : [name];

/** A bridge as a guard. Containers are ports of bridges of others, too, but of none that has taken a name of weft's. */
export const guardsBridge = (bridge: string): readonly string[] =>
  bridge.startsWith(LINK_PREFIX) ? [bridge] : [];
