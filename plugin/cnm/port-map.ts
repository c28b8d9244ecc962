// Docker's map of published ports (`-p`) as publish requests.
import * as z from 'zod';

import { IpAddress } from '../../core/address.js';
import { invalidArgument } from '../../core/errors.js';
import { ANY_HOST_IP, ANY_HOST_IP6, type Protocol, type PublishRequest } from '../../core/publish.js';

const port = z.number().int().min(0).max(65_535);
const binding = z.object({
  /** IANA's protocol number. */
  Proto: z.number().int(),
  Port: port.min(1),
  HostIP: z
    .string()
    .nullish()
    .transform((value) => value ?? ''),
  /** 0: any. */
  HostPort: port.nullish().transform((value) => value ?? 0),
  /** Last port, if HostPort begins a range. */
  HostPortEnd: port.nullish().transform((value) => value ?? 0),
});
const portMap = z
  .array(binding)
  .nullish()
  .transform((value) => value ?? []);

const PROTOCOLS = new Map<number, Protocol>([
  [6, 'tcp'],
  [17, 'udp'],
]);

/** @throws WeftError INVALID_ARGUMENT */
export function parsePortMap(value: unknown): PublishRequest[] {
  const parsed = portMap.safeParse(value);
  if (!parsed.success) {
    throw invalidArgument(`the port map is invalid: ${parsed.error.issues[0]?.message ?? ''}`);
  }
  const requests = parsed.data.map(requestOf);
  // Newer engines list both families; a port of weft's is open in both.
  return requests.filter(
    ({ hostIp, ...rest }) =>
      hostIp !== ANY_HOST_IP6 ||
      !requests.some(
        (other) => other.hostIp === ANY_HOST_IP && same({ ...other, hostIp }, { hostIp, ...rest }),
      ),
  );
}

function requestOf({ Proto, Port, HostIP, HostPort, HostPortEnd }: z.output<typeof binding>): PublishRequest {
  const protocol = PROTOCOLS.get(Proto);
  if (protocol === undefined) {
    throw invalidArgument(
      `port ${Port} has protocol ${Proto}, which weft does not publish`,
      'Publish tcp or udp.',
    );
  }
  return {
    hostIp: HostIP === '' ? ANY_HOST_IP : IpAddress.parse(HostIP, 'publish').toString(),
    ...(HostPort > 0 && { hostPorts: { first: HostPort, last: Math.max(HostPort, HostPortEnd) } }),
    port: Port,
    protocol,
  };
}

const same = (a: PublishRequest, b: PublishRequest): boolean =>
  JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
const sorted = ({ hostIp, hostPorts, port, protocol }: PublishRequest): unknown[] => [
  hostIp,
  hostPorts?.first,
  hostPorts?.last,
  port,
  protocol,
];
