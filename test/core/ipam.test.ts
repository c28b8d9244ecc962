// IPAM: no reserved or used address is picked, and all others are.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { WeftError } from '../../core/errors.js';
import { pickAddress, reservedUse, withLength } from '../../core/ipam.js';
import { ipv4, ipv6 } from './arbitraries.js';

const smallSubnet = fc.oneof(
  ipv4().chain((ip) => fc.integer({ min: 24, max: 30 }).map((length) => IpNetwork.of(ip, length))),
  ipv6().chain((ip) => fc.integer({ min: 120, max: 126 }).map((length) => IpNetwork.of(ip, length))),
);

test('a picked address is in the subnet, free, and not reserved', (t) => {
  fc.assert(
    fc.property(smallSubnet, fc.array(fc.nat(255)), fc.option(fc.nat(255)), (subnet, offsets, last) => {
      const used = new Set(offsets.map((offset) => subnet.at(BigInt(offset) % subnet.size).toString()));
      const after = last === null ? undefined : subnet.at(BigInt(last) % subnet.size);
      try {
        const ip = pickAddress(subnet, (text) => used.has(text), after);
        t.true(subnet.contains(ip));
        t.is(reservedUse(subnet, ip), undefined);
        t.false(used.has(ip.toString()));
      } catch (error) {
        t.is(error instanceof WeftError ? error.code : error, 'RESOURCE_EXHAUSTED');
        for (let i = 0n; i < subnet.size; i++) {
          const ip = subnet.at(i);
          t.true(
            used.has(ip.toString()) || reservedUse(subnet, ip) !== undefined,
            `${ip.toString()} was free`,
          );
        }
      }
    }),
  );
});

test('every address is picked once before any is reused', (t) => {
  fc.assert(
    fc.property(smallSubnet, (subnet) => {
      const seen = new Set<string>();
      let last: IpAddress | undefined;
      const count = Number(subnet.size) - (subnet.family === 4 ? 3 : 2);
      for (let i = 0; i < count; i++) {
        last = pickAddress(subnet, () => false, last);
        seen.add(last.toString());
      }
      t.is(seen.size, count);
      t.true(seen.has(pickAddress(subnet, () => false, last).toString()));
    }),
  );
});

test('a released address is not the next one', (t) => {
  const subnet = IpNetwork.parse('10.100.5.0/24');
  const used = new Set<string>();
  const first = pickAddress(subnet, (ip) => used.has(ip));
  t.is(first.toString(), '10.100.5.2');
  t.is(pickAddress(subnet, (ip) => used.has(ip), first).toString(), '10.100.5.3');
  t.is(
    pickAddress(subnet, () => false, IpAddress.parse('10.100.5.254')).toString(),
    '10.100.5.2',
    'round again',
  );
  t.is(
    pickAddress(subnet, () => false, IpAddress.parse('10.99.0.7')).toString(),
    '10.100.5.2',
    'of an earlier subnet',
  );
});

test('every address of a part of the subnet is picked, and no other', (t) => {
  const subnet = IpNetwork.parse('10.100.5.0/24');
  const of = (part: string): string[] => {
    const within = IpNetwork.parse(part);
    const used = new Set<string>();
    for (let last: IpAddress | undefined; used.size < 300;) {
      try {
        last = pickAddress(subnet, (ip) => used.has(ip), last, within);
      } catch (error) {
        t.regex(String(error), new RegExp(`every address of ${part}.*${used.size} containers`));
        break;
      }
      used.add(last.toString());
    }
    return [...used];
  };
  t.deepEqual(of('10.100.5.64/30'), ['10.100.5.64', '10.100.5.65', '10.100.5.66', '10.100.5.67']);
  t.deepEqual(of('10.100.5.0/30'), ['10.100.5.2', '10.100.5.3']);
  t.deepEqual(of('10.100.5.252/30'), ['10.100.5.252', '10.100.5.253', '10.100.5.254']);
});

test('a full subnet is refused with the next step', (t) => {
  const error = t.throws(() => pickAddress(IpNetwork.parse('10.100.5.0/30'), () => true), {
    instanceOf: WeftError,
  });
  t.is(error.code, 'RESOURCE_EXHAUSTED');
  t.regex(error.message, /10\.100\.5\.0\/30 is in use \(1 containers\)/);
  t.regex(error.next ?? '', /--host-prefix/);
});

test('reserved addresses, and why', (t) => {
  const reasons = (subnet: string, ips: string[]): (string | undefined)[] =>
    ips.map((ip) => reservedUse(IpNetwork.parse(subnet), IpAddress.parse(ip))?.split(' of ')[0]);
  t.deepEqual(
    reasons('10.100.5.0/24', ['10.100.5.0', '10.100.5.1', '10.100.5.2', '10.100.5.254', '10.100.5.255']),
    ['is the base address', 'is the gateway', undefined, undefined, 'is the broadcast address'],
  );
  t.deepEqual(reasons('fd42:100:0:5::/126', ['fd42:100:0:5::', 'fd42:100:0:5::1', 'fd42:100:0:5::3']), [
    'is the base address',
    'is the gateway',
    undefined,
  ]);
});

test('an address gets its subnet’s prefix length, or a full one outside', (t) => {
  const subnet = IpNetwork.parse('10.100.5.0/24');
  t.is(withLength(IpAddress.parse('10.100.5.2'), subnet), '10.100.5.2/24');
  t.is(withLength(IpAddress.parse('10.100.6.2'), subnet), '10.100.6.2/32');
  t.is(withLength(IpAddress.parse('fd42::2'), IpNetwork.parse('fd42:1::/64')), 'fd42::2/128');
});
