// Keys in etcd: built as flannel and the contract have them, and parsed back.
import test from 'ava';

import { IpNetwork } from '../../core/address.js';
import { formatSubnetKey, Keys, parseSubnetKey, rangeOf } from '../../store/keys.js';

const keys = new Keys('/weft/');

test('keys are where flannel and the contract have them', (t) => {
  t.is(keys.config('blue'), '/weft/networks/blue/config');
  t.is(keys.lease('blue', IpNetwork.parse('10.100.5.0/24')), '/weft/networks/blue/subnets/10.100.5.0-24');
  t.is(keys.endpoint('blue', '0123456789abcdef'), '/weft/networks/blue/endpoints/0123456789abcdef');
  t.is(keys.node('n1'), '/weft/nodes/n1');
  t.is(keys.alive('n1'), '/weft/nodes/n1/alive');
  t.is(keys.removal('network', 'blue'), '/weft/removed/networks/blue');
  t.is(keys.removal('node', 'n1'), '/weft/removed/nodes/n1');
});

test('every key parses to the parts it was built from', (t) => {
  const network = 'blue';
  const kinds = [
    keys.config(network),
    keys.lease(network, IpNetwork.parse('10.1.2.0/24'), IpNetwork.parse('fd42::/64')),
    keys.endpoint(network, 'abc'),
    keys.endpointName(network, 'web.1'),
    keys.claim(network, 'fd42::7'),
    keys.node('a.b'),
    keys.alive('a.b'),
    keys.removal('network', network),
    keys.removal('node', 'a.b'),
    keys.allocated(),
    keys.leader('controller'),
  ].map((key) => keys.parse(key).kind);
  t.deepEqual(kinds, [
    'network',
    'lease',
    'endpoint',
    'endpointName',
    'claim',
    'node',
    'alive',
    'removal',
    'removal',
    'allocated',
    'leader',
  ]);
});

test('keys of other programs are skipped, and invalid ones of weft are reported', (t) => {
  for (const key of [
    '/other/networks/blue/config',
    '/weft/x',
    '/weft/networks/blue/else',
    '/weft/networks/blue/a/b/c',
    '/weftx/nodes/a',
  ]) {
    t.is(keys.parse(key).kind, 'other', key);
  }
  for (const key of [
    '/weft/networks/b.lue/config',
    '/weft/networks/blue/subnets/10.1.2.0',
    '/weft/networks/blue/subnets/10.1.2.3-24',
    '/weft/networks/blue/subnets/10.1.2.0-33',
    '/weft/networks/blue/subnets/x',
    '/weft/networks/blue/claims/10.1.2',
    '/weft/networks/blue/endpoints/xyz',
    '/weft/nodes/-a',
  ]) {
    t.is(keys.parse(key).kind, 'bad', key);
  }
});

test('subnet keys are flannel’s, and both spellings of IPv6 are read', (t) => {
  // The literal examples of flannel's own tests (pkg/subnet/subnet_test.go).
  const four = IpNetwork.parse('10.12.13.0/24');
  const six = IpNetwork.parse('fd00:12:13::/56');
  t.is(formatSubnetKey(four, six), '10.12.13.0-24&fd00:12:13::-56');
  t.is(formatSubnetKey(four), '10.12.13.0-24');
  // As a flanneld with EnableIPv4 false writes it.
  t.is(formatSubnetKey(six), '0.0.0.0-0&fd00:12:13::-56');
  t.deepEqual(Object.keys(parseSubnetKey('0.0.0.0-0&fd00:12:13::-56')), ['subnet']);
  t.true(parseSubnetKey('0.0.0.0-0&fd00:12:13::-56').subnet.equals(six));
  for (const text of ['10.100.5.0-24&fd42:100:0:5::-64', '10.100.5.0-24&fd42-100-0-5---64']) {
    const parsed = parseSubnetKey(text);
    t.is(parsed.subnet.toString(), '10.100.5.0/24');
    t.is(parsed.subnet6?.toString(), 'fd42:100:0:5::/64');
  }
});

test('a range covers exactly the keys with the prefix', (t) => {
  const { key, range_end } = rangeOf('/weft/networks/blue/');
  t.is(key.toString(), '/weft/networks/blue/');
  t.is(range_end.toString(), '/weft/networks/blue0');
});
