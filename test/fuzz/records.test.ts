// Garbage as keys and values in etcd.
//
// Each is a record, none of weft's, or unreadable with a reason that people can use.
import test from 'ava';
import fc from 'fast-check';

import { decodeRecord } from '../../store/decode.js';
import { Keys } from '../../store/keys.js';
import { etcdSamples } from './etcd-samples.js';
import { patience, polluted, spoilt, text, times, unclear } from './garbage.js';

const SAMPLES = etcdSamples('blue', 'h1');

const record = fc
  .constantFrom(...SAMPLES.filter(([, written]) => written.startsWith('{')))
  .chain(([key, written]) =>
    spoilt(JSON.parse(written) as object).map((one) => [key, JSON.stringify(one) ?? ''] as const),
  );
const key = fc.oneof(
  fc.constantFrom(...SAMPLES.map(([name]) => name)),
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc
    .array(
      fc.constantFrom(
        'networks',
        'nodes',
        'subnets',
        'endpoints',
        'claims',
        'removed',
        'blue',
        '..',
        '',
        '10.0.0.0-24',
      ),
      {
        maxLength: 6,
      },
    )
    .map((parts) => parts.join('/')),
);

test('any key and value in etcd is a record, none of weft’s, or unreadable with a reason', (t) => {
  t.timeout(patience(60));
  const keys = new Keys('/weft');
  for (const [name, written] of SAMPLES) {
    const decoded = decodeRecord(keys.parse(`/weft/${name}`), written, '0');
    t.true(decoded !== undefined && 'record' in decoded, `${name}: ${JSON.stringify(decoded)}`);
  }
  fc.assert(
    fc.property(
      fc.oneof(record, fc.tuple(key, text)),
      fc.constantFrom('0', '7'),
      ([name, written], etcdLease) => {
        const decoded = decodeRecord(keys.parse(`/weft/${name}`), written, etcdLease);
        if (decoded === undefined || !('bad' in decoded)) return;
        t.is(unclear(decoded.bad), undefined, decoded.bad);
      },
    ),
    { numRuns: times(10_000), includeErrorInReport: true },
  );
  t.deepEqual(polluted(), []);
});
