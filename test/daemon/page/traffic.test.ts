// Rates from two samples of counters.
import test from 'ava';

import { pointsOf } from '../../../daemon/page/traffic.js';

const sample = (sentBytes: number, droppedPackets = 0) => ({ sentBytes, droppedPackets });

test('rates of a network are summed over nodes that answered twice', (t) => {
  const before = new Map([
    ['h1', new Map([['blue', sample(1000, 5)]])],
    ['h2', new Map([['blue', sample(9000)]])],
  ]);
  const after = new Map([
    ['h1', new Map([['blue', sample(3000, 25)]])],
    // Its link is a new one.
    ['h2', new Map([['blue', sample(10)]])],
    ['h3', new Map([['blue', sample(5000)]])],
  ]);
  t.deepEqual(pointsOf(before, after, 10, 77, 4), [
    { at: 77, network: 'blue', bytes: 200, drops: 2, missing: 1 },
  ]);
});
