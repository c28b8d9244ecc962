// Rules that drop a packet of a trace, as the kernel tells.
import { sh } from './private.js';

import test from 'ava';

import { openKernel } from '../../agent/kernel/linux.js';
import { noFirewall } from './samples.js';

// A package of npm has a program of that name.
const nft = (text: string): string => sh(`PATH=/usr/sbin:$PATH nft '${text}'`);

test('a drop is known as soon as the packet was sent, also where this process was busy since', async (t) => {
  sh('ip link set lo up');
  nft('add table inet strict; add chain inet strict in { type filter hook input priority 0; }');
  nft('add rule inet strict in icmp type echo-request drop');
  const kernel = await openKernel({ firewall: noFirewall });
  t.teardown(() => kernel.close());
  const filter = { family: 4, protocol: 'icmp', tag: 0x1234_5678, size: 84 } as const;
  const trace = await kernel.node.trace(filter);
  t.teardown(() => trace.close());
  const ends = { source: '127.0.0.1', destination: '127.0.0.1', sourcePort: 0, port: 0 };
  t.is(trace.send({ ...filter, ...ends }), undefined);
  // The event loop has not turned since.
  t.deepEqual(await trace.drops(), [
    { table: 'inet strict', chain: 'in', rule: 'icmp type echo-request drop' },
  ]);
});
