// What a node knows of its containers and need not learn from frames: where their MAC addresses are, and whose addresses they have.
//
// Not with `--port-security off`: there a container may send with any.
import type { IpAddress } from '../address.js';
import type { Network } from '../network.js';
import type { KernelObject } from '../objects/index.js';
import type { Endpoint } from '../records.js';

/** The port of the bridge that the endpoint's MAC address is behind. */
export const knownPort = (
  { portSecurity }: Network,
  { hostIfname, mac }: Endpoint,
  bridge: string,
): KernelObject[] => (portSecurity === false ? [] : [{ kind: 'port-mac', link: hostIfname, bridge, mac }]);

/** @param link on which the node has an address of the network */
export const knownNeighbour = (
  { portSecurity }: Network,
  { mac }: Endpoint,
  link: string,
  ip: IpAddress,
): KernelObject[] => (portSecurity === false ? [] : [{ kind: 'neighbour', link, ip: ip.toString(), mac }]);
