// Requests of Docker's engine to a network plugin, parsed once.
//
// JSON as Go encodes it: an empty list, map or object may be null or absent. Unknown fields are dropped, as newer engines
// send more.
import * as z from 'zod';

import { invalidArgument } from '../../core/errors.js';

const text = z
  .string()
  .nullish()
  .transform((value) => value ?? '');
const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
const words = z
  .record(z.string(), z.string().nullable())
  .nullish()
  .transform((value) =>
    Object.fromEntries(Object.entries(value ?? {}).map(([key, word]) => [key, word ?? ''])),
  );
/** Values of any type, checked where they are used. */
const anything = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((value) => value ?? {});
/** Docker's ids become file names. */
const id = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'expected an id');

const ipamData = z.object({
  AddressSpace: text,
  Pool: text,
  Gateway: text,
  AuxAddresses: words,
});
const ipamList = z
  .array(ipamData)
  .nullish()
  .transform((value) => value ?? []);

export const nothing = z.unknown().transform(() => ({}));

export const createNetwork = z.object({
  NetworkID: id,
  Options: anything,
  IPv4Data: ipamList,
  IPv6Data: ipamList,
});
export const networkOnly = z.object({ NetworkID: id });
export const gwAllocCheck = z.object({ Options: anything });
export const endpointOnly = z.object({ NetworkID: id, EndpointID: id });
export const createEndpoint = z.object({
  NetworkID: id,
  EndpointID: id,
  Interface: z
    .object({ Address: text, AddressIPv6: text, MacAddress: text })
    .nullish()
    .transform((value) => value ?? { Address: '', AddressIPv6: '', MacAddress: '' }),
  Options: anything,
});
export const join = z.object({
  NetworkID: id,
  EndpointID: id,
  SandboxKey: z.string().regex(/^\//, 'expected an absolute path'),
  Options: anything,
});
export const external = z.object({ NetworkID: id, EndpointID: id, Options: anything });

export const requestPool = z.object({
  AddressSpace: text,
  Pool: text,
  SubPool: text,
  Options: words,
  V6: flag,
});
export const poolOnly = z.object({ PoolID: z.string().min(1) });
export const requestAddress = z.object({ PoolID: z.string().min(1), Address: text, Options: words });
export const releaseAddress = z.object({ PoolID: z.string().min(1), Address: text });

export type IpamData = z.output<typeof ipamData>;
export type CreateNetwork = z.output<typeof createNetwork>;
export type CreateEndpoint = z.output<typeof createEndpoint>;
export type Join = z.output<typeof join>;
export type External = z.output<typeof external>;
export type RequestPool = z.output<typeof requestPool>;
export type RequestAddress = z.output<typeof requestAddress>;
export type ReleaseAddress = z.output<typeof releaseAddress>;

/** Keys of options that Docker itself sets (libnetwork/netlabel). */
export const LABEL = {
  generic: 'com.docker.network.generic',
  internal: 'com.docker.network.internal',
  enableIPv6: 'com.docker.network.enable_ipv6',
  mtu: 'com.docker.network.driver.mtu',
  portmap: 'com.docker.network.portmap',
  exposedPorts: 'com.docker.network.endpoint.exposedports',
} as const;

/** Docker's address space of weft's pools, which differs from that of Docker's own IPAM. */
export const ADDRESS_SPACE = 'weft';

/** The option of RequestAddress with the purpose of the address. */
export const ADDRESS_TYPE = { key: 'RequestAddressType', gateway: 'com.docker.network.gateway' } as const;

/** @throws WeftError INVALID_ARGUMENT with the method and the field */
export function parseRequest<T>(method: string, schema: z.ZodType<T>, body: string): T {
  let json: unknown = {};
  if (body.trim() !== '') {
    try {
      json = JSON.parse(body);
    } catch (error) {
      throw invalidArgument(`${method}: the request is no JSON, or incomplete`, undefined, {
        cause: error,
      });
    }
  }
  const parsed = schema.safeParse(json ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const what =
    body.trim() === '' ? 'the request is empty' : `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
  throw invalidArgument(`${method}: ${what}`, 'Ask again.');
}
