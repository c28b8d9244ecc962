// The tests on Debian's own kernel. One file, because two emulated machines with their agents take half a minute to start:
// they are started once, and each part leaves them as it found them.
import test from 'ava';

import { Machines } from './machines.js';
import { overlayTests } from './overlay.js';

let machines: Machines;

test.before(async () => {
  machines = await Machines.boot({ count: 2, segments: ['trunk', 'lan'] });
  await machines.cluster.startController();
  await Promise.all([1, 2].map((number) => machines.startAgent(machines.host(number))));
});
test.after.always(() => machines?.down());

overlayTests(test, () => machines);
