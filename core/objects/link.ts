// What all types of links share: key and description.
import { asKey, type ObjectKey } from './kind.js';
import { LINK_PREFIX } from './marks.js';

export const linkKey = (name: string): ObjectKey => asKey(`link ${name}`);

/** The part of a LinkKind that is equal for all types. */
export const ANY_LINK = {
  key: ({ name }: { name: string }): ObjectKey => linkKey(name),
  describe: ({ type, name }: { type: string; name: string }): string => `${type} ${name}`,
};

/** Creating one touches no existing link; changing one does. */
export const guardsItself = ({ name }: { name: string }, step: string): readonly string[] =>
  step === 'create' ? [] : [name];

/** A bridge as a guard. Containers can be ports of unowned bridges, but of none under weft's names. */
export const guardsBridge = (bridge: string): readonly string[] =>
  bridge.startsWith(LINK_PREFIX) ? [bridge] : [];
