// Network configs: parsed as flannel does, and written so that flanneld reads them.
//
// With flannel's defaults; an invalid config is refused by field.
import test from 'ava';

import { IpNetwork } from '../../core/address.js';
import { parseRange } from '../../core/network.js';
import { decodeConfig, editConfig, encodeConfig, occupiedBy } from '../../store/network-codec.js';
import { because } from './helpers.js';

const config = (text: string) => decodeConfig('blue', text);

test('a config by hand gets flannel’s defaults', (t) => {
  const network = config('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}');
  t.like(network, {
    hostPrefix: 24,
    vni: 1,
    port: 8472,
    internal: false,
    masquerade: true,
    driver: 'overlay',
  });
  t.is(network.range.first.toString(), '10.5.1.0/24');
  t.is(network.range.last.toString(), '10.5.255.0/24');
  t.is(network.mtu, undefined);
  t.is(config('{"Network":"10.5.0.0/23","Backend":{"Type":"vxlan"}}').hostPrefix, 25);
});

test('a config is read as Go reads it', (t) => {
  const network = config(
    '{"network":"10.5.7.9/16","SUBNETLEN":26,"SubnetMin":"10.5.1.0","SubnetMax":null,"backend":{"type":"VXLAN","vni":7,"port":0,"mtu":1400,"DirectRouting":true,"Learning":true},"EnableIPv6":false,"IPv6Network":"fd00::/48","Other":[1]}',
  );
  t.is(network.subnet.toString(), '10.5.0.0/16', 'host bits are dropped');
  t.like(network, { hostPrefix: 26, vni: 7, port: 8472, mtu: 1350 });
  t.is(network.subnet6, undefined);
  t.is(network.range.first.toString(), '10.5.1.0/26');
});

test('a byte order mark before a config is skipped, and not written again', (t) => {
  const plain = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}}';
  const network = config(`\ufeff${plain}`);
  t.deepEqual(network, config(plain));
  t.is(encodeConfig(network), plain);
  t.is(editConfig('blue', `\ufeff${plain}`, { masquerade: false }).charAt(0), '{');
  t.deepEqual(occupiedBy(`\ufeff${plain}`), occupiedBy(plain));
  t.throws(() => config(`${plain}\ufeff`), { message: /not JSON/ });
});

test('a dual-stack config', (t) => {
  const network = config(
    '{"EnableIPv6":true,"Network":"10.100.0.0/16","IPv6Network":"fd42:100::/48","Backend":{"Type":"vxlan","VNI":4097,"Port":8472}}',
  );
  t.is(network.hostPrefix6, 64);
  t.is(network.range6?.first.toString(), 'fd42:100:0:1::/64');
  // flannel splits a long IPv6 network in four; weft would choose another split.
  const long = config(
    '{"EnableIPv6":true,"Network":"10.100.0.0/16","IPv6Network":"fd42:100::/80","Backend":{"Type":"vxlan"}}',
  );
  t.is(long.hostPrefix6, 82);
});

const refused: [string, string, RegExp][] = [
  ['no JSON', 'x', /not JSON/],
  ['no object', '[1]', /not a JSON object/],
  ['no Backend', '{"Network":"10.5.0.0/16"}', /Backend is missing.*udp.*vxlan/],
  ['Backend null', '{"Network":"10.5.0.0/16","Backend":null}', /Backend is missing/],
  [
    'another backend',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"ipsec"}}',
    /Backend\.Type: "ipsec" is not served.*vxlan/,
  ],
  [
    'ipsec with fields of its own',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"ipsec","MTU":"x"}}',
    /"ipsec" is not served/,
  ],
  ['Backend of a wrong type', '{"Network":"10.5.0.0/16","Backend":"vxlan"}', /Backend/],
  ['GBP', '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","GBP":true}}', /Backend\.GBP: true/],
  [
    'no family',
    '{"EnableIPv4":false,"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}',
    /EnableIPv4: false; without EnableIPv6 the network has no addresses/,
  ],
  [
    'IPv6 alone without network',
    '{"EnableIPv4":false,"EnableIPv6":true,"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}',
    /IPv6Network is missing/,
  ],
  ['no Network', '{"Backend":{"Type":"vxlan"}}', /Network is missing; expected an IPv4 prefix/],
  [
    'Network of the wrong family',
    '{"Network":"fd00::/48","Backend":{"Type":"vxlan"}}',
    /Network: "fd00::\/48"; expected an IPv4 prefix/,
  ],
  ['Network a number', '{"Network":10,"Backend":{"Type":"vxlan"}}', /Network: 10; expected an IPv4 prefix/],
  [
    'EnableIPv6 without network',
    '{"EnableIPv6":true,"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}',
    /IPv6Network is missing/,
  ],
  [
    'SubnetLen a fraction',
    '{"Network":"10.5.0.0/16","SubnetLen":24.5,"Backend":{"Type":"vxlan"}}',
    /SubnetLen: 24\.5; expected a whole number/,
  ],
  [
    'SubnetLen too short',
    '{"Network":"10.5.0.0/16","SubnetLen":17,"Backend":{"Type":"vxlan"}}',
    /SubnetLen: 17 does not fit/,
  ],
  ['Network too small', '{"Network":"10.5.0.0/29","Backend":{"Type":"vxlan"}}', /too small/],
  [
    'SubnetMin outside',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0","Backend":{"Type":"vxlan"}}',
    /SubnetMin: 10\.6\.0\.0 is not inside/,
  ],
  [
    'SubnetMin unaligned',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.1","Backend":{"Type":"vxlan"}}',
    /SubnetMin.*not the base/,
  ],
  [
    'SubnetMin after SubnetMax',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.1.0","Backend":{"Type":"vxlan"}}',
    /lies after/,
  ],
  [
    'VNI 0',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":0}}',
    /Backend\.VNI: 0; expected a whole number from 1 to 16777215/,
  ],
  [
    'VNI text',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":"1"}}',
    /Backend\.VNI: "1"; expected/,
  ],
  ['Port', '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Port":65536}}', /Backend\.Port: 65536/],
  [
    'MTU',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","MTU":100}}',
    /Backend\.MTU: 100; expected at least 118/,
  ],
  [
    'multicast',
    '{"Network":"224.0.0.0/16","Backend":{"Type":"vxlan"}}',
    /Network: 224\.0\.0\.0\/16 overlaps the reserved/,
  ],
];
for (const [what, text, why] of refused) {
  test(`a config is refused with its field: ${what}`, (t) =>
    t.regex(
      because(() => config(text)),
      why,
    ));
}

test('a config that was read is written unchanged', (t) => {
  const text = '{ "Network":"10.5.0.0/16", "Mine":{"a":1}, "Backend":{"Type":"vxlan","DirectRouting":true} }';
  t.is(encodeConfig(config(text)), text);
});

test('a network created by weft is written as the contract shows it', (t) => {
  const subnet = IpNetwork.parse('10.100.0.0/16');
  const text = encodeConfig({
    name: 'blue',
    driver: 'overlay',
    backend: 'vxlan',
    subnet,
    hostPrefix: 24,
    range: parseRange(subnet, 24, undefined, undefined),
    vni: 4097,
    port: 8472,
    internal: false,
    masquerade: true,
  });
  t.is(
    text,
    '{"Network":"10.100.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan","VNI":4097,"Port":8472},"Weft":{"Internal":false,"Masquerade":true}}',
  );
});

test('--force is kept in weft’s part of a config', (t) => {
  const network = config('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"},"Weft":{"Force":true}}');
  t.is(network.force, true);
  t.is(config('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}').force, undefined);
  const written = encodeConfig({ ...network });
  t.like(JSON.parse(written), { Weft: { Force: true } });
  t.is(config(written).force, true);
  t.is(config(editConfig('blue', written, { masquerade: false })).force, true);
});

test('the space of an unserved config still counts', (t) => {
  const occupied = occupiedBy(
    '{"Network":"10.5.0.0/16","IPv6Network":"fd00::/48","Backend":{"Type":"wireguard","VNI":9}}',
  );
  t.deepEqual(occupied.prefixes.map(String), ['10.5.0.0/16', 'fd00::/48']);
  t.deepEqual(occupied.backend, { Type: 'wireguard', VNI: 9 });
  t.deepEqual(occupiedBy('x'), { prefixes: [] });
  t.deepEqual(occupiedBy('{"Network":7}'), { prefixes: [] });
});

test('a huge value is not even parsed', (t) => {
  t.regex(
    because(() => config(`{"Network":"${'1'.repeat(70_000)}"}`)),
    /characters long/,
  );
});

test('the maker of a network: Docker’s flag of release 0.1, and the managers of others', (t) => {
  const text = (weft: object): string =>
    JSON.stringify({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan' }, Weft: weft });
  t.is(config(text({ Docker: true })).madeBy, 'docker');
  t.is(config(text({ MadeBy: 'netavark' })).madeBy, 'netavark');
  t.false('madeBy' in config(text({ MadeBy: 'a later one' })));
  // A new config, because one that was read is kept as it was written.
  const made = (madeBy: 'docker' | 'netavark'): unknown =>
    (JSON.parse(encodeConfig({ ...config(text({})), madeBy })) as { Weft: unknown }).Weft;
  t.like(made('docker'), { Docker: true });
  t.like(made('netavark'), { MadeBy: 'netavark' });
});
