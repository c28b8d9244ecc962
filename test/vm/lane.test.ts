// The tests on Debian's own kernel.
//
// One file, because two emulated machines with their daemons take half a minute to start: they are started once, and each test
// leaves them unchanged.
import test from 'ava';

import { clockTests } from './clock.js';
import { lanTests } from './lan.js';
import { Machines } from './machines.js';
import { overlayTests } from './overlay.js';
import { pipeworkTests } from './pipework.js';
import { vlanTests } from './vlan.js';

let machines: Machines;

test.before(async () => {
  machines = await Machines.boot({ count: 2, segments: ['trunk', 'lan'] });
  await Promise.all([
    machines.startController(),
    machines.startAgent(machines.host(1)),
    machines.startAgent(machines.host(2)),
  ]);
});
test.afterEach.always(async () => {
  // The containers of a test end with it.
  if (machines !== undefined)
    await Promise.all([1, 2].map((number) => machines.host(number).removeContainers()));
});
test.after.always(() => machines?.down());

overlayTests(test, () => machines);
vlanTests(test, () => machines);
lanTests(test, () => machines);
pipeworkTests(test, () => machines);
clockTests(test, () => machines);
