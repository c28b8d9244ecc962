// The limits of probing hold when a link returns again and again, beside 1,023 other nodes on it.
import test from 'ava';

import type { Echo } from '../../../agent/kernel/index.js';
import type { Path } from '../../../agent/underlay/path.js';
import { PathProber } from '../../../agent/underlay/path-prober.js';
import { IpAddress } from '../../../core/address.js';

const MOST = 1024;

const pathTo = (n: number): Path => {
  const [publicIp, address] = [`192.0.${2 + (n >> 8)}.${n & 0xff}`, `10.${100 + (n >> 8)}.${n & 0xff}.0`];
  return {
    ...{ key: `blue ${n}`, network: 'blue', family: 4, node: `n${n}`, publicIp, length: 24 },
    probe: {
      ...{ family: 4, size: 1450, outerSize: 1500, advice: '' },
      address: IpAddress.parse(address),
      underlay: IpAddress.parse(publicIp),
    },
    tunnelPorts: [8472],
    neighbour: publicIp,
  };
};

test('whatever a link does, 16 packets go in a second, to less than a quarter of gc_thresh3 neighbours in a minute', async (t) => {
  const sent: { second: number; ip: string }[] = [];
  let now = 0;
  const prober = new PathProber({
    kernel: {
      ping: (echoes: readonly Echo[]) => {
        sent.push(...echoes.map(({ ip }) => ({ second: Math.floor(now / 1000), ip })));
        return Promise.resolve(echoes.map(() => 0.1));
      },
      heardTags: () => [],
      neighbourTables: () => [{ family: 4, most: MOST, entries: 0 }],
    },
    ...{ node: 'n0', now: () => now, packetsToInspect: () => 0 },
    paths: () => paths,
    isDown: () => false,
    onBroken: () => undefined,
    onAnswer: () => undefined,
    onNews: () => undefined,
  });
  const paths = Array.from({ length: MOST - 1 }, (_, n) => pathTo(n + 1));
  prober.start();
  t.teardown(() => prober.stop());
  for (; now < 180_000; now += 250) {
    prober.greet();
    await Promise.resolve();
  }
  const within = (from: number, seconds: number): string[] =>
    sent.filter(({ second }) => second >= from && second < from + seconds).map(({ ip }) => ip);
  for (let second = 0; second < 180; second++) {
    t.true(within(second, 1).length <= 16);
    t.true(new Set(within(second, 60)).size < MOST / 4);
  }
  // And no more slowly than that.
  t.true(new Set(within(0, 180)).size > 2 * (MOST / 4));
});
