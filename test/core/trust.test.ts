// Which leases and claims are believed.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { whyClaimDisbelieved } from '../../core/claim-trust.js';
import { mayOverlap, whyDisbelieved } from '../../core/lease-trust.js';
import type { Claim, Lease } from '../../core/records.js';
import { lease as sample, network } from '../kernel/samples.js';

// Which leases are believed.

const blue = { ...network('blue', 4097, 100, false), hostPrefix: 24 };
const lease = (subnet: string, more: Partial<Lease> = {}): Lease => ({
  ...sample(blue, 2),
  subnet: IpNetwork.parse(subnet),
  ...more,
});
const node = { name: 'node2', publicIp: '192.0.2.2' };
const EARLY = '2026-01-01T00:00:00Z';
const LATE = '2026-06-01T00:00:00Z';

for (const [what, given, others, why] of [
  ['a subnet of the network', lease('10.100.2.0/24'), [], undefined],
  ['one outside', lease('10.101.2.0/24'), [], /^is not in 10\.100\.0\.0\/16$/],
  ['all of the network and more', lease('10.0.0.0/8'), [], /^is not in/],
  ['a larger one', lease('10.100.2.0/23'), [], /^is larger than the \/24 that a node gets$/],
  [
    'one within an older one',
    lease('10.100.2.128/25', { since: LATE }),
    [lease('10.100.2.0/24', { since: EARLY })],
    /^overlaps 10\.100\.2\.0\/24, an older lease$/,
  ],
  [
    'an older one around a newer',
    lease('10.100.2.0/24', { since: EARLY }),
    [lease('10.100.2.128/25', { since: LATE })],
    undefined,
  ],
  [
    'a flanneld’s within a node’s',
    lease('10.100.2.128/25'),
    [lease('10.100.2.0/24', { since: EARLY })],
    /^overlaps/,
  ],
  ['beside others', lease('10.100.2.0/24'), [lease('10.100.3.0/24', { since: EARLY })], undefined],
  [
    'an address that its node does not have',
    lease('10.100.2.0/24', { publicIp: IpAddress.parse('192.0.2.99') }),
    [],
    /^names 192\.0\.2\.99 as the address of node node2, whose own record has 192\.0\.2\.2$/,
  ],
] as const) {
  test(`${what}: ${why === undefined ? 'believed' : 'not'}`, (t) => {
    const found = whyDisbelieved(given, { network: blue, leases: [given, ...others], node, flannel: true });
    if (why === undefined) t.is(found, undefined);
    else t.regex(found ?? '', why);
  });
}

test('of a node that moves, its earlier address counts until its lease follows', (t) => {
  const there = lease('10.100.2.0/24');
  const moved = { name: 'node2', publicIp: '192.0.2.50' };
  const around = { network: blue, leases: [there], node: moved, flannel: true };
  t.is(whyDisbelieved(there, { ...around, before: there }), undefined);
  t.regex(whyDisbelieved(there, around) ?? '', /^names 192\.0\.2\.2/);
});

test('one that was there before the network asked for smaller ones is believed', (t) => {
  const there = lease('10.100.2.0/23');
  const around = { network: blue, leases: [there], node, flannel: true };
  t.is(whyDisbelieved(there, { ...around, predatesConfig: true }), undefined);
  t.regex(whyDisbelieved(there, { ...around, predatesConfig: false }) ?? '', /^is larger than the \/24/);
});

test('without a record of its node a lease is a flanneld’s, and its address counts', (t) => {
  const there = lease('10.100.2.0/24', { publicIp: IpAddress.parse('203.0.113.1') });
  const around = { network: blue, leases: [there], node: undefined };
  t.is(whyDisbelieved(there, { ...around, flannel: true }), undefined);
  t.regex(whyDisbelieved(there, { ...around, flannel: false }) ?? '', /--flannel is off/);
});

test('leases of one length are never compared', (t) => {
  t.false(mayOverlap(lease('10.100.2.0/24'), lease('10.100.2.0/24')));
  t.true(mayOverlap(lease('10.100.2.0/24'), lease('10.100.2.0/25')));
});

// Which granted claims are believed.

const claim = (ip: string, node: string, state: Claim['state'] = 'granted'): Claim => ({
  ...{ network: 'blue', node, endpoint: 'aa', state },
  ip: IpAddress.parse(ip),
});
const leases = [
  { node: 'h2', subnet: IpNetwork.parse('10.100.2.0/24'), subnet6: IpNetwork.parse('fd42:100:0:2::/64') },
  { subnet: IpNetwork.parse('10.100.9.0/24') },
];
const endpoints = [
  { id: 'bb', node: 'h2', ip: '10.100.2.5/24', ip6: 'fd42:100:0:2::5/64' },
  // In a subnet that is not its node's: it has it by a claim.
  { id: 'cc', node: 'h3', ip: '10.100.2.7/32' },
];

for (const [what, given, why] of [
  [
    'an address that an endpoint of the subnet’s node has',
    claim('10.100.2.5', 'h3'),
    /^node h2, whose .* endpoint bb$/,
  ],
  ['the same of IPv6', claim('fd42:100:0:2::5', 'h3'), /endpoint bb$/],
  ['while it is only asked for', claim('10.100.2.5', 'h3', 'asked'), undefined],
  ['one that no endpoint has', claim('10.100.2.6', 'h3'), undefined],
  ['one that its own endpoint has', claim('10.100.2.7', 'h3'), undefined],
  ['in space that nobody leases', claim('10.100.3.5', 'h3'), undefined],
  ['in a flanneld’s subnet', claim('10.100.9.5', 'h3'), undefined],
  ['of the subnet’s own node', claim('10.100.2.5', 'h2'), undefined],
] as const) {
  test(`a claim on ${what}: ${why === undefined ? 'believed' : 'not'}`, (t) => {
    const found = whyClaimDisbelieved(given, { leases, endpoints });
    if (why === undefined) t.is(found, undefined);
    else t.regex(found ?? '', why);
  });
}
