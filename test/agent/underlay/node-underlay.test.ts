// The underlay while the agent runs: what is told of a change, and what is remembered.
import test from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import { State } from '../../../agent/state/state.js';
import { NodeUnderlay } from '../../../agent/underlay/node-underlay.js';
import { IpAddress } from '../../../core/address.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

const ip = (text: string): IpAddress => IpAddress.parse(text);
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

test('--public-ip of other families than the underlay is a warning, until they agree', async (t) => {
  const start = async (nat: { ip: IpAddress; ip6?: IpAddress }, ...addresses: string[]) => {
    const [kernel, problems] = [new FakeKernel(), new Problems()];
    const state = new State(temporaryFolder(t, 'weft-underlay-'));
    const options = { kernel, state, problems, log, settings: { nat } };
    kernel.underlays = [{ ...NIC, addresses }];
    const underlay = await NodeUnderlay.find(options, new AbortController().signal, () => t.fail());
    await underlay.follow({ changed: () => undefined, back: () => undefined });
    const has = async (...now: string[]): Promise<void> => {
      kernel.underlays = [{ ...NIC, addresses: now }];
      await underlay.look();
    };
    return { problems, has };
  };
  const [one, both] = [{ ip: ip('203.0.113.1') }, { ip: ip('203.0.113.1'), ip6: ip('2001:db8:f::1') }];
  const [v4, v6] = ['192.0.2.1/24', '2001:db8::1/64'];

  const lacking = await start(one, v4, v6);
  t.deepEqual(lacking.problems.list(), [], 'the health stays');
  const [warning, ...others] = lacking.problems.warnings();
  t.deepEqual(others, []);
  t.is(warning?.what, '--public-ip 203.0.113.1');
  t.regex(warning?.why ?? '', /other nodes are told this host's own, 2001:db8::1;/);
  t.regex(warning?.fix ?? '', /--public-ip 203\.0\.113\.1,IP6\. .*203\.0\.113\.1,2001:db8::1 says so/);
  await lacking.has(v4);
  t.deepEqual(lacking.problems.warnings(), []);

  const unused = await start(both, v4);
  const [dropped] = unused.problems.warnings();
  t.is(dropped?.what, '--public-ip 203.0.113.1,2001:db8:f::1');
  t.regex(
    dropped?.why ?? '',
    /no IPv6 address on the underlay for 2001:db8:f::1, so other nodes are not told/,
  );
  t.regex(dropped?.fix ?? '', /^Give this host an IPv6 address .*, or leave out 2001:db8:f::1\.$/);
  await unused.has(v4, v6);
  t.deepEqual(unused.problems.warnings(), []);
});
