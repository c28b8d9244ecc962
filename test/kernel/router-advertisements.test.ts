// Links that depend on router advertisements and ignore them.
import { sh } from './private.js';

import test from 'ava';

import { openKernel } from '../../agent/kernel/linux.js';
import type { Kernel } from '../../agent/kernel/kernel.js';
import { noFirewall } from './samples.js';

const conf = (link: string, name: string, value: number): string =>
  sh(`echo ${value} >/proc/sys/net/ipv6/conf/${link}/${name}`);

let kernel: Kernel;
test.before(async () => {
  sh('ip link set lo up; for link in eth0 eth1.5; do ip link add $link type veth peer name ${link}p; done');
  sh('for link in eth0 eth0p eth1.5 eth1.5p; do ip link set $link up; done');
  sh('ip addr add 2001:db8::1/64 dev eth0 nodad; ip -6 route add default via 2001:db8::99 dev eth0');
  kernel = await openKernel({ firewall: noFirewall });
});
test.after.always(() => kernel?.close());

test.serial('a host with static addresses and routes is not reported', async (t) => {
  conf('all', 'forwarding', 1);
  t.is(sh('cat /proc/sys/net/ipv6/conf/eth0/accept_ra').trim(), '1');
  t.deepEqual(await kernel.linksIgnoringRa(), []);
});

test.serial('a route from an advertisement is reported until the link accepts them again', async (t) => {
  conf('all', 'forwarding', 1);
  sh('ip -6 route add default via fe80::1 dev eth0 proto ra metric 512');
  t.deepEqual(await kernel.linksIgnoringRa(), ['eth0']);
  conf('eth0', 'accept_ra', 2);
  t.deepEqual(await kernel.linksIgnoringRa(), []);
  // Network managers read the advertisements themselves, and so set accept_ra to 0.
  conf('eth0', 'accept_ra', 0);
  t.deepEqual(await kernel.linksIgnoringRa(), []);
  conf('eth0', 'accept_ra', 1);
  t.deepEqual(await kernel.linksIgnoringRa(), ['eth0']);
  // A host that does not forward accepts advertisements.
  conf('all', 'forwarding', 0);
  t.deepEqual(await kernel.linksIgnoringRa(), []);
  sh('ip -6 route del default via fe80::1 dev eth0 proto ra metric 512');
});

test.serial('an address with a lifetime, on a link with a dot in its name', async (t) => {
  conf('all', 'forwarding', 1);
  sh('ip addr add 2001:db8:5::1/64 dev eth1.5 nodad valid_lft 3600 preferred_lft 1800');
  t.deepEqual(await kernel.linksIgnoringRa(), ['eth1.5']);
  sh('ip addr del 2001:db8:5::1/64 dev eth1.5');
  t.deepEqual(await kernel.linksIgnoringRa(), []);
});

test.serial('weft’s own links and IPv4 addresses do not count', async (t) => {
  conf('all', 'forwarding', 1);
  sh('ip link add wfbr9 group 119 type bridge; ip link set wfbr9 up');
  sh('ip addr add 2001:db8:6::1/64 dev wfbr9 nodad valid_lft 3600 preferred_lft 1800');
  sh('ip addr add 192.0.2.7/24 dev eth0 valid_lft 3600 preferred_lft 1800');
  t.deepEqual(await kernel.linksIgnoringRa(), []);
});
