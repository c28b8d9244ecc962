// The underlay while the agent runs: what is told of a change, and what is remembered.
import test from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import { State } from '../../../agent/state/state.js';
import { NodeUnderlay } from '../../../agent/underlay/node-underlay.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

const NIC = { name: 'eth0', mtu: 1500, running: true };

test('an IPv6 address that goes with its link and comes back is the node’s again', async (t) => {
  const path = temporaryFolder(t, 'weft-underlay-');
  const [kernel, problems, state] = [new FakeKernel(), new Problems(), new State(path)];
  const options = { kernel, state, problems, log, settings: {} };
  const signal = new AbortController().signal;
  const underlay = await NodeUnderlay.find(options, signal, () => t.fail());
  const told: boolean[] = [];
  await underlay.follow({ changed: (moved) => told.push(moved), back: () => undefined });
  const has = async (...addresses: string[]): Promise<string> => {
    kernel.underlays = [{ ...NIC, addresses }];
    await underlay.look();
    const { ip, ip6 } = underlay.current;
    return `${ip.toString()} ${ip6?.toString() ?? '-'}`;
  };
  t.is(await has('192.0.2.1/24'), '192.0.2.1 -');
  t.is(await has('192.0.2.1/24', '2001:db8::9/64', '2001:db8::1/64'), '192.0.2.1 2001:db8::1');
  t.deepEqual(told, [false, false]);

  kernel.sources[4] = { ip: '192.0.2.7', link: 'eth0' };
  t.is(await has('192.0.2.7/24', '192.0.2.1/24', '2001:db8::1/64'), '192.0.2.1 2001:db8::1');
  const again = await NodeUnderlay.find({ ...options, state: new State(path) }, signal, () => t.fail());
  t.is(again.current.ip.toString(), '192.0.2.1', 'remembered over a restart');
  t.is(await has('192.0.2.7/24', '2001:db8::1/64'), '192.0.2.7 2001:db8::1');
  t.true(told.at(-1));
  t.is(await has(), '192.0.2.7 2001:db8::1', 'it stays in use until another one is found');
  t.is(problems.list().length, 1);
  await has('192.0.2.7/24');
  t.deepEqual(problems.list(), []);
});
