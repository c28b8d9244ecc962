// Config codec of the drivers without a backend, which flannel lacks.
import * as z from 'zod';

import {
  backendTypeOf,
  describeNetwork,
  driverNamed,
  DRIVER_NAMES,
  networkOf,
  type DriverName,
} from '../core/drivers/index.js';
import { parseVlans, VLAN_IDS } from '../core/drivers/vlan-ids.js';
import { WeftError } from '../core/errors.js';
import { securityOf, type BridgedNetwork, type Network } from '../core/network.js';
import { check, cidr4, cidr6, flag, goObject, integer, ip4, text, UnreadableError } from '../core/parse.js';

/** Backend types of the drivers without a backend. */
export const BRIDGED_TYPES = new Map(
  DRIVER_NAMES.flatMap((name) => {
    const { fixedBackendType } = driverNamed(name);
    return fixedBackendType === undefined ? [] : [[fixedBackendType, name] as const];
  }),
);

const BRIDGED = goObject({
  Network: cidr4,
  SubnetLen: integer(0, 128).default(0),
  IPv6Network: cidr6.optional(),
  Backend: goObject({ Type: text, MTU: integer(0, 65_535).default(0) }),
  Weft: goObject({
    Internal: flag.default(false),
    Masquerade: flag.default(true),
    VLAN: integer(VLAN_IDS.first, VLAN_IDS.last).optional(),
    AllowVLAN: text.optional(),
    Parent: text.optional(),
    Range: cidr4.optional(),
    Gateway: ip4.optional(),
    GatewayNode: text.optional(),
    Force: flag.default(false),
    PortSecurity: flag.default(true),
    Isolated: flag.default(false),
    DirectAccess: flag.optional(),
    Routes: z.array(text).default([]),
  }).optional(),
});

export function decodeBridged(
  name: string,
  json: Record<string, unknown>,
  driver: DriverName | undefined,
): Network {
  const { Network: subnet, SubnetLen, IPv6Network: subnet6, Backend, Weft } = check(BRIDGED, json);
  try {
    const routes = Weft?.Routes ?? [];
    const made = networkOf({
      name,
      ...(driver !== undefined && { driver }),
      subnet,
      internal: Weft?.Internal ?? false,
      masquerade: Weft?.Masquerade ?? true,
      force: Weft?.Force ?? false,
      ...securityIn(Weft),
      ...(SubnetLen !== 0 && { hostPrefix: SubnetLen }),
      ...(subnet6 && { subnet6 }),
      ...(Backend.MTU !== 0 && { mtu: Backend.MTU }),
      ...(Weft?.VLAN !== undefined && { vlan: Weft.VLAN }),
      ...(Weft?.AllowVLAN !== undefined && { allowVlan: parseVlans(Weft.AllowVLAN, 'Weft.AllowVLAN') }),
      ...(Weft?.Parent !== undefined && { parent: Weft.Parent }),
      ...(Weft?.Range && { range: Weft.Range }),
      ...(Weft?.Gateway && { gateway: Weft.Gateway }),
      ...(Weft?.GatewayNode !== undefined && { gatewayNode: Weft.GatewayNode }),
    });
    const network: Network = { ...made, ...(routes.length > 0 && { routes }) };
    return network;
  } catch (error) {
    throw asUnreadable(error);
  }
}

/** What a config says of who may send what to whom. */
export const securityIn = (
  weft: { PortSecurity: boolean; DirectAccess?: boolean | undefined; Isolated: boolean } | undefined,
): ReturnType<typeof securityOf> =>
  securityOf({
    ...(weft?.PortSecurity === false && { portSecurity: false }),
    ...(weft?.DirectAccess !== undefined && { directAccess: weft.DirectAccess }),
    ...(weft?.Isolated === true && { isolated: true }),
  });

export const securityFields = ({ portSecurity, directAccess, isolated }: Network): object => ({
  ...(portSecurity === false && { PortSecurity: false }),
  ...(directAccess !== undefined && { DirectAccess: directAccess }),
  ...(isolated === true && { Isolated: true }),
});

/** Wraps an error of core as an error of the config. */
export function asUnreadable(error: unknown): unknown {
  if (!(error instanceof WeftError)) return error;
  return new UnreadableError(error.next === undefined ? error.message : `${error.message}; ${error.next}`, {
    cause: error,
  });
}

export function encodeBridged(network: BridgedNetwork): string {
  const shared = network.parent !== undefined && network.pool !== undefined;
  const { vlan, allowVlan, parent, range, gateway, gatewayNode } = describeNetwork(network);
  return JSON.stringify({
    Network: network.subnet.toString(),
    ...(shared && { SubnetLen: network.hostPrefix }),
    ...(network.subnet6 && { EnableIPv6: true, IPv6Network: network.subnet6.toString() }),
    Backend: { Type: backendTypeOf(network), ...(network.mtu !== undefined && { MTU: network.mtu }) },
    Weft: {
      Internal: network.internal,
      Masquerade: network.masquerade,
      ...(vlan !== undefined && { VLAN: vlan }),
      ...(allowVlan !== undefined && { AllowVLAN: allowVlan }),
      ...(parent !== undefined && { Parent: parent }),
      ...(range !== undefined && { Range: range }),
      ...(gateway !== undefined && { Gateway: gateway }),
      ...(gatewayNode !== undefined && { GatewayNode: gatewayNode }),
      ...(network.force && { Force: true }),
      ...securityFields(network),
      ...(network.routes !== undefined && { Routes: network.routes }),
    },
  });
}
