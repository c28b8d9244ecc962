// Which granted claims are believed.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { whyClaimDisbelieved } from '../../core/claim-trust.js';
import type { Claim } from '../../core/records.js';

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
