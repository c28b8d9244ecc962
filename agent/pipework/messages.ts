// What a caller asks of a wire, checked field by field before anything is done: by the same parser as the words that people
// write, so that both doors admit the same.
import { invalidArgument } from '../../core/errors.js';
import { parsePipework } from '../../core/pipework.js';
import { bridgeOfPlace, type Wire } from '../../core/attachment.js';
import type {
  PipeworkDetachRequest,
  PipeworkRequest,
  Wire as WireMessage,
} from '../../proto/gen/weft/v1/agent.js';
import type { WireDetach, WireRequest } from './attachments.js';

/** @throws WeftError INVALID_ARGUMENT */
export function parseWire(asked: PipeworkRequest): WireRequest {
  if (asked.gateway !== undefined && asked.address === undefined)
    throw invalidArgument('pipework: a gateway without an address', 'Give the address, too.');
  const gateway = asked.gateway === undefined ? '' : `@${asked.gateway}`;
  const call = parsePipework([
    ...(asked.force ? ['--force'] : []),
    asked.hostInterface,
    ...['-i', asked.ifname],
    ...(asked.hostIfname === undefined ? [] : ['-l', asked.hostIfname]),
    asked.target,
    asked.address === undefined ? '0/0' : `${asked.address}${gateway}`,
    `${asked.mac ?? ''}@${asked.vlan ?? ''}`,
  ]);
  if (call.do !== 'attach' || !('name' in call.host)) throw notAName(asked.hostInterface);
  const { do: _do, host, ...rest } = call;
  return { ...rest, host: host.name };
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseWireDetach({ hostInterface, target, ifname }: PipeworkDetachRequest): WireDetach {
  const call = parsePipework(['--detach', hostInterface, '-i', ifname, target]);
  if (call.do !== 'detach' || !('name' in call.host)) throw notAName(hostInterface);
  return { host: call.host.name, guest: call.guest, ifname: call.ifname };
}

const notAName = (text: string): Error =>
  invalidArgument(`pipework: "${text}" is not the name of an interface`, 'Give a name such as br1 or eth1.');

export const wireMessage = (wire: Wire): WireMessage => ({
  hostInterface: wire.place.name,
  bridge: bridgeOfPlace(wire.place),
  target: wire.target,
  ifname: wire.ifname,
  hostIfname: wire.hostIfname,
  mac: wire.mac,
  address: wire.address,
  gateway: wire.gateway,
  vlan: wire.vlan,
  mtu: wire.place.mtu,
});
