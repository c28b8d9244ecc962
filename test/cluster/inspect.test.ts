// weft check, ping, top, diff, ipam, capture, connectivity test and bundle in a cluster of two hosts.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';

let lab: Cluster;
let web: EndpointJson;
let db: EndpointJson;

/** Nothing of other nodes' networks reaches h2. */
const BLOCK =
  'nft add table inet block; nft add chain inet block in "{ type filter hook prerouting priority -400; }"; nft add rule inet block in udp dport 8472 drop';

/** A firewall of h1's own, which a path does not show at once. */
const STRICT =
  'nft add table inet strict; nft add chain inet strict in "{ type filter hook input priority 0; }"; nft add rule inet strict in udp dport 8472 drop';

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2');
    await lab.startController();
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await lab.json('h1', 'network', 'create', 'red', '--subnet', '10.101.0.0/16');
    web = await lab.attach('h1', 'blue', 'c1', '--name', 'web');
    db = await lab.attach('h2', 'blue', 'c2', '--name', 'db');
    await lab.until('they reach each other', () => lab.reaches('c1', bare(db.ip)));
  },
  async () => {
    await lab?.lab.down();
  },
);

interface CheckJson {
  ok: boolean;
  checks: {
    node: string;
    group: string;
    name: string;
    ok: boolean | null;
    what: string;
    why: string;
    fix: string;
  }[];
}

test.serial('check: all is well on both nodes, and what is wrong is named with the next step', async (t) => {
  const all = await lab.json<CheckJson>('h1', 'check', '--all', '--wait', '60');
  t.true(all.ok);
  t.deepEqual([...new Set(all.checks.map(({ node }) => node))].toSorted(), ['h1', 'h2']);
  for (const group of [
    'kernel',
    'firewall',
    'ports',
    'mtu',
    'clock',
    'etcd',
    'controller',
    'versions',
    'addresses',
  ])
    t.true(
      all.checks.some((one) => one.group === group && one.ok !== false),
      group,
    );

  for (const what of ['settings of the kernel (sysctl)', 'rules of other programs'])
    t.is(all.checks.filter((one) => one.what === what && one.ok === true).length, 2, what);

  // Failures come last.
  await lab.sh('h1', STRICT);
  t.teardown(() => lab.sh('h1', 'nft delete table inet strict || true'));
  const dropped = await lab.until('the drop is named', async () => {
    const { code, stdout: text } = await lab.weft('h1', 'check');
    return code === 1 && text.includes('inet strict') ? text : undefined;
  });
  t.regex(dropped, /\nFailed:\n(?: .*\n)* {2}nftables table inet strict, chain in\n {4}why: .*8472/);
  t.notRegex(dropped, /rules of other programs/);
  await lab.sh('h1', 'nft delete table inet strict');
  await lab.until('all is well again', async () => (await lab.weft('h1', 'check')).code === 0);

  const { stdout } = await lab.weft('h1', 'check');
  t.regex(stdout, /^GROUP +RESULT +WHAT$/m);
  t.regex(stdout, /\d+ checks: 0 failed/);

  lab.process('agent-h2').signal('SIGSTOP');
  const hung = await lab.weft('h1', 'check', '--all', '-o', 'json');
  lab.process('agent-h2').signal('SIGCONT');
  t.is(hung.code, 1);
  const { ok, checks } = JSON.parse(hung.stdout) as CheckJson;
  t.false(ok);
  t.regex(
    checks.find(({ node, ok: good }) => node === 'h2' && good === false)?.why ?? '',
    /did not answer|down/,
  );
  await lab.until('h2 is well again', async () => (await lab.weft('h1', 'check', '--all')).code === 0);
});

test.serial('ping: every path to a node, and to an endpoint by any of its names', async (t) => {
  const { paths } = await lab.json<{
    paths: { network: string; state: string; lost: number; mtu: number; rttMs: { p50: number } }[];
  }>(...(['h1', 'ping', 'h2', '-c', '3'] as const));
  t.like(paths[0], { network: 'blue', state: 'ok', lost: 0 });
  t.true((paths[0]?.mtu ?? 0) > 1000 && (paths[0]?.rttMs.p50 ?? 0) > 0);
  for (const name of ['db', 'db.blue', bare(db.ip), db.mac, db.id.slice(0, 12), db.hostIfname])
    t.is((await lab.weft('h1', 'ping', name, '-c', '1')).code, 0, name);
  t.is((await lab.weft('h1', 'ping', 'nobody')).code, 1);
});

test.serial('top: the traffic of networks and endpoints is that which was sent', async (t) => {
  const flood = lab.sh('c1', `ping -q -i 0.01 -c 300 -s 1000 ${bare(db.ip)}`);
  type Row = { node: string; name: string; network: string; sentPackets: number; receivedBytes: number };
  const { networks, endpoints } = await lab.json<{ networks: Row[]; endpoints: Row[] }>(
    'h1',
    'top',
    '--interval',
    '2s',
  );
  await flood;
  const sent = endpoints.find(({ name }) => name === 'web')?.sentPackets ?? 0;
  t.true(sent > 40 && sent < 120, String(sent));
  const through =
    networks.find(({ node, network }) => node === 'h2' && network === 'blue')?.receivedBytes ?? 0;
  t.true(through > 40_000, String(through));
});

test.serial('diff: nothing to do, and then what a person has taken away', async (t) => {
  t.deepEqual(await lab.json('h1', 'diff', 'h2'), { steps: [] });
  lab.process('agent-h1').signal('SIGSTOP');
  await lab.sh('h1', `ip link set ${web.hostIfname} mtu 1300`);
  const asked = lab.weft('h1', 'diff', '-o', 'json');
  lab.process('agent-h1').signal('SIGCONT');
  const { code, stdout } = await asked;
  // It may have been put right already.
  t.true(code === 0 || /1300|mtu|wfep/.test(stdout), stdout);
  await lab.until('it was put right', async () => (await lab.weft('h1', 'diff')).code === 0);
});

test.serial('ipam: use by node, and an endpoint that etcd alone has', async (t) => {
  const uses = await lab.json<{ network: string; node: string; used: number; size: number }[]>(
    'h1',
    'ipam',
    'show',
    '--network',
    'blue',
  );
  t.deepEqual(uses.map(({ node, used, size }) => `${node}: ${used} of ${size}`).toSorted(), [
    'h1: 1 of 253',
    'h2: 1 of 253',
  ]);
  t.deepEqual(await lab.json('h1', 'ipam', 'check'), { ok: true, findings: [] });
  const record = JSON.parse(
    await lab.etcdctl('get', '--print-value-only', `/weft/networks/blue/endpoints/${db.id}`),
  ) as object;
  const key = `/weft/networks/blue/endpoints/${'f'.repeat(16)}`;
  await lab.etcdctl(
    'put',
    key,
    JSON.stringify({ ...record, id: 'f'.repeat(16), name: 'ghost', node: 'h9', ip: '10.100.200.7/24' }),
  );
  const found = await lab.until('a finding', async () => {
    const { code, stdout } = await lab.weft('h1', 'ipam', 'check', '-o', 'json');
    const { findings } = JSON.parse(stdout) as { findings: { id: string; kind: string; safe: boolean }[] };
    return code === 1 ? findings : undefined;
  });
  t.like(found, [{ kind: 'endpoint-of-no-node', address: '10.100.200.7/24', node: 'h9', safe: false }]);
  const refused = await lab.weft('h1', 'ipam', 'release', found[0]?.id ?? '');
  t.is(refused.code, 1);
  t.regex(refused.stderr, /Release it after/);
  await lab.etcdctl('del', key);
});

test.serial(
  'capture: one packet is seen at each point of both hosts, and other traffic is not',
  async (t) => {
    const file = join(lab.folder, 'ping.pcapng');
    const capturing = lab.weft('h1', 'capture', 'web', 'db', '-w', file, '--seconds', '4', '-o', 'json');
    await lab.sh('c1', `sleep 1.5; ping -c 3 -i 0.2 ${bare(db.ip)}`);
    const { code, stdout, stderr } = await capturing;
    t.is(code, 0, stderr);
    const { points, packets } = JSON.parse(stdout) as { points: { name: string }[]; packets: number };
    for (const host of ['h1', 'h2'])
      t.true(points.filter(({ name }) => name.startsWith(`${host}:`)).length >= 4, stdout);
    // Three requests and three replies at four points of each host, and some ARP.
    t.true(packets >= 3 * 2 * 4 * 2, String(packets));
    const bytes = readFileSync(file);
    t.is(bytes.readUInt32LE(), 0x0a0d0d0a);
    t.true(bytes.includes(`h2:${db.hostIfname}`));
  },
);

test.serial(
  'connectivity test: all gets through that should, what should not does not, and nothing is left',
  async (t) => {
    const junit = join(lab.folder, 'junit.xml');
    const { ok, tests } = await lab.json<{
      ok: boolean;
      tests: { name: string; ok: boolean; why: string }[];
    }>(...(['h1', 'connectivity', 'test', '--junit', junit] as const));
    t.true(ok, JSON.stringify(tests.filter((one) => !one.ok)));
    for (const name of ['small', 'full', 'tcp', 'udp', 'dns', 'isolation', 'published port'])
      t.true(
        tests.some((one) => one.name === name),
        name,
      );
    t.regex(readFileSync(junit, 'utf8'), new RegExp(`tests="${tests.length}" failures="0"`));
    await lab.until('the containers are gone', async () => {
      const left = await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls');
      return left.every(({ name }) => !name.startsWith('weft-test-'));
    });
    // Nor is a node on a network for the test alone, and what has containers stays.
    await lab.until('the subnets are given back', async () => {
      const { leases } = await lab.json<{ leases: object[] }>('h1', 'network', 'inspect', 'red');
      return leases.length === 0;
    });
    t.is((await lab.json<{ leases: object[] }>('h1', 'network', 'inspect', 'blue')).leases.length, 2);
    t.deepEqual(await lab.json('h1', 'diff', 'h2'), { steps: [] });
    // A dropped port is found.
    await lab.sh('h2', BLOCK);
    const blocked = await lab.weft('h1', 'connectivity', 'test', '--network', 'blue', '-o', 'json');
    await lab.sh('h2', 'nft delete table inet block');
    t.is(blocked.code, 1);
    await lab.until(
      'the containers are gone',
      async () => (await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls')).length === 2,
    );
  },
);

test.serial(
  'connectivity test: killed in the middle, by Ctrl-C or kill -9, or its agent killed, it leaves nothing',
  async (t) => {
    const names = async (): Promise<string[]> =>
      (await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls')).map(({ name }) => name).toSorted();
    const before = await lab.sh('h2', 'ip -o link | grep -c wfep');
    // Each attempt takes its whole time, so that there is a middle.
    await lab.sh('h2', BLOCK);
    const endings: [string, () => Promise<void> | void][] = [
      ['SIGINT', () => lab.process('tester').signal('SIGINT')],
      ['SIGKILL', () => lab.process('tester').signal('SIGKILL')],
      ['the agent', () => lab.process('agent-h2').kill()],
    ];
    for (const [how, end] of endings) {
      lab.spawn('tester', 'h1', [
        ...['env', ...Object.entries(lab.environment('h1')).map(([key, value]) => `${key}=${value}`)],
        ...[WEFT, 'connectivity', 'test', '--network', 'red'],
      ]);
      await lab.until(`containers are there before ${how}`, async () =>
        (await names()).some((name) => name.startsWith('weft-test-')),
      );
      await end();
      if (how === 'SIGINT')
        await lab.until('it says so, and judges nothing', () =>
          lab.process('tester').log().endsWith('weft: the test was interrupted; its containers end\n'),
        );
      if (how === 'the agent') await lab.startAgents(['h2']);
      await lab.until(`nothing is left after ${how}`, async () => (await names()).join() === 'db,web');
    }
    await lab.sh('h2', 'nft delete table inet block');
    t.is(
      await lab.until('the links are gone', async () => {
        const now = await lab.sh('h2', 'ip -o link | grep -c wfep');
        return now === before ? now : undefined;
      }),
      before,
    );
  },
);

test.serial('bundle: one archive of every node, which tar reads, without secrets', async (t) => {
  const file = join(lab.folder, 'all.tar');
  const { code, stderr } = await lab.weft('h1', 'bundle', '--all', '-w', file);
  t.is(code, 0, stderr);
  t.regex(stderr, /h2: \d+ files \(2 of 2 nodes\)|h1: \d+ files \(2 of 2 nodes\)/);
  const listed = await lab.sh('h1', `tar -tf ${file}`);
  for (const name of [
    'nodes/h1/status.json',
    'nodes/h2/objects.txt',
    'nodes/h2/events.jsonl',
    'cluster/endpoints.json',
  ])
    t.true(listed.includes(`/${name}\n`), `${name} in\n${listed}`);
  const status = await lab.sh('h1', `tar -xOf ${file} --wildcards '*/nodes/h2/status.json'`);
  t.like(JSON.parse(status), { node: { name: 'h2' } });
});
