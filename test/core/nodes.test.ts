// What nodes tell each other: versions and addresses.
import test from 'ava';

import { IpAddress } from '../../core/address.js';
import { publicAddresses } from '../../core/membership.js';
import { isTooOld, OLDEST_VERSION } from '../../core/versions.js';
import { version } from '../../daemon/version.js';

// Which versions are too old for this release.

for (const [text, old] of [
  ['0.0.9', true],
  ['0.0.10', true],
  [OLDEST_VERSION, false],
  ['0.1.0-rc.1', false],
  ['0.10.0', false],
  ['1.0.0', false],
  ['', false],
  ['of a branch', false],
] as const)
  test(`${text === '' ? 'no version' : text}: ${old ? 'too old' : 'works with this'}`, (t) =>
    t.is(isTooOld(text), old));

test('this release works with itself', (t) => t.false(isTooOld(version)));

// The addresses that other nodes are told.

const [IP, IP6] = ['192.0.2.1', 'fd00::1'];
const [NAT, NAT6] = ['203.0.113.1', '2001:db8::1'];

/** Each of the form `IP` or `IP,IP6`. */
function told(own: string, nat?: string): string {
  const pair = (text: string): { ip: IpAddress; ip6?: IpAddress } => {
    const [ip, ip6] = text.split(',');
    return { ip: IpAddress.parse(ip ?? ''), ...(ip6 === undefined ? {} : { ip6: IpAddress.parse(ip6) }) };
  };
  const underlay = { ...pair(own), mtu: 1500, link: 'eth0', onLink: [] };
  const { ip, ip6 } = publicAddresses(nat === undefined ? underlay : { ...underlay, nat: pair(nat) });
  return [ip, ...(ip6 === undefined ? [] : [ip6])].join(',');
}

test('without NAT the underlay addresses are told', (t) => {
  t.is(told(IP), IP);
  t.is(told(`${IP},${IP6}`), `${IP},${IP6}`);
});

test('with NAT its addresses are told, and IPv6 only where the underlay has it', (t) => {
  t.is(told(IP, NAT), NAT);
  t.is(told(`${IP},${IP6}`, `${NAT},${NAT6}`), `${NAT},${NAT6}`);
  t.is(told(`${IP},${IP6}`, NAT), `${NAT},${IP6}`);
  t.is(told(IP, `${NAT},${NAT6}`), NAT);
});
