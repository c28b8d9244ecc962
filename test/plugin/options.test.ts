// Parsing options of `docker network create` and Docker's port maps.
import test from 'ava';

import { parseIpamOptions, parseAllowedAddresses, parseNetworkOptions } from '../../plugin/cnm/options.js';
import { parsePortMap } from '../../plugin/cnm/port-map.js';
import { parseRequest, createNetwork } from '../../plugin/cnm/protocol.js';

test('options are accepted with weft’s prefix and without it', (t) => {
  t.deepEqual(parseIpamOptions({ 'weft.network': 'blue', 'host-prefix': '26' }), {
    network: 'blue',
    hostPrefix: 26,
  });
  t.deepEqual(
    parseNetworkOptions({
      'weft.mtu': '1400',
      vni: '5000',
      'weft.internal': 'true',
      masquerade: '0',
      'weft.port': '4789',
      'weft.port-security': 'off',
      'direct-access': 'on',
    }),
    {
      ...{ mtu: 1400, vni: 5000, internal: true, masquerade: false, port: 4789 },
      ...{ portSecurity: false, directAccess: true },
    },
  );
  t.deepEqual(parseNetworkOptions({ 'com.docker.network.driver.mtu': '1400' }), { mtu: 1400 });
  t.deepEqual(parseNetworkOptions(undefined), {});
  t.deepEqual(parseNetworkOptions(null), {});
});

test('an unknown option is an error that lists the known ones', (t) => {
  for (const [options, words] of [
    [{ 'weft.colour': 'red' }, /no option weft\.colour of -o/],
    [{ 'host-prefix': '24' }, /belongs to --ipam-opt/],
    [{ mtu: 'many' }, /"many" is not a whole number/],
    [{ internal: 'perhaps' }, /neither true nor false/],
    [{ network: 'has.dots' }, /not a network name/],
    [{ mtu: '1400', 'weft.mtu': '1500' }, /given twice/],
  ] as const) {
    t.regex(t.throws(() => parseNetworkOptions(options))?.message ?? '', words);
  }
  const { next } = t.throws(() => parseNetworkOptions({ mtuu: '1' })) as unknown as { next: string };
  t.regex(next, /Did you mean weft\.mtu\? Known are weft\.network/);
});

test('the backend by name, and encryption by Docker’s own word', (t) => {
  t.deepEqual(parseNetworkOptions({ 'weft.backend': 'vxlan', 'weft.direct-routing': 'true' }), {
    backend: 'vxlan',
    directRouting: true,
  });
  t.deepEqual(parseNetworkOptions({ encrypted: '' }), { encrypted: true });
  t.throws(() => parseNetworkOptions({ backend: 'carrier-pigeon' }), { message: /carrier-pigeon/ });
});

test('a port map becomes ports of the host', (t) => {
  t.deepEqual(parsePortMap([{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }]), [
    { hostIp: '0.0.0.0', hostPorts: { first: 8080, last: 8080 }, port: 80, protocol: 'tcp' },
  ]);
  t.deepEqual(parsePortMap([{ Proto: 17, Port: 53, HostIP: '127.0.0.1', HostPort: 0, HostPortEnd: 0 }]), [
    { hostIp: '127.0.0.1', port: 53, protocol: 'udp' },
  ]);
  t.deepEqual(parsePortMap([{ Proto: 6, Port: 80, HostPort: 8000, HostPortEnd: 8010 }])[0]?.hostPorts, {
    first: 8000,
    last: 8010,
  });
  t.deepEqual(parsePortMap(null), []);
  t.deepEqual(parsePortMap(undefined), []);
});

test('a port that newer engines send for both families is one port', (t) => {
  const both = ['0.0.0.0', '::'].map((HostIP) => ({ Proto: 6, Port: 80, HostIP, HostPort: 8080 }));
  t.is(parsePortMap(both).length, 1);
  t.is(parsePortMap([{ Proto: 6, Port: 80, HostIP: '::', HostPort: 8080 }])[0]?.hostIp, '::');
});

test('an invalid port map is an error', (t) => {
  t.throws(() => parsePortMap('8080:80'));
  t.throws(() => parsePortMap([{ Proto: 6, Port: 70_000 }]));
  t.regex(t.throws(() => parsePortMap([{ Proto: 132, Port: 80 }]))?.message ?? '', /protocol 132/);
  t.throws(() => parsePortMap([{ Proto: 6, Port: 80, HostIP: 'everywhere' }]));
});

test('null and absent mean the same in a request', (t) => {
  const least = { NetworkID: 'a1', Options: {}, IPv4Data: [], IPv6Data: [] };
  t.deepEqual(parseRequest('m', createNetwork, '{"NetworkID":"a1"}'), least);
  t.deepEqual(
    parseRequest(
      'm',
      createNetwork,
      '{"NetworkID":"a1","Options":null,"IPv4Data":null,"IPv6Data":null,"New":1}',
    ),
    least,
  );
});

test('allowed addresses of an endpoint are prefixes, separated by commas', (t) => {
  t.is(parseAllowedAddresses({ 'com.docker.network.portmap': [] }), undefined);
  t.deepEqual(parseAllowedAddresses({ 'weft.allowed-address': '10.9.7.200,10.8.0.0/16' }), [
    '10.9.7.200/32',
    '10.8.0.0/16',
  ]);
  t.throws(() => parseAllowedAddresses({ 'weft.allowed-address': 'web' }), { message: /allowed-address/ });
});
