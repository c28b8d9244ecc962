// The registry of drivers, and functions for networks of any driver.
import type { Family, IpAddress, IpNetwork } from '../address.js';
import { invalidArgument } from '../errors.js';
import { FAMILIES } from '../families.js';
import type { Membership } from '../membership.js';
import type { Need } from '../needs.js';
import { flagOf, type BridgedNetwork, type Network, type NetworkSpec, type VlanRange } from '../network.js';
import type { Endpoint } from '../records.js';
import { bridge } from './bridge.js';
import type { Addressing, Driver, DriverOption, NetworkAt, NetworkFields } from './driver.js';
import { DEFAULT_DRIVER, DRIVER_NAMES, type DriverName } from './names.js';
import { overlay } from './overlay.js';
import { vlan } from './vlan.js';

export { DEFAULT_DRIVER, DRIVER_NAMES, isDriver, type DriverName } from './names.js';
export type { Addressing, CompiledEndpoint, Driver, NetworkAt, Probe } from './driver.js';

/** Total: a driver of a network that is not here does not compile. */
const DRIVERS = { overlay, bridge, vlan } satisfies {
  [D in DriverName]: Driver<Extract<Network, { driver: D }>>;
};

// Each driver accepts networks of its own only. The network's field chooses the driver, so the two always match.
export const driverNamed = (name: DriverName): Driver => DRIVERS[name];
export const driverOf = ({ driver }: Pick<Network, 'driver'>): Driver => driverNamed(driver);

/** Checks a spec by itself and fills in the defaults. @throws WeftError INVALID_ARGUMENT */
export function networkOf(spec: NetworkSpec): Network {
  const driver = driverNamed(spec.driver ?? DEFAULT_DRIVER);
  for (const option of new Set(DRIVER_NAMES.flatMap((name) => driverNamed(name).options)))
    if (!driver.options.includes(option) && isGiven(spec, option)) throw notOf(option, driver.name);
  return driver.parse(spec);
}

const isGiven = (spec: NetworkSpec, option: DriverOption): boolean => spec[option] !== undefined;

function notOf(option: DriverOption, driver: DriverName): Error {
  const others = DRIVER_NAMES.filter((name) => driverNamed(name).options.includes(option));
  return invalidArgument(
    `${flagOf(option)}: the driver ${driver} has none`,
    `Leave it out, or give ${others.map((name) => `--driver ${name}`).join(' or ')}.`,
  );
}

export const isBridged = (network: Network): network is BridgedNetwork => !('backend' in network);

export const addressingOf = (network: Network): Addressing => driverOf(network).addressing(network);

/** The kernel capabilities that the network needs on a node. */
export const needsOf = (network: Network, node?: string): readonly Need[] =>
  driverOf(network).needs(network, node);

/** BackendType in etcd: a flanneld, or a weft that does not know it, ignores the network. */
export const backendTypeOf = (network: Network): string =>
  isBridged(network) ? (driverOf(network).fixedBackendType ?? '') : network.backend;

/** Whether the nodes' own addresses and routes lead into the network; one without them conflicts with no other. */
export const hasOwnGateway = (network: Network): boolean => driverOf(network).hasOwnGateway(network);

/** The one node that has the gateway; undefined: each node has it, or none. */
export const gatewayNodeOf = (network: Network): string | undefined => driverOf(network).gatewayNode(network);

/** The gateway of the containers' default route; undefined if there is none. */
export const gatewayIn = (at: NetworkAt, family: Family = 4): IpAddress | undefined =>
  driverOf(at.network).gateway(at, family);

/** A container's gateway: the network's, which only the network's own VLAN has. */
export const gatewayFor = (
  at: NetworkAt,
  { vlan }: Pick<Endpoint, 'vlan'>,
  family: Family,
): IpAddress | undefined => driverOf(at.network).gateway(at, family, vlan);

/** The gateway that people are shown: of the first family that has one. */
export const firstGateway = (at: NetworkAt, port: Pick<Endpoint, 'vlan'> = {}): IpAddress | undefined =>
  FAMILIES.flatMap((family) => gatewayFor(at, port, family) ?? [])[0];

/** Whether the gateway is this node itself. */
export function isGateway({ network, lease }: Membership): boolean {
  const node = gatewayNodeOf(network);
  return node === undefined ? hasOwnGateway(network) : node === lease.node;
}

/** The gateways that this node itself has, at which its containers reach the node. */
export function ownGateways(membership: Membership): IpAddress[] {
  if (!isGateway(membership) || membership.subnetOnly === true) return [];
  return FAMILIES.flatMap((family) => gatewayIn(membership, family) ?? []);
}

/** The on-link prefix of a container with an address of this node; undefined if the network lacks the family. */
export const prefixIn = (at: NetworkAt, family: Family): IpNetwork | undefined =>
  driverOf(at.network).prefix(at, family);

/** Why an address is never given to a container, or undefined. */
export const reservedIn = (network: Network, block: IpNetwork, ip: IpAddress): string | undefined =>
  driverOf(network).reserved(network, block, ip);

/** Fields of the API that describe a network, beside the common ones. */
export const describeNetwork = (network: Network): NetworkFields => driverOf(network).describe(network);

/** MTU of the containers. */
export const containerMtu = (membership: Membership): number => driverOf(membership.network).mtu(membership);

/** Whether a container of the network may be in the VLAN. */
export const allowsVlan = (network: Network, id: number): boolean =>
  vlansOf(network).some(({ first, last }) => first <= id && id <= last);

export const vlansOf = (network: Network): readonly VlanRange[] => driverOf(network).vlans(network);

/** The VLAN of a container's port, if the network has VLANs. @throws WeftError INVALID_ARGUMENT, FAILED_PRECONDITION */
export const vlanFor = (network: Network, asked: number | undefined): number | undefined =>
  driverOf(network).vlanFor(network, asked);
