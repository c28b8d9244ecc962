// A cluster in two commands: `weft init` and `weft join` as printed, and `weft leave`.
//
// The hosts have a systemctl that starts what the units say; real systemd is in test/vm.
import test from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { Lab } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { ServiceHost } from '../lab/service-host.js';

let lab: Lab;
let h1: ServiceHost;
let h2: ServiceHost;
/** What `weft init` printed for the other hosts. */
let next: string;

async function json<T>(host: ServiceHost, line: string): Promise<T> {
  return JSON.parse(await host.run(`weft ${line} -o json`, { timeoutMs: 60_000 })) as T;
}

const nodes = async (): Promise<string[]> =>
  (await json<{ name: string; state: string }[]>(h1, 'node ls')).map(({ name, state }) => `${name} ${state}`);

/** Files that weft may have written, and the ids of its daemons. */
const files = (host: ServiceHost): Promise<string> =>
  host.run('find /etc/weft /etc/systemd/system/weft-* -type f -exec sha256sum {} +; cat /run/units/*.pid');

shareAmongTests(
  test,
  async () => {
    lab = await Lab.up({ hosts: 2 });
    [h1, h2] = await Promise.all([ServiceHost.up(lab, 1), ServiceHost.up(lab, 2)]);
    const made = await json<{ controller: string; next: string[] }>(h1, `init --advertise ${h1.ip}`);
    next = made.next[0] ?? '';
  },
  async () => lab?.down(),
);

test.serial('the printed command makes another host a node, and both may be repeated', async (t) => {
  t.regex(next, new RegExp(`^weft join ${h1.ip}:7400 --token WEFT-1-`));
  t.regex(await h2.run(next), /^This host is node h2 of the cluster of 192\.0\.2\.11:7400\./);
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
  if ((await nodes()).length < 2) await h2.run(next);
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
  if ((await nodes()).length < 2) await h2.run(next);
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
  // The hosts are as they were: what the next test asks of them is made anew.
  next = (await json<{ next: string[] }>(h1, `init --advertise ${h1.ip}`)).next[0] ?? '';
});
