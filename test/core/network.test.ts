// Valid networks: flannel's rules for subnets, weft's for names, ranges and overlaps.
import test from 'ava';
import fc from 'fast-check';

import { addressBits, IpAddress, IpNetwork } from '../../core/address.js';
import { WeftError } from '../../core/errors.js';
import {
  checkUsable,
  defaultHostPrefix,
  fitsRange,
  parseHostPrefix,
  parseInteger,
  parseName,
  parseNetworkName,
  parseRange,
} from '../../core/network.js';
import { checkOverlap, findOverlap } from '../../core/overlap.js';
import { overlay } from './records.js';

const net = (text: string): IpNetwork => IpNetwork.parse(text);
const ip = (text: string): IpAddress => IpAddress.parse(text);

test('the default length of node subnets', (t) => {
  const expected: [string, number][] = [
    ['10.0.0.0/8', 24],
    ['10.100.0.0/16', 24],
    ['10.100.0.0/21', 24],
    ['10.100.0.0/22', 24],
    ['10.100.0.0/23', 25],
    ['10.100.0.0/24', 26],
    ['10.100.0.0/28', 30],
    ['fd00::/8', 64],
    ['fd42:100::/48', 64],
    ['fd42:100::/62', 64],
    ['fd42:100::/63', 79],
    ['fd42:100::/64', 80],
    ['fd42:100::/110', 126],
  ];
  for (const [subnet, prefix] of expected) t.is(defaultHostPrefix(net(subnet)), prefix, subnet);
});

test('the requested length of node subnets', (t) => {
  const fine: [string, number][] = [
    ['10.100.0.0/16', 18],
    ['10.100.0.0/16', 30],
    ['10.100.0.0/28', 30],
    ['fd42:100::/48', 126],
  ];
  for (const [subnet, asked] of fine) t.is(parseHostPrefix(net(subnet), asked, 'host-prefix'), asked);
  const wrong: [string, number | undefined, RegExp][] = [
    // Fewer than four subnets.
    ['10.100.0.0/16', 17, /^host-prefix: 17 does not fit/],
    ['10.100.0.0/16', 16, /host-prefix: 16/],
    ['10.100.0.0/16', 31, /host-prefix: 31/],
    ['10.100.0.0/16', 24.5, /host-prefix: 24.5/],
    ['10.100.0.0/29', undefined, /too small to be shared/],
    ['10.100.0.0/29', 30, /host-prefix: 30/],
    ['fd42:100::/48', 127, /host-prefix: 127/],
    ['fd42:100::/120', undefined, /too small/],
  ];
  for (const [subnet, asked, message] of wrong) {
    const error = t.throws(
      () => parseHostPrefix(net(subnet), asked, 'host-prefix'),
      { instanceOf: WeftError, message },
      subnet,
    );
    t.is(error.code, 'INVALID_ARGUMENT');
    t.truthy(error.next);
  }
});

test('every default fits, and leaves at least four subnets with room for containers', (t) => {
  const sizes = fc.oneof(
    fc.integer({ min: 8, max: 28 }).map((length) => IpNetwork.of(ip('10.0.0.0'), length)),
    fc.integer({ min: 8, max: 110 }).map((length) => IpNetwork.of(ip('fd00::'), length)),
  );
  fc.assert(
    fc.property(sizes, (subnet) => {
      const prefix = parseHostPrefix(subnet, undefined, 'host-prefix');
      const range = parseRange(subnet, prefix, undefined, undefined);
      t.true(prefix - subnet.length >= 2 && addressBits(subnet.family) - prefix >= 2);
      t.true(subnet.contains(range.first) && subnet.contains(range.last));
      t.false(range.first.base.equals(subnet.base), 'flannel leaves the first subnet free');
      t.true(range.last.last.equals(subnet.last));
    }),
  );
});

test('the range of subnets', (t) => {
  const range = (min?: string, max?: string): string => {
    const { first, last } = parseRange(
      net('10.100.0.0/16'),
      24,
      min === undefined ? undefined : ip(min),
      max === undefined ? undefined : ip(max),
    );
    return `${first.toString()} ${last.toString()}`;
  };
  t.is(range(), '10.100.1.0/24 10.100.255.0/24');
  t.is(range('10.100.0.0'), '10.100.0.0/24 10.100.255.0/24');
  t.is(range('10.100.8.0', '10.100.8.0'), '10.100.8.0/24 10.100.8.0/24');
  t.throws(() => range('10.101.0.0'), { message: 'SubnetMin: 10.101.0.0 is not inside 10.100.0.0/16' });
  t.throws(() => range(undefined, 'fd00::'), { message: /SubnetMax: fd00:: is not inside/ });
  t.throws(() => range('10.100.8.1'), { message: 'SubnetMin: 10.100.8.1 is not the base of a /24' });
  t.throws(() => range('10.100.9.0', '10.100.8.0'), {
    message: /SubnetMin: 10.100.9.0 lies after SubnetMax 10.100.8.0/,
  });
  const six = parseRange(net('fd42:100::/48'), 64, undefined, undefined);
  t.is(`${six.first.toString()} ${six.last.toString()}`, 'fd42:100:0:1::/64 fd42:100:0:ffff::/64');
});

test('whether a subnet can be leased from the network', (t) => {
  const range = parseRange(net('10.100.0.0/16'), 24, ip('10.100.8.0'), ip('10.100.15.0'));
  t.true(fitsRange(range, 24, net('10.100.8.0/24')));
  t.true(fitsRange(range, 24, net('10.100.15.0/24')));
  t.false(fitsRange(range, 24, net('10.100.16.0/24')));
  t.false(fitsRange(range, 24, net('10.100.7.0/24')));
  t.false(fitsRange(range, 24, net('10.100.8.0/25')));
});

test('unusable networks are refused', (t) => {
  for (const text of [
    '127.0.0.0/16',
    '169.254.0.0/20',
    '224.0.0.0/8',
    '240.0.0.0/8',
    '0.0.0.0/0',
    'fe80::/64',
    'ff02::/16',
    '::/80',
  ]) {
    t.throws(() => checkUsable(net(text), 'subnet'), { message: /^subnet: .* overlaps the reserved/ }, text);
  }
  for (const text of ['10.0.0.0/8', '192.0.2.0/24', '198.51.100.0/24', 'fd00::/8', '2001:db8::/32']) {
    t.notThrows(() => checkUsable(net(text), 'subnet'));
  }
});

test('networks that overlap are found, in either family', (t) => {
  const blue = overlay({ name: 'blue', subnet: '10.100.0.0/16', subnet6: 'fd42:100::/48' });
  const others = [
    overlay({ name: 'green', subnet: '10.101.0.0/16' }),
    overlay({ name: 'red', subnet: '10.102.0.0/16', subnet6: 'fd42:100:0:8000::/49' }),
  ];
  t.is(findOverlap(blue, others)?.name, 'red');
  t.is(findOverlap(blue, [blue]), undefined, 'a network does not overlap itself');
  t.is(findOverlap(overlay({ name: 'wide', subnet: '10.100.0.0/15' }), others)?.name, 'green');
  const error = t.throws(() => checkOverlap(blue, others, []), { instanceOf: WeftError });
  t.is(error.code, 'FAILED_PRECONDITION');
  t.is(
    error.message,
    'network blue: 10.100.0.0/16 and fd42:100::/48 overlaps network red (10.102.0.0/16 and fd42:100:0:8000::/49)',
  );
  const underlay = { node: 'n1', ip: ip('10.100.7.7') };
  t.throws(() => checkOverlap(blue, [], [underlay]), {
    message: /contains 10.100.7.7, the underlay address of node n1/,
  });
  t.notThrows(() => checkOverlap(blue, [], [{ node: 'n1', ip: ip('192.0.2.1') }]));
});

test('names', (t) => {
  for (const name of ['blue', 'a', '0', 'Blue_2-x', 'x'.repeat(63)]) t.is(parseNetworkName(name), name);
  for (const name of ['', '-a', '_a', 'a.b', 'a b', 'x'.repeat(64), 'ä', 'a/b', 'a\n']) {
    t.throws(() => parseNetworkName(name), { instanceOf: WeftError, message: /is not a network name/ });
  }
  t.is(parseName('web.1-a_b'), 'web.1-a_b');
  for (const name of ['', '.a', 'a/b', 'x'.repeat(129)])
    t.throws(() => parseName(name, 'alias'), { message: /^alias: / });
});

test('numbers', (t) => {
  t.is(parseInteger(1, 'vni', 1, 16_777_215), 1);
  for (const value of [0, 16_777_216, 1.5, NaN, Infinity]) {
    t.throws(() => parseInteger(value, 'vni', 1, 16_777_215), { message: `vni: ${value} is out of range` });
  }
});
