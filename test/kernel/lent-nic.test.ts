// A NIC that becomes a port of weft's bridge, and is released: the host loses no connection.
import { container, sh } from './private.js';

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

import test from 'ava';

import type { InterfaceLoan, InterfaceLoans } from '../../agent/kernel/bridge-ports.js';
import { openKernel } from '../../agent/kernel/linux.js';
import { compileHostInterface } from '../../core/attachment.js';
import type { KernelObject } from '../../core/objects/index.js';
import { plan } from '../../core/plan.js';
import { noFirewall } from './samples.js';

const ROUTER = '192.0.2.254';
const ROUTER_MAC = '02:00:00:00:fe:fe';
const HOST_MAC = '02:00:00:00:00:01';
const MOVES = 10;
/** Of one NIC, which the kernel's own enslaving and freeing may cost: a port is blocked for some microseconds (br_if.c). */
const KERNELS_SHARE = 3;

test('pings that arrive every millisecond are all answered at once, with a strict rp_filter', async (t) => {
  const router = await container();
  t.teardown(() => router.end());
  const there = (command: string): string => sh(`nsenter --net=${router.path} ${command}`);
  sh(`ip link set lo up; ip link add eth1 address ${HOST_MAC} type veth peer name eth0 netns ${router.pid}`);
  there(`ip link set eth0 address ${ROUTER_MAC} up`);
  there(`ip addr add ${ROUTER}/24 dev eth0`);
  sh(`ip link set eth1 up; ip addr add 192.0.2.1/24 dev eth1; ip route add default via ${ROUTER}`);
  sh('ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth1');
  sh('echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/eth1/rp_filter');
  const saved = new Map<string, InterfaceLoan>();
  const loans: InterfaceLoans = {
    list: () => [...saved.values()],
    get: (link) => saved.get(link),
    put: (entry) => void saved.set(entry.link, entry),
    delete: (link) => void saved.delete(link),
  };
  const kernel = await openKernel({ firewall: noFirewall, loans });
  t.teardown(() => kernel.close());
  const reach = async (desired: readonly KernelObject[]): Promise<void> => {
    const { steps } = plan(await kernel.node.observe([]), desired, { prune: true });
    t.deepEqual(await kernel.node.apply(steps), []);
  };
  const nic = compileHostInterface({ kind: 'nic', name: 'eth1', mac: HOST_MAC, mtu: 1500 });
  const known = (link: string): string[] => sh(`ip neigh show dev ${link}`).split('\n');

  const words = ['--net=' + router.path, 'ping', '-n', '-i', '0.001', '192.0.2.1'];
  const ping = spawn('nsenter', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => ping.kill('SIGKILL'));
  let text = '';
  ping.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  await pause(100);
  for (let move = 0; move < MOVES; move++) {
    await reach(nic);
    const neighbours = known('wfp-eth1');
    t.true(
      neighbours.some((line) => line.startsWith(`${ROUTER} lladdr ${ROUTER_MAC}`)),
      neighbours.join(),
    );
    t.true(neighbours.some((line) => line.startsWith('192.0.2.77 lladdr') && line.includes('PERMANENT')));
    t.is(sh('cat /proc/sys/net/ipv4/conf/wfp-eth1/rp_filter').trim(), '1');
    await pause(30);
    await reach([]);
    t.true(known('eth1').some((line) => line.startsWith(`${ROUTER} lladdr ${ROUTER_MAC}`)));
    t.true(known('eth1').some((line) => line.startsWith('192.0.2.77 lladdr') && line.includes('PERMANENT')));
    await pause(30);
  }
  ping.kill('SIGINT');
  await once(ping, 'close');
  const answers = [...text.matchAll(/icmp_seq=(\d+) ttl=\d+ time=([\d.]+)/g)];
  const numbers = answers.map(([, number]) => Number(number));
  t.true(numbers.length > MOVES * 40, 'it went on all the while');
  const lost = Math.max(...numbers) - new Set(numbers).size;
  t.true(lost <= KERNELS_SHARE, `${lost} of ${numbers.length} were lost`);
  // A question for the router's address that is lost is asked again after a second.
  const late = answers.filter(([, , ms]) => Number(ms) > 500);
  t.is(late.length, 0);
});
