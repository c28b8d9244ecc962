// Loopback device as rtnetlink has it.
import type { LoopbackLink } from '../../../core/objects/index.js';
import type { LinkCodec } from './codec.js';
import { bringUp } from './link-messages.js';

export const loopback: LinkCodec<LoopbackLink> = {
  infoKind: '',
  roles: ['node', 'container'],
  change: (_link, current) => bringUp(current),
  decode: ({ name, loopback }) =>
    loopback && name === 'lo' ? { kind: 'link', type: 'loopback', name } : undefined,
};
