// Loopback device of a container, brought up and otherwise left alone.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK } from './link.js';

export interface LoopbackLink {
  kind: 'link';
  type: 'loopback';
  name: 'lo';
}

export const loopback: LinkKind<LoopbackLink> = {
  ...ANY_LINK,
  order: () => PHASE.inside,
  same: () => true,
  remade: () => false,
  guards: () => [],
  builtin: true,
};
