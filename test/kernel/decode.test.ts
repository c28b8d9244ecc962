// Decoding of messages that differ on older kernels.
import test from 'ava';

import { addressObject, type DecodedAddress, type KernelLink } from '../../agent/kernel/objects/index.js';

const address = (link: Partial<KernelLink>, text: string, global: boolean): DecodedAddress => ({
  link: link as KernelLink,
  text,
  global,
  marked: false,
  hasProtocol: false,
  permanent: true,
  flaw: undefined,
});
const lookup = { byIndex: () => undefined, role: 'node', marksAddresses: false } as const;

test('before Linux 5.18: only the link-local address that weft gives its bridges is decoded', (t) => {
  const bridge = { name: 'wfbr4097', owned: true };
  const seen = (link: Partial<KernelLink>, text: string): unknown =>
    addressObject(address(link, text, false), lookup);
  t.deepEqual(seen(bridge, 'fe80::1/64'), {
    object: { kind: 'address', link: 'wfbr4097', address: 'fe80::1/64' },
    owned: true,
  });
  t.is(seen(bridge, 'fe80::2/64'), undefined);
  t.is(seen({ name: 'br0', owned: false }, 'fe80::1/64'), undefined);
  t.is(addressObject(address(bridge, 'fe80::1/64', false), { ...lookup, marksAddresses: true }), undefined);
});
