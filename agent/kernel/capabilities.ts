// Optional kernel capabilities, probed in a temporary network namespace.
//
// The kernel's configuration says less: a module may be missing, and a bridge without CONFIG_BRIDGE_VLAN_FILTERING accepts the
// setting silently and does nothing. The namespace is deleted before the probe returns.
import { messageOf } from '../../core/errors.js';
import type { BridgeLink, IpipLink, VlanLink, WireguardLink } from '../../core/objects/index.js';
import type { Need } from '../../core/needs.js';
import { FouSocket } from './fou.js';
import type { Capability } from './kernel.js';
import { inNewNamespace } from './namespaces.js';
import { NetlinkSocket } from './netlink-socket.js';
import { createTun } from './tun.js';
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

const IPIP: IpipLink = {
  kind: 'link',
  type: 'ipip',
  name: 'wfprobeipip',
  alias: '',
  mtu: 1480,
  local: '192.0.2.1',
};

const WIREGUARD: WireguardLink = { kind: 'link', type: 'wireguard', name: 'wfprobewg', alias: '', mtu: 1420 };

/** Used where the device needs no other device below it. */
const ALONE: LinkContext = { bridgeIndex: () => 0, peerFd: () => undefined };

const NEEDS: readonly Need[] = ['bridge-vlan-filtering', '802.1q', 'wireguard', 'tun', 'ipip'];

export function probeCapabilities(): Capability[] {
  const answer = (whys: readonly string[]): Capability[] =>
    NEEDS.map((name, i) => ({ name, available: whys[i] === '', why: whys[i] ?? '' }));
  try {
    return inNewNamespace(() => {
      const socket = new NetlinkSocket();
      try {
        return answer([...probe(socket), probeWireguard(socket), probeTun(), probeIpip(socket)]);
      } finally {
        socket.close();
      }
    });
  } catch (error) {
    const why = `the check failed: ${messageOf(error)}`;
    return answer(NEEDS.map(() => why));
  }
}

function probe(socket: NetlinkSocket): [string, string] {
  const [refused] = socket.batch([createLink(BRIDGE, ALONE)]);
  // A kernel may refuse an attribute that it was built without, or ignore it.
  const [plain] = refused === undefined ? [] : socket.batch([createLink({ ...BRIDGE, vlans: false }, ALONE)]);
  const message = socket.get(getLink(BRIDGE.name));
  if (message === undefined) {
    const why = `the check failed, a bridge could not be created: ${plain?.message ?? 'it does not exist'}`;
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

function probeWireguard(socket: NetlinkSocket): string {
  const [refused] = socket.batch([createLink(WIREGUARD, ALONE)]);
  return refused === undefined
    ? ''
    : `the kernel has no WireGuard (CONFIG_WIREGUARD, module wireguard): ${refused.message}`;
}

function probeTun(): string {
  try {
    createTun('wfprobetun');
    return '';
  } catch (error) {
    return `the kernel has no TUN devices (CONFIG_TUN, module tun), or /dev/net/tun is kept from the agent, which looks at its start: ${messageOf(error)}`;
  }
}

/** Whether the kernel puts packets into UDP, and takes them from there, without a process (FOU, with IP in IP). */
export function probeFou(): boolean {
  try {
    return inNewNamespace(() => {
      const [socket, fou] = [new NetlinkSocket(), new FouSocket()];
      try {
        const [refused] = socket.batch([createLink({ ...IPIP, fou: 8285 }, ALONE)]);
        return fou.isThere && refused === undefined;
      } finally {
        socket.close();
        fou.close();
      }
    });
  } catch {
    return false;
  }
}

function probeIpip(socket: NetlinkSocket): string {
  const [refused] = socket.batch([createLink(IPIP, ALONE)]);
  return refused === undefined
    ? ''
    : `the kernel has no IP in IP (CONFIG_NET_IPIP, module ipip): ${refused.message}`;
}
