// Announcements in the real kernel: what neighbours remember changes at once, in both families.
import { container, sh } from './private.js';

import { readFileSync } from 'node:fs';

import test from 'ava';

import type { KernelNamespace } from '../../agent/kernel/kernel.js';
import { openKernel } from '../../agent/kernel/linux.js';
import { compileEndpoint, compileNetwork, macOf } from '../../core/compile.js';
import type { KernelObject } from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { until } from '../lab/wait.js';
import { endpoint, ip, membership, network, noFirewall } from './samples.js';

const of = membership(network('blue', 4097, 100, true));
const OLD = '02:00:00:00:00:99';
const BRIDGE = macOf(ip('10.100.1.1'));

const steps = (objects: readonly KernelObject[]) => plan(assume([]), objects, { prune: false }).steps;

test('a neighbour follows the node and a container, and learns of no address that it does not know', async (t) => {
  sh(
    'ip link set lo up; ip link add eth0 type veth peer name eth0p; ip link set eth0 up; ip link set eth0p up',
  );
  sh('ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad');
  const kernel = await openKernel({ firewall: noFirewall });
  t.teardown(() => kernel.close());
  t.deepEqual(await kernel.node.apply(steps(compileNetwork(of))), []);
  const boxes = [await container(), await container()] as const;
  t.teardown(() => Promise.all(boxes.map((box) => box.end())));
  const opened: KernelNamespace[] = [];
  for (const [i, { path }] of boxes.entries()) {
    const { namespace } = await kernel.openNamespace(path);
    opened.push(namespace);
    const one = endpoint(of, `${i}`.repeat(16), i + 2, path);
    const { host, container: inside } = compileEndpoint(of, one);
    t.deepEqual(await kernel.node.apply(steps(host), new Map([[one.hostIfname, namespace]])), []);
    const before = await namespace.observe([]);
    t.deepEqual(await namespace.apply(plan(before, inside, { prune: false }).steps), []);
  }
  const near = `nsenter --net=${boxes[0].path} ip`;
  const seen = (ip: string, how = near): string =>
    /lladdr (\S+)/.exec(sh(`${how} neigh show ${ip} dev ${how === near ? 'eth0' : 'wfbr4097'}`))?.[1] ?? '';
  const remember = (ips: readonly string[], how = near): void => {
    for (const ip of ips)
      sh(`${how} neigh replace ${ip} lladdr ${OLD} dev ${how === near ? 'eth0' : 'wfbr4097'} nud reachable`);
  };

  const gone = ['10.100.1.77', 'fd42:100:0:1::77'];
  remember(gone);
  const unknown = ['10.100.1.78', 'fd42:100:0:1::78'];
  // A frame may be lost: the agent announces each address twice.
  await until(
    'the node answers',
    () => {
      kernel.node.announce([...gone, ...unknown].map((ip) => ({ link: 'wfbr4097', ip })));
      return gone.every((ip) => seen(ip) === BRIDGE);
    },
    { everyMs: 20 },
  );
  t.deepEqual([seen('10.100.1.78'), seen('fd42:100:0:1::78')], ['', '']);

  const come = ['10.100.1.3', 'fd42:100:0:1::3'];
  remember(come);
  remember(come, 'ip');
  const mac = macOf(ip('10.100.1.3'));
  await until(
    'the container answers, to its neighbour and to the node',
    () => {
      opened[1]?.announce(come.map((ip) => ({ link: 'eth0', ip })));
      return come.every((ip) => seen(ip) === mac && seen(ip, 'ip') === mac);
    },
    { everyMs: 20 },
  );
  t.notThrows(() =>
    kernel.node.announce([
      { link: 'wfnone', ip: '10.100.1.9' },
      { link: 'wfvx4097', ip: '10.100.1.9' },
    ]),
  );
  for (const namespace of opened) namespace.close();
});

test('an announcement does not wait until the kernel has closed its socket', async (t) => {
  sh('ip link add wfbr1 type bridge; ip link set wfbr1 up');
  const kernel = await openKernel({ firewall: noFirewall });
  t.teardown(() => kernel.close());
  const sockets = (): number =>
    readFileSync('/proc/thread-self/net/packet', 'utf8').trim().split('\n').length - 1;
  const before = sockets();
  // Closed by another thread, it is often there still; closed by this one it never would be.
  const isLeft = (): boolean => {
    kernel.node.announce([{ link: 'wfbr1', ip: '10.100.1.1' }]);
    return sockets() > before;
  };
  t.true(Array.from({ length: 50 }, isLeft).includes(true));
  await until('its socket is closed', () => sockets() === before, { everyMs: 5 });
});
