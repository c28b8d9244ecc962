// Nodes race for subnets, claims and VNIs while they are killed at random.
//
// On a real etcd; no subnet, address or VNI is ever owned twice.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import fc from 'fast-check';

import { IpNetwork } from '../../core/address.js';
import type { Network } from '../../core/network.js';
import { openStore } from '../../store/etcd-store.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { freshPrefix, recordingLog, request, vniOf } from './helpers.js';
import { startProxy } from './proxy.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => await etcd?.stop());

const RUNS = Number(process.env['WEFT_RACES'] ?? 6);

/** When a node is killed: after a time, or when etcd has carried out a request and the answer is in flight. */
type Death = { kind: 'time'; ms: number } | { kind: 'answer'; count: number };

interface Racer {
  death: Death;
  /** Milliseconds after which it is started again. */
  backAfter: number;
  /** Index of the address outside its subnet that it claims. */
  claims: number;
}

const racer: fc.Arbitrary<Racer> = fc.record({
  death: fc.oneof(
    fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 150 }) }),
    fc.record({ kind: fc.constant('answer' as const), count: fc.integer({ min: 1, max: 30 }) }),
  ),
  backAfter: fc.integer({ min: 0, max: 50 }),
  claims: fc.integer({ min: 2, max: 5 }),
});

interface Granted {
  subnets: string[];
  ips: string[];
  vnis: number[];
  /** Whether it was killed before it was done. */
  killed: boolean;
}

/** One run of a node: returns what the store granted it until its end, which may come at any moment. */
async function live(prefix: string, node: number, { claims }: Racer, death?: Death): Promise<Granted> {
  const proxy = await startProxy(etcd.port);
  const store = openStore({ endpoints: [proxy.url], prefix, log: recordingLog() });
  const had: Granted = { subnets: [], ips: [], vnis: [], killed: false };
  const killed = new AbortController();
  // A killed process ends silently: its connections are cut, and what was in flight may or may not have arrived.
  const kill = (): void => {
    proxy.refuse(true);
    proxy.cut();
    killed.abort(new Error('killed'));
    void store.close().catch(() => undefined);
  };
  const timer = death?.kind === 'time' ? setTimeout(kill, death.ms) : undefined;
  if (death?.kind === 'answer') void proxy.dieAtAnswer(death.count).then(kill);
  try {
    await store.synced(killed.signal);
    const made = await store
      .createNetwork({ name: `own${node}`, subnet: IpNetwork.parse(`10.${150 + node}.0.0/16`) })
      .catch(() => store.view.networks.get(`own${node}`));
    if (made !== undefined) had.vnis.push(vniOf(made));
    const network = store.view.networks.get('shared') as Network;
    had.subnets.push((await store.acquireLease(request(network, node + 1))).subnet.toString());
    const ip = IpNetwork.parse('10.100.255.0/24').at(claims);
    const holder = { network, ip, node: `n${node + 1}`, endpoint: `e${node}` };
    had.ips.push((await store.claimAddress(holder, killed.signal)).ip.toString());
  } catch {
    // Killed, or refused: what was granted before counts.
  } finally {
    had.killed = killed.signal.aborted;
    clearTimeout(timer);
    await store.close().catch(() => undefined);
    await proxy.close();
  }
  return had;
}

/** The owners in etcd at the end: each must be the only node that was granted the key. */
async function owners(prefix: string): Promise<{ subnets: Map<string, string>; ips: Map<string, string> }> {
  // A new store: its first list is current.
  const store = openStore({ endpoints: [etcd.url], prefix, log: recordingLog() });
  try {
    await store.synced();
    const { leases, claims } = store.view;
    return {
      subnets: new Map(
        [...(leases.get('shared')?.values() ?? [])].map((lease) => [
          lease.subnet.toString(),
          lease.node ?? '',
        ]),
      ),
      ips: new Map([...(claims.get('shared')?.values() ?? [])].map(({ ip, node }) => [ip.toString(), node])),
    };
  } finally {
    await store.close();
  }
}

test.serial('subnets, addresses and VNIs are never owned twice, whichever node is killed when', async (t) => {
  let deaths = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(racer, { minLength: 4, maxLength: 10 }), async (racers) => {
      const prefix = freshPrefix();
      const store = openStore({ endpoints: [etcd.url], prefix, log: recordingLog() });
      try {
        await store.synced();
        // Few subnets, so that the nodes really collide.
        const config = {
          ...{ Network: '10.100.0.0/16', SubnetMin: '10.100.1.0', SubnetMax: '10.100.12.0' },
          Backend: { Type: 'vxlan', VNI: 4099 },
        };
        await etcd.raw.put(`${prefix}/networks/shared/config`).value(JSON.stringify(config));
        const granted = await Promise.all(
          racers.map(async (one, node) => {
            const first = await live(prefix, node, one, one.death);
            await sleep(one.backAfter);
            const second = await live(prefix, node, one);
            return { node: `n${node + 1}`, first, second };
          }),
        );
        const { subnets, ips } = await owners(prefix);
        for (const { node, first, second } of granted) {
          for (const subnet of second.subnets) t.is(subnets.get(subnet), node, 'it has what was granted');
          for (const ip of [...first.ips, ...second.ips]) t.is(ips.get(ip), node, 'and its address');
          // A node that was killed and started again has its old subnet.
          if (first.subnets.length > 0 && second.subnets.length > 0)
            t.deepEqual(second.subnets, first.subnets);
          // And its network has its old VNI.
          for (const vni of first.vnis) t.deepEqual(second.vnis, [vni]);
          if (first.killed) deaths++;
        }
        const settled = granted.flatMap(({ second }) => second.subnets);
        t.is(new Set(settled).size, settled.length, 'no subnet is two’s');
        t.is(settled.length, racers.length, 'every node has one');
        t.is(subnets.size, racers.length, 'and none has two');
        const vnis = granted.map(({ second }) => second.vnis[0]);
        t.is(new Set(vnis).size, vnis.length, 'no VNI is two’s');
      } finally {
        await store.close();
      }
    }),
    { numRuns: RUNS },
  );
  t.log(`${deaths} were killed before they were done`);
  t.true(deaths > 0);
});
