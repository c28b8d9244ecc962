// Generic netlink: message headers, and the numbers of families (include/uapi/linux/genetlink.h).
import { decodeAttrs, readText, textAttr, type Request } from './netlink-message.js';
import type { NetlinkSocket } from './netlink-socket.js';

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;

/** Bytes before the attributes of a message. */
export const GENL_HEADER = 4;

export const genlHeader = (command: number): Buffer => Buffer.from([command, 1, 0, 0]);

const getFamily = (...attrs: Buffer[]): Request => ({
  type: GENL_ID_CTRL,
  flags: 0,
  body: Buffer.concat([genlHeader(CTRL_CMD_GETFAMILY), ...attrs]),
});

/** The kernel loads its module. @returns undefined where it has none */
export function genlFamily(socket: NetlinkSocket, name: string): number | undefined {
  const found = socket.get(getFamily(textAttr(CTRL_ATTR_FAMILY_NAME, name)));
  return found && decodeAttrs(found.body, GENL_HEADER).get(CTRL_ATTR_FAMILY_ID)?.readUInt16LE();
}

/** As genlFamily, of what is there: looking for a name starts modprobe. */
export function loadedGenlFamily(socket: NetlinkSocket, name: string): number | undefined {
  for (const { body } of socket.dump(getFamily())) {
    const attrs = decodeAttrs(body, GENL_HEADER);
    if (readText(attrs.get(CTRL_ATTR_FAMILY_NAME) ?? Buffer.alloc(0)) === name)
      return attrs.get(CTRL_ATTR_FAMILY_ID)?.readUInt16LE();
  }
  return undefined;
}
