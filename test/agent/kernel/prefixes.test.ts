// The prefixes of a pump's peers.
import test from 'ava';

import { Prefixes } from '../../../agent/kernel/pump/prefixes.js';
import { IpAddress } from '../../../core/address.js';

const ip = (text: string): number => Number(IpAddress.parse(text).value);

test('the longest prefix decides, and what changes counts at once', (t) => {
  const prefixes = new Prefixes();
  const peerOf = (text: string): number => prefixes.peerOf(ip(text));
  t.is(peerOf('10.1.2.3'), 0);
  prefixes.set(ip('10.1.2.0'), 24, ip('192.0.2.2'));
  t.is(peerOf('10.1.2.3'), ip('192.0.2.2'));
  prefixes.set(ip('10.1.2.3'), 32, ip('192.0.2.3'));
  t.is(peerOf('10.1.2.3'), ip('192.0.2.3'));
  t.is(peerOf('10.1.2.4'), ip('192.0.2.2'));
  prefixes.set(ip('10.1.2.3'), 32, 0);
  t.is(peerOf('10.1.2.3'), ip('192.0.2.2'));
  prefixes.set(ip('200.1.0.0'), 16, ip('203.0.113.1'));
  t.is(peerOf('200.1.255.255'), ip('203.0.113.1'), 'above the middle of the addresses, too');
  prefixes.clear();
  t.is(peerOf('200.1.255.255'), 0);
});
