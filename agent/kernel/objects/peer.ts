// Container's end of a veth pair, as rtnetlink shows it inside.
import type { PeerLink } from '../../../core/objects/index.js';
import type { LinkCodec } from './codec.js';
import { bringUp, setAttributes } from './link-messages.js';

export const peer: LinkCodec<PeerLink> = {
  infoKind: 'veth',
  roles: ['container'],
  change: (link, current) => [...setAttributes(link, current), ...bringUp(current)],
  decode: ({ name, mac, mtu }) => ({ kind: 'link', type: 'peer', name, mac, mtu }),
};
