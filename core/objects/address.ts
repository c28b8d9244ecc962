// IP address of a link, and its connected route.
import { addressBits, parseInterface } from '../address.js';
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';
import type { RouteObject } from './route.js';

export interface AddressObject {
  kind: 'address';
  link: string;
  /** With prefix length: 10.100.5.1/24. IPv6 ones are added without duplicate address detection. */
  address: string;
}

export const addressKey = (link: string, address: string): ObjectKey => asKey(`address ${link} ${address}`);

export const address: ItemKind<AddressObject> = {
  key: (object) => addressKey(object.link, object.address),
  describe: (object) => `address ${object.address} dev ${object.link}`,
  order: () => PHASE.address,
  same: () => true,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
  // Kernels before 5.18 keep no mark on addresses.
  adopts: true,
};

/** The route that the kernel creates with an address; undefined for a host address, which needs none. */
export function connectedRoute({ link, address }: AddressObject): RouteObject | undefined {
  const { address: ip, length, network } = parseInterface(address);
  if (length === addressBits(ip.family)) return undefined;
  const src = ip.family === 4 ? { src: ip.toString() } : {};
  return { kind: 'route', to: network.toString(), link, ...src };
}
