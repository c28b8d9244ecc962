// Whose a packet is, also inside of tunnels.
import test from 'ava';

import { addressesIn } from '../../core/packet.js';

const ports = { vxlan: new Set([8472]), plain: new Set([8285]) };
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(/\s/g, ''), 'hex');

const ethernet = (type: string, payload: Buffer): Buffer =>
  Buffer.concat([bytes(`020000000001 020000000002 ${type}`), payload]);
const ip4 = (protocol: number, from: string, to: string, payload: Buffer = Buffer.alloc(8)): Buffer => {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header[9] = protocol;
  header.set(from.split('.').map(Number), 12);
  header.set(to.split('.').map(Number), 16);
  return Buffer.concat([header, payload]);
};
const udp = (port: number, payload: Buffer): Buffer => {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(port, 2);
  return Buffer.concat([header, payload]);
};
const inner = ip4(1, '10.100.5.2', '10.100.6.2');
const INNER = ['10.100.5.2', '10.100.6.2'];
const OUTER = ['192.0.2.10', '192.0.2.11'];
const shown = (packet: Buffer, isFrame = true): string[] => addressesIn(packet, isFrame, ports).map(String);

const CASES: [name: string, packet: Buffer, found: string[], isFrame?: boolean][] = [
  ['a packet of IPv4', ethernet('0800', inner), INNER],
  ['one in a VLAN', ethernet('8100 0064 0800', inner), INNER],
  ['one without an Ethernet header', inner, INNER, false],
  [
    'VXLAN',
    ethernet(
      '0800',
      ip4(
        17,
        '192.0.2.10',
        '192.0.2.11',
        udp(8472, Buffer.concat([Buffer.alloc(8), ethernet('0800', inner)])),
      ),
    ),
    [...OUTER, ...INNER],
  ],
  ['IP in IP', ethernet('0800', ip4(4, '192.0.2.10', '192.0.2.11', inner)), [...OUTER, ...INNER]],
  [
    'the backend udp',
    ethernet('0800', ip4(17, '192.0.2.10', '192.0.2.11', udp(8285, inner))),
    [...OUTER, ...INNER],
  ],
  ['other UDP', ethernet('0800', ip4(17, '192.0.2.10', '192.0.2.11', udp(53, inner))), OUTER],
  [
    'ARP',
    ethernet('0806', bytes('0001 0800 06 04 0001 020000000001 0a640502 000000000000 0a640501')),
    ['10.100.5.2', '10.100.5.1'],
  ],
  [
    'IPv6',
    ethernet('86dd', bytes(`60000000 0000 3a40 fd42${'00'.repeat(13)}02 fd42${'00'.repeat(13)}03`)),
    ['fd42::2', 'fd42::3'],
  ],
  ['something else', ethernet('88cc', inner), []],
];

for (const [name, packet, found, isFrame] of CASES)
  test(`${name}: its addresses`, (t) => t.deepEqual(shown(packet, isFrame), found));

test('a packet that was cut off anywhere is no error', (t) => {
  for (const [, packet, , isFrame] of CASES)
    for (let length = 0; length < packet.length; length++)
      t.notThrows(() => shown(packet.subarray(0, length), isFrame));
});
