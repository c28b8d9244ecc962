// Lease codec: flannel's leases, other backends, reservations by hand, invalid ones.
import test from 'ava';

import { decodeLease, encodeLease } from '../../store/lease-codec.js';
import { because } from './helpers.js';
import { leaseKey } from './lease-key.js';

test('a lease as flannel writes it', (t) => {
  const text =
    '{"PublicIP":"192.0.2.10","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"52:54:00:12:34:56"}}';
  const lease = decodeLease(leaseKey('10.5.52.0-24'), text, '77');
  t.like(lease, { network: 'blue', backendType: 'vxlan', reservation: false, etcdLease: '77' });
  t.is(lease.publicIp.toString(), '192.0.2.10');
  t.deepEqual(lease.data, { type: 'vxlan', 4: { vni: 1, mac: '52:54:00:12:34:56' } });
  t.is(lease.node, undefined);
  t.is(encodeLease(lease), text);
});

test('leases of other backends and reservations by hand are read, and their data kept', (t) => {
  const ipip = decodeLease(
    leaseKey('10.5.52.0-24'),
    '{"PublicIP":"192.0.2.10","BackendType":"ipip","BackendData":{"PublicKey":"x"}}',
    '7',
  );
  t.is(ipip.backendType, 'ipip');
  t.is(ipip.data, undefined);
  const reservation = decodeLease(leaseKey('10.5.52.0-24'), '{}', '0');
  t.true(reservation.reservation);
  t.is(reservation.publicIp.toString(), '0.0.0.0');
});

test('backends of which flannel writes no BackendType: the type is where flannel does not look', (t) => {
  const flannels = decodeLease(leaseKey('10.5.52.0-24'), '{"PublicIP":"192.0.2.10","PublicIPv6":null}', '7');
  t.is(flannels.backendType, '');
  const own = { ...flannels, backendType: 'aws-vpc', node: 'h1', instance: 'i1' };
  const text = encodeLease(own);
  t.deepEqual(JSON.parse(text), {
    PublicIP: '192.0.2.10',
    PublicIPv6: null,
    Weft: { Node: 'h1', Instance: 'i1', BackendType: 'aws-vpc' },
  });
  t.deepEqual(decodeLease(leaseKey('10.5.52.0-24'), text, '7'), own);
});

test('a lease of IPv6 alone: a node without IPv4 publishes an address that no flanneld has', (t) => {
  const data = '"BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"52:54:00:12:34:56"}';
  // flanneld's own: it writes 0.0.0.0, and takes a lease with that for its own.
  const key = leaseKey('0.0.0.0-0&fd42:100:0:5::-64');
  const flannels = decodeLease(key, `{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::10",${data}}`, '77');
  t.is(flannels.subnet.toString(), 'fd42:100:0:5::/64');
  t.is(flannels.publicIp.toString(), '2001:db8::10');
  t.is(flannels.publicIp6, undefined);
  t.deepEqual(flannels.data, { type: 'vxlan', 6: { vni: 1, mac: '52:54:00:12:34:56' } });
  const text = `{"PublicIP":"192.0.0.8","PublicIPv6":"2001:db8::10",${data}}`;
  t.is(encodeLease(flannels), text);
  t.deepEqual(decodeLease(key, text, '77'), flannels);
  const both = decodeLease(key, text.replace('192.0.0.8', '192.0.2.10'), '77');
  t.deepEqual([both.publicIp.toString(), both.publicIp6?.toString()], ['192.0.2.10', '2001:db8::10']);
});

for (const [what, text, why] of [
  ['PublicIP', '{"PublicIP":"x","BackendType":"vxlan"}', /PublicIP: "x"; expected an IPv4 address/],
  ['PublicIP of IPv6', '{"PublicIP":"2001:db8::1"}', /PublicIP: "2001:db8::1"; expected an IPv4/],
  [
    'VtepMAC',
    '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"zz"}}',
    /BackendData\.VtepMAC: "zz"; expected a unicast MAC/,
  ],
  ['BackendData', '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":"x"}', /BackendData: "x"/],
  [
    'VNI missing',
    '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:01"}}',
    /BackendData\.VNI is missing/,
  ],
] as const) {
  test(`a lease is refused with its field: ${what}`, (t) =>
    t.regex(
      because(() => decodeLease(leaseKey('10.5.52.0-24'), text, '1')),
      why,
    ));
}
