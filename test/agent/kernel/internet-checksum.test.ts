// The Internet checksum of packets with an even and an odd number of bytes.
import test from 'ava';
import fc from 'fast-check';

import { checksum } from '../../../agent/kernel/internet-checksum.js';

test('RFC 1071, the numerical example of section 3', (t) => {
  t.is(checksum(Buffer.from('0001f203f4f5f6f7', 'hex')), 0xffff & ~0xddf2);
});

test('law: an odd number of bytes counts as if a zero byte followed', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      t.is(
        checksum(Buffer.from(bytes)),
        checksum(Buffer.from([...bytes, ...(bytes.length % 2 === 1 ? [0] : [])])),
      );
    }),
  );
});
