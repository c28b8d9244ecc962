// gRPC messages of pipework attachments: parse and encode.
//
// Requests go through the parser of the command line, so that both accept the same.
import { invalidArgument } from '../../core/errors.js';
import { parsePipework } from '../../core/pipework.js';
import { bridgeOf, type Attachment } from '../../core/attachment.js';
import type {
  PipeworkDetachRequest,
  PipeworkRequest,
  PipeworkAttachment as AttachmentMessage,
} from '../../proto/gen/weft/v1/agent.js';
import type { DetachRequest, AttachRequest } from './attachments.js';

/** @throws WeftError INVALID_ARGUMENT */
export function parsePipeworkAttach(asked: PipeworkRequest): AttachRequest {
  if (asked.gateway !== undefined && asked.address === undefined)
    throw invalidArgument('pipework: a gateway without an address', 'Give the address as well.');
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
export function parsePipeworkDetach({ hostInterface, target, ifname }: PipeworkDetachRequest): DetachRequest {
  const call = parsePipework(['--detach', hostInterface, '-i', ifname, target]);
  if (call.do !== 'detach' || !('name' in call.host)) throw notAName(hostInterface);
  return { host: call.host.name, guest: call.guest, ifname: call.ifname };
}

const notAName = (text: string): Error =>
  invalidArgument(`pipework: "${text}" is not the name of an interface`, 'Give a name such as br1 or eth1.');

export const attachmentMessage = (attachment: Attachment): AttachmentMessage => ({
  hostInterface: attachment.hostInterface.name,
  bridge: bridgeOf(attachment.hostInterface),
  target: attachment.target,
  ifname: attachment.ifname,
  hostIfname: attachment.hostIfname,
  mac: attachment.mac,
  address: attachment.address,
  gateway: attachment.gateway,
  vlan: attachment.vlan,
  mtu: attachment.hostInterface.mtu,
});
