// Networks of this node: memberships, subnet leases, peer routes, address claims.
export { lookThrough } from './follow-network.js';
export { configuredControl, ControlAddresses } from './control-addresses.js';
export { ownSubnets } from './address-claims.js';
export { Gateways } from './gateways.js';
export { joinWhenThere } from './join-on-create.js';
export { KeyRotation } from './key-rotation.js';
export { checkHostRoutes, hostRoutesBeside, RouteOverlaps } from './route-overlaps.js';
export type { MembershipHappening, MembershipListener } from './membership-options.js';
export { Memberships } from './memberships.js';
