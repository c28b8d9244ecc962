// What this kernel can do beyond what weft cannot live without, found out by trying: in a network namespace that is made for
// it and gone when this returns. The kernel's configuration says less: a module may be missing, and a bridge without
// CONFIG_BRIDGE_VLAN_FILTERING takes the setting without a word and does nothing.
import { messageOf } from '../../core/errors.js';
import type { BridgeLink, VlanLink } from '../../core/objects/index.js';
import type { Capability } from './kernel.js';
import { inNewNamespace } from './namespaces.js';
import { NetlinkSocket } from './netlink-socket.js';
import { createLink, decodeLink, getLink, type LinkContext } from './objects/index.js';

const BRIDGE: BridgeLink = {
  kind: 'link',
  type: 'bridge',
  name: 'wfprobe',
  alias: '',
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  vlans: true,
};
const VLAN: VlanLink = {
  kind: 'link',
  type: 'vlan',
  name: 'wfprobe.2',
  alias: '',
  mtu: 1500,
  base: 'wfprobe',
  vlan: 2,
};

/** For links that need no other. */
const ALONE: LinkContext = { bridgeIndex: () => 0, peerFd: () => undefined };

export function probeCapabilities(): Capability[] {
  const answer = (filtering: string, tagging: string): Capability[] => [
    { name: 'bridge-vlan-filtering', available: filtering === '', why: filtering },
    { name: '802.1q', available: tagging === '', why: tagging },
  ];
  try {
    return inNewNamespace(() => {
      const socket = new NetlinkSocket();
      try {
        return answer(...probe(socket));
      } finally {
        socket.close();
      }
    });
  } catch (error) {
    const why = `it could not be tried: ${messageOf(error)}`;
    return answer(why, why);
  }
}

function probe(socket: NetlinkSocket): [string, string] {
  const [refused] = socket.batch([createLink(BRIDGE, ALONE)]);
  // A kernel may refuse what it was built without, or pass over it.
  const [plain] = refused === undefined ? [] : socket.batch([createLink({ ...BRIDGE, vlans: false }, ALONE)]);
  const message = socket.get(getLink(BRIDGE.name));
  if (message === undefined) {
    const why = `a bridge could not be made to try it: ${plain?.message ?? 'it is not there'}`;
    return [why, why];
  }
  const bridge = decodeLink(message.body, 'node', () => '');
  const filters = bridge.object?.type === 'bridge' && bridge.object.vlans === true;
  const [untagged] = socket.batch([createLink(VLAN, { ...ALONE, bridgeIndex: () => bridge.index })]);
  return [
    filters ? '' : 'the kernel was built without CONFIG_BRIDGE_VLAN_FILTERING',
    untagged === undefined
      ? ''
      : `the kernel has no 802.1Q (CONFIG_VLAN_8021Q, module 8021q): ${untagged.message}`,
  ];
}
