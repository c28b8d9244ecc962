// The steps of an attach as bare netlink messages, one batch for the node and one for the container: the least that a program
// in Node.js can need. A process of its own, like the one that calls the agent.
import { closeSync } from 'node:fs';

import { openNetns } from '../../agent/kernel/namespaces.js';
import { attr, macAttr, NLM_F, RTM, textAttr, u32Attr } from '../../agent/kernel/netlink-message.js';
import type { NetlinkSocket } from '../../agent/kernel/netlink-socket.js';
import { getLink, itemCodecOf } from '../../agent/kernel/objects/index.js';
import { IFLA, ifinfo, linkInfo } from '../../agent/kernel/objects/link-messages.js';
import type { ItemObject } from '../../core/objects/index.js';
import { messageOf } from '../../core/errors.js';

/** One container: its namespace, the pair's end on the node, and what it gets. */
export interface Bare {
  container: string;
  link: string;
  /** Of the pair's end on the node: the kernel takes the index of one end only together with that of the other. */
  index: number;
  mac: string;
  address: string;
  routes: readonly { to: string; via?: string }[];
}

const [, , host = '', bridge = '', mtu = ''] = process.argv;
const { socket: node } = openNetns(host);
const bridgeIndex = node.get(getLink(bridge))?.body.readInt32LE(4) ?? 0;

const LOOPBACK = 1;
/** Given by the request, so that nothing needs to be read back. */
const INSIDE = 100;
const VETH_INFO_PEER = 1;

function send(socket: NetlinkSocket, requests: Parameters<NetlinkSocket['batch']>[0]): void {
  const failure = socket.batch(requests).find((it) => it !== undefined);
  if (failure !== undefined) throw new Error(failure.message);
}

const put = (object: ItemObject): Parameters<NetlinkSocket['batch']>[0][number] => {
  const codec = itemCodecOf(object);
  if ('carryOut' in codec) throw new Error(`${object.kind} is no netlink request`);
  return codec.request(object, INSIDE, 'create');
};

function attach({ container, link, index, mac, address, routes }: Bare): void {
  const { fd, socket } = openNetns(container);
  const name = textAttr(IFLA.IFNAME, link);
  const size = u32Attr(IFLA.MTU, Number(mtu));
  const inside = [ifinfo(INSIDE), textAttr(IFLA.IFNAME, 'eth0'), size, macAttr(IFLA.ADDRESS, mac)];
  const peer = Buffer.concat([...inside, u32Attr(IFLA.NET_NS_FD, fd)]);
  const pair = [ifinfo(index), name, size, linkInfo('veth', attr(VETH_INFO_PEER, peer))];
  const alias = attr(IFLA.IFALIAS, Buffer.from(`endpoint of ${link}`));
  const up = [ifinfo(0, true), name, u32Attr(IFLA.MASTER, bridgeIndex), alias];
  send(node, [
    { type: RTM.NEWLINK, flags: NLM_F.CREATE | NLM_F.EXCL, body: Buffer.concat(pair) },
    { type: RTM.SETLINK, flags: 0, body: Buffer.concat(up) },
  ]);
  send(socket, [
    { type: RTM.SETLINK, flags: 0, body: ifinfo(LOOPBACK, true) },
    { type: RTM.SETLINK, flags: 0, body: ifinfo(INSIDE, true) },
    put({ kind: 'address', link: 'eth0', address }),
    ...routes.map((route) => put({ kind: 'route', link: 'eth0', ...route })),
  ]);
  socket.close();
  closeSync(fd);
}

process.on('message', (bare: Bare) => {
  const began = performance.now();
  try {
    attach(bare);
    process.send?.(performance.now() - began);
  } catch (error) {
    process.send?.(messageOf(error));
  }
});
process.on('disconnect', () => node.close());
