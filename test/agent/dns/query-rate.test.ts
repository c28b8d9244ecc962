// The rate of queries by TCP.
import test from 'ava';

import { QueryRate } from '../../../agent/dns/query-rate.js';

/** How many of so many queries are taken at once. */
const taken = (rate: QueryRate, ip: string, count: number): number =>
  Array.from({ length: count }, () => rate.take(ip)).filter(Boolean).length;

test('two thousand at once, then a thousand a second, for each client by itself', (t) => {
  let now = 0;
  const rate = new QueryRate(() => now);
  t.is(taken(rate, '10.1.0.2', 18_000), 2000);
  t.is(taken(rate, '10.1.0.3', 100), 100);
  now += 1000;
  t.is(taken(rate, '10.1.0.2', 18_000), 1000);
  t.false(rate.take('10.1.0.2'));
  now += 60_000;
  t.is(taken(rate, '10.1.0.2', 18_000), 2000, 'quiet clients save up no more than at the beginning');
});

test('who is too fast stays known, however many others ask', (t) => {
  let now = 0;
  const rate = new QueryRate(() => now);
  t.is(taken(rate, '10.1.0.2', 3000), 2000);
  for (let i = 0; i < 5000; i++) {
    now += 0.1;
    t.true(rate.take(`fd00::${i.toString(16)}`));
  }
  t.is(taken(rate, '10.1.0.2', 3000), 500);
});
