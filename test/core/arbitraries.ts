// Random addresses and prefixes of both families, for the property tests.
import fc from 'fast-check';

import { addressBits, IpAddress, IpNetwork, type Family } from '../../core/address.js';

export const family = (): fc.Arbitrary<Family> => fc.constantFrom<Family>(4, 6);

/** IPv6 addresses, also with many zero groups, where the short form has its edge cases. */
const groups = fc.array(fc.oneof(fc.constant(0), fc.constant(0), fc.integer({ min: 0, max: 0xffff })), {
  minLength: 8,
  maxLength: 8,
});

export const ipv4 = (): fc.Arbitrary<IpAddress> =>
  fc.bigInt({ min: 0n, max: 0xffff_ffffn }).map((value) => IpAddress.of(4, value));

export const ipv6 = (): fc.Arbitrary<IpAddress> =>
  groups.map((parts) =>
    IpAddress.of(
      6,
      parts.reduce((value, part) => (value << 16n) | BigInt(part), 0n),
    ),
  );

export const address = (): fc.Arbitrary<IpAddress> => fc.oneof(ipv4(), ipv6());

export const network = (of: fc.Arbitrary<IpAddress> = address()): fc.Arbitrary<IpNetwork> =>
  of.chain((ip) =>
    fc.integer({ min: 0, max: addressBits(ip.family) }).map((length) => IpNetwork.of(ip, length)),
  );
