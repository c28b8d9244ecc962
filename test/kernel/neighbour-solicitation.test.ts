// A neighbour whose address this host has, too: the kernel does not hear it, and is told.
import { container, sh } from './private.js';

import test from 'ava';

import { openKernel } from '../../agent/kernel/linux.js';
import { until } from '../lab/wait.js';
import { noFirewall } from './samples.js';

test('the host that has an address rightly is reached, after detection has failed here', async (t) => {
  const other = await container();
  const there = `nsenter -t ${other.pid} -n`;
  const ip = '2001:db8:7::1';
  sh(`
    ip link set lo up; ip link add up0 type veth peer name eth0 netns ${other.pid}; ip link set up0 up
    ${there} ip addr add ${ip}/64 dev eth0 nodad; ${there} ip link set eth0 up
    ip addr add 2001:db8:7::2/64 dev up0 nodad
  `);
  const kernel = await openKernel({ firewall: noFirewall });
  t.teardown(() => kernel.close());
  const reaches = (): boolean => sh(`ping -c 1 -W 1 ${ip} >/dev/null && echo yes || echo no`) === 'yes\n';
  await until('it is reached', reaches);
  sh(`ip addr add ${ip}/64 dev up0`);
  const flaw = async (): Promise<string | undefined> =>
    (await kernel.underlayLinks()).find(({ name }) => name === 'up0')?.flaws?.[`${ip}/64`];
  await until('detection has failed', async () => (await flaw()) === 'duplicate');
  sh('ip -6 neigh flush dev up0');
  t.false(reaches());
  t.true(await kernel.solicitNeighbour('up0', ip));
  t.true(reaches());
  // No entry of weft's, but one that ages.
  t.regex(sh(`ip -6 neigh show ${ip} dev up0`), /REACHABLE/);
  t.false(await kernel.solicitNeighbour('up0', '2001:db8:7::99'));
  t.false(await kernel.solicitNeighbour('there-is-none', ip));
  await other.end();
});
