// A cluster in two commands: `weft init` and `weft join` as printed, and `weft leave`.
//
// The hosts have a systemctl that starts what the units say; real systemd is in test/vm.
import { join } from 'node:path';

import test from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { Lab } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { ServiceHost } from '../lab/service-host.js';

let lab: Lab;
let h1: ServiceHost;
let h2: ServiceHost;

async function json<T>(host: ServiceHost, line: string): Promise<T> {
  return JSON.parse(await host.run(`weft ${line} -o json`, { timeoutMs: 60_000 })) as T;
}

const nodes = async (): Promise<string[]> =>
  (await json<{ name: string; state: string }[]>(h1, 'node ls')).map(({ name, state }) => `${name} ${state}`);

/** Files that weft may have written, and the ids of its daemons. */
const files = (host: ServiceHost): Promise<string> =>
  host.run('find /etc/weft /etc/systemd/system/weft-* -type f -exec sha256sum {} +; cat /run/units/*.pid');

/** The cluster of both, also where an earlier test has left it. Returns what the two commands printed. */
async function bothUp(): Promise<{ next: string; joined: string }> {
  const made = await json<{ next: string[] }>(h1, `init --advertise ${h1.ip}`);
  const next = made.next[0] ?? '';
  return { next, joined: await h2.run(next, { timeoutMs: 60_000 }) };
}

shareAmongTests(
  test,
  async () => {
    lab = await Lab.up({ hosts: 2 });
    [h1, h2] = await Promise.all([ServiceHost.up(lab, 1), ServiceHost.up(lab, 2)]);
  },
  async () => lab?.down(),
);

test.serial('the printed command makes another host a node, and both may be repeated', async (t) => {
  const { next, joined } = await bothUp();
  t.regex(next, new RegExp(`^weft join ${h1.ip}:7400 --token WEFT-1-`));
  t.regex(joined, /^This host is node h2 of the cluster of 192\.0\.2\.11:7400\./);
  t.deepEqual(await nodes(), ['h1 up', 'h2 up']);
  const before = await Promise.all([files(h1), files(h2)]);
  await h1.run(`weft init --advertise ${h1.ip}`);
  await h2.run(next);
  t.deepEqual(await Promise.all([files(h1), files(h2)]), before);
  for (const host of [h1, h2]) {
    const verified = await host.sh('systemd-analyze verify --man=no /etc/systemd/system/weft-*.service');
    t.deepEqual([verified.code, verified.stdout, verified.stderr], [0, '', '']);
    t.is((await host.sh('weft status -q')).code, 0);
  }

  await h1.run('weft network create blue --subnet 10.100.0.0/16');
  const containers: LabProcess[] = await Promise.all([lab.anonymous('c1'), lab.anonymous('c2')]);
  const [c1, c2] = containers.map(({ pid }) => pid);
  await json<EndpointJson>(h1, `attach blue pid:${c1}`);
  const { ip } = await json<EndpointJson>(h2, `attach blue pid:${c2}`);
  await lab.until('they reach each other', async () => {
    const ping = ['ping', '-c', '1', '-W', '1', bare(ip)];
    return (await h1.exec(['nsenter', '-t', String(c1), '-n', ...ping])).code === 0;
  });
});

test.serial('what is wrong with a token, a name or a host is said by join itself', async (t) => {
  await bothUp();
  const once = await json<{ token: string }>(h1, 'token create --node other');
  for (const [line, words] of [
    [`join ${h1.ip}:7400 --token ${once.token} --node third`, /this host is node h2, and not third/],
    [`join 192.0.2.99:7400 --token ${once.token}`, /does not say: controller: \[192\.0\.2\.99:7400\]/],
    ['init', /this host is in a cluster \(weft join\)/],
  ] as const) {
    const { code, stderr } = await h2.sh(`weft ${line}`);
    t.is(code, 1, line);
    t.regex(stderr, words);
    t.false(stderr.includes(once.token));
  }
});

test.serial('leave takes a node out without a trace, and it may come back', async (t) => {
  const { next } = await bothUp();
  const refused = await h1.sh('weft leave');
  t.is(refused.code, 1);
  t.regex(refused.stderr, /has the cluster's controller, etcd and CA, and 1 other nodes are in it: h2/);

  await h2.run('weft leave', { timeoutMs: 60_000 });
  t.deepEqual(await nodes(), ['h1 up']);
  t.is(
    await h2.run('ls -d /etc/weft /etc/systemd/system/weft-* /var/lib/weft /run/weft 2>/dev/null; true'),
    '',
  );
  t.is(await h2.run('ip -br link | grep ^wf; nft list tables | grep weft; true'), '');
  // Its name is free again.
  await h2.run(next);
  t.deepEqual(await nodes(), ['h1 up', 'h2 up']);

  await h2.run('weft leave', { timeoutMs: 60_000 });
  await h1.run('weft leave', { timeoutMs: 60_000 });
  t.is(
    await h1.run('ls -d /etc/weft /etc/systemd/system/weft-* /var/lib/weft* /run/weft 2>/dev/null; true'),
    '',
  );
  t.is(await h1.run(`ss -Hltn 'sport = 2379 or sport = 7400'`), '');
});

test.serial('leave does not take away the state of a controller that it may not stop', async (t) => {
  await h1.run(`weft init --advertise ${h1.ip}`);
  await h1.run('systemctl disable --now weft-agent.service');
  const refused = await h1.sh('weft leave --no-start', { timeoutMs: 60_000 });
  t.is(refused.code, 1);
  t.regex(refused.stderr, /the controller of this host still runs, at 127\.0\.0\.1:7400\n/);
  t.deepEqual(await nodes(), []);
  await h1.run('weft leave --force', { timeoutMs: 60_000 });
  t.is(await h1.run('ls -d /etc/weft /var/lib/weft* 2>/dev/null; true'), '');
});

test.serial('a further controller joins where etcd is not the first one’s own', async (t) => {
  await Promise.all([h1, h2].map((host) => host.run('weft leave --force', { timeoutMs: 60_000 })));
  const etcd = `http://${lab.infra.ip}:2379`;
  const peer = 'http://127.0.0.1:2380';
  lab.infra.spawn('etcd', [
    ...['etcd', '--data-dir', join(lab.folder, 'etcd'), '--name', 'e', '--initial-cluster', `e=${peer}`],
    ...['--listen-client-urls', etcd, '--advertise-client-urls', etcd],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
  ]);
  await h1.run(`weft init --etcd ${etcd}`, { timeoutMs: 60_000 });
  t.true((await h1.run('cat /etc/weft/controller.yaml')).includes(`\netcd: [${etcd}]\n`));
  t.is(await h1.run(`ss -Hltn 'sport = 2379'`), '');
  const { token } = await json<{ token: string }>(h1, 'token create --role controller --uses 1');
  for (const _ of ['first', 'repeated'])
    await h2.run(`weft join ${h1.ip}:7400 --token ${token} --role controller`, { timeoutMs: 60_000 });
  t.true((await h2.run('cat /etc/weft/controller.yaml')).includes(`\nauthority: ${h1.ip}:7400\n`));
  t.is((await h2.sh('systemd-analyze verify --man=no /etc/systemd/system/weft-*.service')).stderr, '');
  // Root of the first host is an administrator there, too: the CA is the same.
  const seen = await json<{ name: string }[]>(h1, `node ls --controller ${h2.ip}:7400`);
  t.deepEqual(
    seen.map(({ name }) => name),
    ['h1'],
  );
  await Promise.all([h1, h2].map((host) => host.run('weft leave --force', { timeoutMs: 60_000 })));
  t.is(await h2.run('ls -d /etc/weft /var/lib/weft* 2>/dev/null; true'), '');
});
