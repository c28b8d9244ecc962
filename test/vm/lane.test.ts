// The tests on Debian's own kernel.
//
// One file, because two emulated machines with their daemons take half a minute to start: they are started once, and each test
// leaves them unchanged. After a failure they are started anew.
import test from 'ava';

import { shareAmongTests } from '../lab/fresh.js';
import { clockTests } from './clock.js';
import { fouTests } from './fou.js';
import { ipipTests } from './ipip.js';
import { lanTests } from './lan.js';
import { Machines } from './machines.js';
import { overlayTests } from './overlay.js';
import { pipeworkTests } from './pipework.js';
import { vlanTests } from './vlan.js';
import { wireguardTests } from './wireguard.js';

let machines: Machines;

async function setUp(): Promise<void> {
  machines = await Machines.boot({ count: 2, segments: ['trunk', 'lan'] });
  // Before the agents, which look at the kernel once.
  await Promise.all([1, 2].map((number) => machines.host(number).sh('modprobe tun; modprobe fou')));
  await Promise.all([
    machines.startController(),
    machines.startAgent(machines.host(1)),
    machines.startAgent(machines.host(2)),
  ]);
}

/** The containers of a test end with it. */
async function removeContainers(): Promise<void> {
  await Promise.all([1, 2].map((number) => machines.host(number).removeContainers()));
}

shareAmongTests(test, setUp, async () => machines?.down(), removeContainers);

overlayTests(test, () => machines);
wireguardTests(test, () => machines);
ipipTests(test, () => machines);
fouTests(test, () => machines);
vlanTests(test, () => machines);
lanTests(test, () => machines);
pipeworkTests(test, () => machines);
clockTests(test, () => machines);
