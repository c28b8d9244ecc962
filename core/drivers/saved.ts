// Schema of networks in state files: common fields, and layer 2's.
import * as z from 'zod';

import { IpAddress, IpNetwork } from '../address.js';
import { MANAGERS } from '../manager.js';
import { parseNetworkName } from '../network.js';
import { integer, linkName } from '../parse.js';

export const savedNet = z.string().transform((text) => IpNetwork.parse(text));
export const savedIp = z.string().transform((text) => IpAddress.parse(text));
export const savedName = z.string().transform((text) => parseNetworkName(text));
export const savedVlan = integer(1, 4094);

const range = z.object({ first: savedNet, last: savedNet });
const prefixLength = integer(0, 128);

export const savedCommon = {
  name: savedName,
  subnet: savedNet,
  subnet6: savedNet.optional(),
  hostPrefix: prefixLength,
  hostPrefix6: prefixLength.optional(),
  range,
  range6: range.optional(),
  mtu: integer(0, 65_535).optional(),
  internal: z.boolean(),
  masquerade: z.boolean(),
  force: z.boolean().optional(),
  portSecurity: z.literal(false).optional(),
  directAccess: z.boolean().optional(),
  isolated: z.literal(true).optional(),
  /** Release 0.1 writes it for what Docker made. */
  docker: z.boolean().optional(),
  madeBy: z.enum(MANAGERS).optional(),
  routes: z.array(z.string()).optional(),
};

export const savedLayer2 = {
  ...savedCommon,
  parent: linkName.optional(),
  force: z.boolean(),
  pool: savedNet.optional(),
  gateway: savedIp.optional(),
};
