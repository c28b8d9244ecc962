// Addresses and prefixes, compared with naive models.
//
// Models: strings of bits, and the URL parser's own IPv6 serializer.
import { isIP } from 'node:net';

import test from 'ava';
import fc from 'fast-check';

import { addressBits, IpAddress, IpNetwork, parseInterface, parseMac } from '../../core/address.js';
import { WeftError } from '../../core/errors.js';
import { address, ipv4, ipv6, network } from './arbitraries.js';

const bitsOf = (ip: IpAddress): string => ip.value.toString(2).padStart(addressBits(ip.family), '0');

test('a formatted address parses to the same address', (t) => {
  fc.assert(
    fc.property(address(), (ip) => {
      t.true(IpAddress.parse(ip.toString()).equals(ip));
      t.true(IpAddress.fromBytes(ip.toBytes()).equals(ip));
      t.is(ip.toBytes().length, addressBits(ip.family) / 8);
    }),
  );
});

test('IPv4 is formatted as dotted decimals', (t) => {
  fc.assert(fc.property(ipv4(), (ip) => t.is(ip.toString(), [...ip.toBytes()].join('.'))));
});

test('IPv6 is formatted by RFC 5952', (t) => {
  // The WHATWG URL standard's serializer follows RFC 5952 §4.
  fc.assert(
    fc.property(ipv6(), (ip) => t.is(`[${ip.toString()}]`, new URL(`http://[${ip.toString()}]/`).hostname)),
  );
  const written = {
    '2001:DB8:0:0:0:0:0:1': '2001:db8::1',
    '2001:db8:0:1:1:1:1:1': '2001:db8:0:1:1:1:1:1',
    '2001:0:0:1:0:0:0:1': '2001:0:0:1::1',
    '2001:db8:0:0:1:0:0:1': '2001:db8::1:0:0:1',
    '0:0:0:0:0:0:0:0': '::',
    '::1': '::1',
    '1::': '1::',
    '::ffff:192.0.2.1': '::ffff:c000:201',
  };
  for (const [text, short] of Object.entries(written)) t.is(IpAddress.parse(text).toString(), short);
});

test('exactly the addresses of node:net are addresses', (t) => {
  const texts = fc.oneof(
    fc.string({ unit: fc.constantFrom(...Array.from('0123456789.:/% abcfx')), maxLength: 24 }),
    fc
      .array(fc.integer({ min: 0, max: 300 }), { minLength: 3, maxLength: 5 })
      .map((parts) => parts.join('.')),
    fc
      .array(fc.constantFrom('', '0', '00', '1', 'ffff', '12345', 'g'), { minLength: 2, maxLength: 9 })
      .map((parts) => parts.join(':')),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const expected = text.includes('%') ? 0 : isIP(text);
      t.is(IpAddress.tryParse(text)?.family ?? 0, expected, JSON.stringify(text));
    }),
    { numRuns: 2000 },
  );
});

test('an invalid address is refused with the field and the text', (t) => {
  for (const text of [
    '',
    ' ',
    '10.0.0',
    '10.0.0.256',
    '10.0.0.01',
    '10.0.0.1.',
    '10.0.0.0/8',
    'fe80::1%eth0',
    '1::2::3',
    'c1',
  ]) {
    const error = t.throws(() => IpAddress.parse(text, 'ip'), { instanceOf: WeftError });
    t.is(error.code, 'INVALID_ARGUMENT');
    t.true(error.message.startsWith(`ip: "${text}"`), error.message);
  }
});

test('a prefix of an address keeps its first bits and clears the others', (t) => {
  fc.assert(
    fc.property(address(), fc.nat(128), (ip, limit) => {
      const bits = addressBits(ip.family);
      const length = Math.min(limit, bits);
      const net = IpNetwork.of(ip, length);
      t.is(bitsOf(net.base), bitsOf(ip).slice(0, length).padEnd(bits, '0'));
      t.is(bitsOf(net.last), bitsOf(ip).slice(0, length).padEnd(bits, '1'));
      t.is(net.size, net.last.value - net.base.value + 1n);
      t.true(net.contains(ip));
      t.true(IpNetwork.parse(net.toString()).equals(net));
    }),
  );
});

test('contains and overlaps agree with ranges', (t) => {
  // Near each other, so that both results occur.
  const near = network(
    fc.oneof(
      fc.bigInt({ min: 0n, max: 0xffn }).map((low) => IpAddress.of(4, 0x0a00_0000n + low)),
      ipv4(),
      ipv6(),
    ),
  );
  fc.assert(
    fc.property(near, near, (a, b) => {
      const same = a.family === b.family;
      const inside = same && a.base.value <= b.base.value && b.last.value <= a.last.value;
      const apart = a.last.value < b.base.value || b.last.value < a.base.value;
      t.is(a.contains(b), inside);
      t.is(a.overlaps(b), same && !apart);
      t.is(a.overlaps(b), b.overlaps(a));
      t.is(a.contains(b.base), same && a.base.value <= b.base.value && b.base.value <= a.last.value);
    }),
    { numRuns: 1000 },
  );
});

test('an address in a prefix is its base plus an offset', (t) => {
  fc.assert(
    fc.property(network(), fc.bigInt({ min: 0n, max: 1n << 128n }), (net, seed) => {
      const offset = seed % net.size;
      t.is(net.at(offset).value - net.base.value, offset);
      t.true(net.contains(net.at(offset)));
    }),
  );
});

test('set host bits are refused, and the right prefix is suggested', (t) => {
  const error = t.throws(() => IpNetwork.parse('10.100.5.1/16', 'subnet'), { instanceOf: WeftError });
  t.is(error.code, 'INVALID_ARGUMENT');
  t.is(error.next, 'Did you mean 10.100.0.0/16?');
  t.is(IpNetwork.tryParse('10.100.5.1/16'), undefined);
  t.is(parseInterface('10.100.5.1/16').address.toString(), '10.100.5.1');
  t.is(IpNetwork.parse('fd42:100::/48').toString(), 'fd42:100::/48');
});

test('an invalid prefix is refused', (t) => {
  for (const text of [
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    '::/129',
    '/8',
    '10.0.0.0/8 ',
  ]) {
    const error = t.throws(() => parseInterface(text, 'subnet'), { instanceOf: WeftError }, text);
    t.true(error.message.startsWith(`subnet: "${text}"`), error.message);
  }
});

test('MAC addresses have one form, and must be unicast', (t) => {
  t.is(parseMac('02-AB-CD-00-00-01'), '02:ab:cd:00:00:01');
  for (const text of [
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:0g',
    '01:00:5e:00:00:01',
    'ff:ff:ff:ff:ff:ff',
    '00:00:00:00:00:00',
  ]) {
    t.is(t.throws(() => parseMac(text), { instanceOf: WeftError }).code, 'INVALID_ARGUMENT');
  }
});
