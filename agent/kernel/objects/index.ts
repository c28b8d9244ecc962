// Codecs: every kind of kernel object as the kernel has it.
export { addressObject, decodeAddress, dumpAddresses } from './address.js';
export { readBridgeVlans, vlanObjects } from './bridge-vlan.js';
export {
  StepRefused,
  type DirectContext,
  type LinkContext,
  type PortMover,
  type PrivateKeys,
} from './codec.js';
export { itemCodecOf, itemCodecs, itemEvents } from './items.js';
export { deleteLink, dumpLinks, getLink, getLinkAt, setMaster } from './link-messages.js';
export { changeLink, createLink, decodeLink, decodeLinkName, makeLink, withVlans } from './links.js';
export {
  dumpFdb,
  dumpNeighbours,
  forgetNeighbour,
  NDA,
  ndmsg,
  neighbourRequest,
  neighboursFor,
  NUD_KNOWN,
  NUD_NOARP,
  NUD_PERMANENT,
  NUD_REACHABLE,
  unresolvedNeighbour,
} from './neighbour-messages.js';
export { isPortOfWefts, portObject } from './port.js';
export { readWireguard } from './wireguard.js';
export type { DecodedAddress, DecodedRoute, KernelLink, LinkLookup, View } from './readings.js';
export {
  decodeAnswer,
  decodeAnyRoute,
  decodeLookUp,
  decodeNextHop,
  decodeRoute,
  dumpRoutes,
  isOfMain,
  isOwnRoute,
  lookUpForward,
  lookUpRoute,
  MAIN_TABLE,
  routeMatters,
} from './route.js';
