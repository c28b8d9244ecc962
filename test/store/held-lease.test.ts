// When an etcd lease is renewed.
import test from 'ava';
import fc from 'fast-check';

import { untilSlot } from '../../store/held-lease.js';

test('nodes renew at the same moments, hardly later than is due, and short leases on their own', (t) => {
  const moment = fc.integer({ min: 1_700_000_000_000, max: 1_900_000_000_000 });
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 60_000 }), moment, (ms, now) => {
      const wait = untilSlot(ms, now);
      t.true(wait <= ms + 10 && wait > ms - 250);
      t.is((now + wait) % 250, 0);
    }),
  );
  t.is(untilSlot(500, 1_700_000_000_123), 500);
});
