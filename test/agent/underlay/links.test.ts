// Links of this host that weft must tell of.
import { mock } from 'node:test';

import test from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import type { UnderlayLink } from '../../../agent/kernel/index.js';
import { nextStep } from '../../../agent/reconcile/kernel-errors.js';
import { duplicateAddresses } from '../../../agent/underlay/duplicate-addresses.js';
import { routerAdvertisements } from '../../../agent/underlay/router-advertisements.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { node } from '../../controller/records.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';

// Addresses of this host that another host has, too: told, and the node that has them rightly is resolved.

test('each is a problem while it is there; only that of a node is solicited', async (t) => {
  const [kernel, store, problems] = [new FakeKernel(), new FakeStore(), new Problems()];
  store.putNode(node('h1', '192.0.2.7', { publicIp6: '2001:db8::7' }));
  store.putNode(node('h2', '192.0.2.1', { publicIp6: '2001:db8::8' }));
  const duplicates = duplicateAddresses({ kernel, view: store.view, node: 'h2', problems, log });
  const addresses = ['192.0.2.1/24', '2001:db8::7/64', '2001:db8::8/64', '2001:db8::9/64'];
  const flaws = {
    '2001:db8::7/64': 'duplicate',
    '2001:db8::8/64': 'duplicate',
    '2001:db8::9/64': 'tentative',
  } as const;
  kernel.underlays = [{ name: 'eth0', mtu: 1500, running: true, addresses, flaws }];
  await duplicates.now();
  t.deepEqual(kernel.solicited, ['eth0 2001:db8::7']);
  const [nodes, others, ...more] = problems.list();
  t.deepEqual(more, []);
  t.is(nodes?.what, 'address 2001:db8::7/64 of eth0');
  t.regex(`${nodes?.why} ${nodes?.fix}`, /^node h1 has it, too: .* ip addr del 2001:db8::7\/64 dev eth0/);
  t.regex(others?.why ?? '', /^another host of the link has it, too/);
  kernel.underlays = [{ name: 'eth0', mtu: 1500, running: true, addresses: ['192.0.2.1/24'] }];
  await duplicates.now();
  t.deepEqual(problems.list(), []);
  await duplicates.stop();
});

test.serial(
  'while there is one, its node is solicited every 5 s; then a notification is the reason to look',
  async (t) => {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
    const [kernel, store, problems] = [new FakeKernel(), new FakeStore(), new Problems()];
    store.putNode(node('h1', '192.0.2.7', { publicIp6: '2001:db8::7' }));
    const duplicates = duplicateAddresses({ kernel, view: store.view, node: 'h2', problems, log });
    const passes = async (ms: number): Promise<void> => {
      mock.timers.tick(ms);
      await new Promise(setImmediate);
    };
    const has = (flaws: UnderlayLink['flaws']): void => {
      const addresses = ['2001:db8::7/64'];
      kernel.underlays = [{ name: 'eth0', mtu: 1500, running: true, addresses, ...(flaws && { flaws }) }];
    };
    const DUPLICATE = { '2001:db8::7/64': 'duplicate' } as const;
    try {
      has(DUPLICATE);
      await duplicates.start();
      await passes(5000);
      await passes(5000);
      t.is(kernel.solicited.length, 3);
      // It was removed, and what told of that is lost.
      has(undefined);
      await passes(5000);
      t.deepEqual(problems.list(), []);
      has(DUPLICATE);
      await duplicates.now();
      t.is(problems.list().length, 1);
      await passes(5000);
      t.is(kernel.solicited.length, 5);
    } finally {
      await duplicates.stop();
      mock.timers.reset();
    }
  },
);

// Links that ignore router advertisements, and next steps of refused steps.

test('a link that ignores router advertisements is a problem until it accepts them again', async (t) => {
  const kernel = new FakeKernel();
  const problems = new Problems();
  let forwards = false;
  const one = routerAdvertisements({ kernel, problems, log, forwards: () => forwards });
  kernel.ignoringRa = ['eth0', 'eth0.5'];
  await one.now();
  t.deepEqual(problems.list(), [], 'weft does not make this host forward');
  forwards = true;
  await one.now();
  t.deepEqual(
    problems.list().map(({ what }) => what),
    ['IPv6 of eth0', 'IPv6 of eth0.5'],
  );
  t.true(problems.list()[0]?.fix.includes('sysctl net.ipv6.conf.eth0.accept_ra=2'));
  t.true(problems.list()[1]?.fix.includes('sysctl net.ipv6.conf.eth0/5.accept_ra=2'));
  kernel.ignoringRa = ['eth0'];
  await one.now();
  t.is(problems.list().length, 1);
  forwards = false;
  await one.now();
  t.deepEqual(problems.list(), []);
});

test('a failed check of links is not reported to the operator', async (t) => {
  const problems = new Problems();
  const kernel = { linksIgnoringRa: () => Promise.reject(new Error('netlink dump: ENOBUFS')) };
  await routerAdvertisements({ kernel, problems, log, forwards: () => true }).now();
  t.deepEqual(problems.list(), []);
});

test('a refused step has a next step, as far as the kernel’s error shows it', (t) => {
  const address = { kind: 'address', link: 'wfbr1', address: 'fd00::1/64' } as const;
  const sysctl = { kind: 'sysctl', path: 'net/ipv4/conf/eth0.5/forwarding', value: '1' } as const;
  const put = (object: typeof address | typeof sysctl, errno: string): string =>
    nextStep({ step: { do: 'put', object, replace: false }, errno, message: errno });
  t.regex(put(address, 'EACCES'), /sysctl -w net\.ipv6\.conf\.wfbr1\.disable_ipv6=0/);
  t.regex(put(address, 'EPERM'), /CAP_NET_ADMIN/);
  t.regex(put(sysctl, 'EROFS'), /sysctl -w net\.ipv4\.conf\.eth0\/5\.forwarding=1/);
  t.is(put(address, 'EINVAL'), 'It is tried again every 10 seconds.');
});
