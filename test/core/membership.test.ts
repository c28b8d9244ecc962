// The addresses that other nodes are told.
import test from 'ava';

import { IpAddress } from '../../core/address.js';
import { publicAddresses } from '../../core/membership.js';

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
