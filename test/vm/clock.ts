// A clock set back an hour, and forward again, under an agent and an etcd.
//
// In a virtual machine, because the clock is shared by the whole machine.
import { setTimeout as delay } from 'node:timers/promises';

import type { TestFn } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import type { Machines } from './machines.js';

interface StatusJson {
  peers: { node: string | null; state: string; rttMs: number | null }[];
  problems: { what: string; why: string }[];
}

/** Longer than the life lease of --node-ttl, after which a node that was not renewed would count as down. */
const WATCH_MS = 22_000;

export function clockTests(test: TestFn, machines: () => Machines): void {
  test.serial('clock: set back an hour, and forward again, under an agent and an etcd', async (t) => {
    const [peer, host] = [machines().host(1), machines().host(2)];
    const { infra } = machines().lab;
    const ask = (url: string, ...args: string[]): Promise<string> =>
      infra.must(['etcdctl', '--endpoints', url, ...args], { env: { ETCDCTL_API: '3' } });
    const cluster = (...args: string[]): Promise<string> => ask(machines().etcd, ...args);

    // The cluster's etcd is on another machine; this one has the clock that jumps, and a lease that is kept alive.
    const url = `http://${host.ip}:2379`;
    const peers = 'http://127.0.0.1:2380';
    const etcd = await host.start('etcd', [
      ...['etcd', '--name', 'e', '--data-dir', '/var/lib/weft-etcd'],
      ...['--listen-client-urls', url, '--advertise-client-urls', url],
      ...['--listen-peer-urls', peers, '--initial-advertise-peer-urls', peers],
      ...['--initial-cluster', `e=${peers}`],
    ]);
    t.teardown(() => etcd.kill());
    await machines().lab.until('etcd serves', async () => (await ask(url, 'get', '/')) === '');
    const leaseOf = async (ttl: string): Promise<string> =>
      / ([0-9a-f]{16}) /.exec(await ask(url, 'lease', 'grant', ttl))?.[1] ?? '';
    const [kept, long] = [await leaseOf('18'), await leaseOf('86400')];
    await ask(url, 'put', '/kept', 'here', '--lease', kept);
    await ask(url, 'put', '/long', 'here', '--lease', long);
    const keeper = infra.spawn('keeper', ['etcdctl', '--endpoints', url, 'lease', 'keep-alive', kept], {
      ETCDCTL_API: '3',
    });
    t.teardown(() => keeper.kill());

    await machines().json('network', 'create', 'clock', '--subnet', '10.120.0.0/16');
    t.teardown(async () => void (await machines().weft('network', 'rm', 'clock', '--force')));
    await Promise.all([peer.containers('c1'), host.containers('c2', 'c3', 'c4')]);
    const far = await peer.json<EndpointJson>('attach', 'clock', 'c1');
    const near = await host.json<EndpointJson>('attach', 'clock', 'c2');
    const subnets = (): Promise<string> =>
      cluster('get', '--prefix', '--keys-only', '/weft/networks/clock/subnets/');
    const before = await subnets();
    const alive = (): Promise<string> => cluster('get', '--keys-only', `/weft/nodes/${host.name}/alive`);
    const measured = (): Promise<StatusJson> =>
      machines().lab.until('the path to the peer is measured', async () => {
        const status = await host.json<StatusJson>('status');
        if (status.peers.some(({ rttMs }) => rttMs !== null)) return status;
        throw new Error(JSON.stringify(status));
      });
    await measured();

    for (const [seconds, container] of [
      [-3600, 'c3'],
      [3600, 'c4'],
    ] as const) {
      const how = `the clock being set by ${seconds} s`;
      const [was = 0, is = 0] = (await host.sh(`date +%s; date -s "@$(($(date +%s) + ${seconds}))" +%s`))
        .trim()
        .split('\n')
        .map(Number);
      t.true(Math.abs(is - was - seconds) < 60, how);
      for (const end = performance.now() + WATCH_MS; performance.now() < end; await delay(1000)) {
        t.regex(await alive(), /alive/, `the node lives, ${how}`);
        t.regex(await ask(url, 'get', '/kept'), /here/, `a lease that is kept alive, ${how}`);
      }
      // A lease of a day has lost the elapsed seconds only, not an hour.
      const left = Number(/remaining\((\d+)s\)/.exec(await ask(url, 'lease', 'timetolive', long))?.[1]);
      t.true(left > 86_400 - 1800 && left <= 86_400, `${left} s are left, ${how}`);

      const made = await host.json<EndpointJson>('attach', 'clock', container);
      t.true(await host.reaches(container, bare(near.ip)));
      t.true(await host.reaches(container, bare(far.ip)));
      await machines().lab.until('etcd has the endpoint', async () =>
        (await cluster('get', '--prefix', '--keys-only', '/weft/networks/clock/endpoints/')).includes(
          made.id,
        ),
      );
      const status = await measured();
      for (const { rttMs } of status.peers)
        t.true(rttMs === null || (rttMs >= 0 && rttMs < 60_000), `${rttMs} ms, ${how}`);
      t.is(await subnets(), before, `the subnets are the same, ${how}`);
    }
    t.is(machines().agent(host).exitCode, undefined, 'the agent went on');
    t.is(etcd.exitCode, undefined, 'and etcd');
  });
}
