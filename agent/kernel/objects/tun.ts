// TUN device as rtnetlink has it.
import type { TunLink } from '../../../core/objects/index.js';
import { createTun } from '../tun.js';
import type { LinkCodec } from './codec.js';
import { bringUp, setAttributes, withoutLinkLocal } from './link-messages.js';

const IFLA_TUN_TYPE = 3;
const TYPE_TUN = 1;

export const tun: LinkCodec<TunLink> = {
  infoKind: 'tun',
  roles: ['node'],
  make: ({ name }) => createTun(name),
  change: (link, current) => [
    ...setAttributes(link, current),
    ...withoutLinkLocal(current),
    ...bringUp(current),
  ],
  /** A TAP device is of the same kind. */
  decode: ({ name, mtu }, alias, data) =>
    data.get(IFLA_TUN_TYPE)?.[0] === TYPE_TUN ? { kind: 'link', type: 'tun', name, alias, mtu } : undefined,
};
