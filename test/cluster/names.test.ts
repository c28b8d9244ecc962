// DNS across two hosts, queried with dig from containers.
//
// Covers every form of a name, who may query what, how soon a name resolves, and the answers to malformed queries.
import { writeFileSync } from 'node:fs';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { must } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { addressesOf, agentOf, dig, program, seenBy, watchName } from '../lab/names.js';

let lab: Cluster;
const ends = new Map<string, EndpointJson>();

const end = (name: string): EndpointJson => {
  const found = ends.get(name);
  if (found === undefined) throw new Error(`${name} is not attached`);
  return found;
};
const ip = (name: string): string => bare(end(name).ip);
const ip6 = (name: string): string => bare(end(name).ip6 ?? '');

async function attach(
  key: string,
  host: string,
  network: string,
  container: string,
  ...flags: string[]
): Promise<void> {
  ends.set(key, await lab.attach(host, network, container, ...flags));
}

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'c5', 'late');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  await lab.json(
    'h1',
    'network',
    'create',
    'blue',
    '--subnet',
    '10.100.0.0/16',
    '--subnet6',
    'fd42:100::/48',
  );
  await lab.json('h1', 'network', 'create', 'Red', '--subnet', '10.101.0.0/16', '--internal');
  await attach('c1', 'h1', 'blue', 'c1', '--dns');
  await attach('db', 'h2', 'blue', 'c2', '--name', 'db', '--alias', 'Post_gres', '--alias', 'store.main');
  await attach('db2', 'h1', 'blue', 'c3', '--alias', 'post_gres');
  await attach('red-db', 'h2', 'Red', 'c4', '--name', 'db');
  await attach('c5', 'h1', 'Red', 'c5', '--name', 'five', '--dns');
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

test.serial('every form of a name is answered, in both families, whatever its case', async (t) => {
  await lab.until('the name resolves', async () => (await addressesOf(lab, 'c1', 'db')).length === 1);
  for (const name of [
    'db',
    'db.blue',
    'db.blue.weft',
    'DB.Blue.WEFT',
    'db.weft',
    'store.main',
    'store.main.blue',
  ]) {
    t.deepEqual(await addressesOf(lab, 'c1', name), [ip('db')], name);
    t.deepEqual(await addressesOf(lab, 'c1', name, 'AAAA'), [ip6('db')], name);
  }
  const { text, flags } = await dig(lab, 'c1', 'dB.bLuE');
  t.regex(text, /^dB\.bLuE\.\s+0\s+IN\s+A/m, 'the question comes back as it was spelt');
  t.true(flags.includes('aa') && flags.includes('ra'));
  t.deepEqual((await dig(lab, 'c1', 'db', 'ANY')).answers.map(({ type }) => type).sort(), ['A', 'AAAA']);
});

test.serial(
  'over UDP and TCP, at the gateway of either family, and by the resolver of the C library',
  async (t) => {
    const { gateway } = end('c1');
    const gateway6 = ip6('c1').replace(/::\w+$/, '::1');
    for (const words of [
      `@${gateway}`,
      `@${gateway6}`,
      `@${gateway} +tcp`,
      `@${gateway6} +tcp`,
      `@${gateway} +noedns`,
    ]) {
      t.deepEqual(await addressesOf(lab, 'c1', 'db', words), [ip('db')], words);
    }
    t.is((await lab.sh('c1', 'getent ahostsv4 db')).split(/\s/)[0], ip('db'));
  },
);

test.serial('169.254.53.53 answers on every host, by the first network of a container', async (t) => {
  const RESOLVER = '169.254.53.53';
  const way = async (container: string): Promise<string> =>
    /dev (\S+)/.exec(await lab.sh(container, `ip route show ${RESOLVER}`))?.[1] ?? '';
  const both = ['', '+tcp'].map((how) => `@${RESOLVER} ${how}`);
  for (const words of both) t.deepEqual(await addressesOf(lab, 'c1', 'db', words), [ip('db')]);
  // On the other host; c5's network is internal.
  t.deepEqual(await addressesOf(lab, 'c2', 'db.blue.weft', `@${RESOLVER}`), [ip('db')]);
  t.deepEqual(await addressesOf(lab, 'c5', 'db', `@${RESOLVER}`), [ip('red-db')]);
  const first = await lab.attach('h1', 'Red', 'late');
  const second = await lab.attach('h1', 'blue', 'late');
  t.is(await way('late'), first.ifname);
  const { stdout } = await lab.try('late', `ip route get ${RESOLVER}`);
  t.regex(stdout, new RegExp(`src ${bare(first.ip)}`));
  t.deepEqual((await addressesOf(lab, 'late', 'db.blue.weft', `@${RESOLVER}`)).length, 1);
  await lab.json('h1', 'detach', 'Red', lab.ns('late'));
  await lab.until('the other network leads there', async () => (await way('late')) === second.ifname);
  t.deepEqual(await addressesOf(lab, 'late', 'db', `@${RESOLVER}`), [ip('db')]);
  t.is((await lab.attach('h1', 'Red', 'late')).network, 'Red');
  t.is(await way('late'), second.ifname);
  for (const network of ['Red', 'blue']) await lab.json('h1', 'detach', network, lab.ns('late'));
});

test.serial('endpoints that share a name are answered in rotation', async (t) => {
  const both = [ip('db'), ip('db2')].sort();
  const first: string[] = [];
  for (let i = 0; i < 4; i++) {
    // A cookie makes every query of dig's different; without it they are equal.
    const found = await addressesOf(lab, 'c1', 'post_gres.blue.weft', '+nocookie');
    t.deepEqual(found.toSorted(), both);
    first.push(found[0] ?? '');
  }
  t.deepEqual(first.slice(0, 2).toSorted(), both);
  t.deepEqual(first.slice(0, 2), first.slice(2));
});

test.serial(
  'addresses resolve to names; one without a name, or of another network, is NXDOMAIN',
  async (t) => {
    t.deepEqual(await addressesOf(lab, 'c1', '-x', ip('db')), ['db.blue.weft.']);
    t.deepEqual(await addressesOf(lab, 'c1', '-x', ip6('db')), ['db.blue.weft.']);
    t.is((await dig(lab, 'c1', '-x', '10.100.255.254')).status, 'NXDOMAIN');
    t.is((await dig(lab, 'c1', '-x', ip('red-db'))).status, 'NXDOMAIN', 'of a network that it is not on');
  },
);

test.serial('an unknown name is NXDOMAIN, a name without that record type is an empty answer', async (t) => {
  for (const name of ['nope.weft', 'nope.blue.weft', 'db.red.weft', 'db.nope.weft']) {
    t.like(await dig(lab, 'c1', name), { status: 'NXDOMAIN', answers: [] }, name);
  }
  t.regex((await dig(lab, 'c1', 'nope.weft')).text, /^weft\.\s+0\s+IN\s+SOA/m);
  for (const words of [
    ['db.blue.weft', 'MX'],
    ['blue.weft', 'A'],
    ['weft', 'NS'],
  ]) {
    t.like(await dig(lab, 'c1', ...words), { status: 'NOERROR', answers: [] }, words.join(' '));
  }
  t.like(await dig(lab, 'c5', 'db.Red', 'AAAA'), { status: 'NOERROR', answers: [] });
});

test.serial('one name on two networks: each client gets that of its own network', async (t) => {
  t.deepEqual(await addressesOf(lab, 'c1', 'db'), [ip('db')]);
  t.deepEqual(await addressesOf(lab, 'c5', 'db'), [ip('red-db')], 'also on an internal network');
  t.deepEqual(
    await addressesOf(lab, 'c5', 'db.red.weft'),
    [ip('red-db')],
    'a network’s name has no case either',
  );
  // On both: the network that it queries through comes first; the other needs the full name.
  await attach('c3-red', 'h1', 'Red', 'c3');
  const blue = `@${end('db2').gateway}`;
  const red = `@${end('c3-red').gateway}`;
  t.deepEqual(await addressesOf(lab, 'c3', 'db', blue), [ip('db')]);
  t.deepEqual(await addressesOf(lab, 'c3', 'db', red), [ip('red-db')]);
  t.deepEqual(await addressesOf(lab, 'c3', 'db.red', blue), [ip('red-db')]);
  t.deepEqual(await addressesOf(lab, 'c3', 'five', blue), [ip('c5')]);
  await lab.json('h1', 'detach', 'Red', lab.ns('c3'));
  t.is((await dig(lab, 'c3', 'five.weft', blue)).status, 'NXDOMAIN');
});

test.serial('a host can query its own gateways; a client on no network is refused', async (t) => {
  t.deepEqual(await addressesOf(lab, 'h1', 'db.blue.weft', `@${end('c1').gateway}`), [ip('db')]);
  t.deepEqual(
    await addressesOf(lab, 'c2', 'db', `@${end('c1').gateway}`),
    [ip('db')],
    'from another host’s container',
  );
  await lab.sh('outside', `ip route replace ${end('c1').gateway}/32 via ${lab.ipOf('h1')}`);
  const { status } = await dig(lab, 'outside', 'db.blue.weft', `@${end('c1').gateway}`);
  t.is(status, 'REFUSED');
});

test.serial('--dns sets the resolv.conf of a named namespace, and detach restores it', async (t) => {
  const path = `/etc/netns/${lab.ns('late')}/resolv.conf`;
  await must(['mkdir', '-p', `/etc/netns/${lab.ns('late')}`]);
  writeFileSync(path, 'nameserver 192.0.2.99\n');
  await attach('late', 'h1', 'blue', 'late', '--dns');
  const text = await lab.sh('late', 'cat /etc/resolv.conf');
  t.true(text.includes(`\nnameserver ${end('late').gateway}\n`));
  t.regex(text, /^search blue\.weft/m);
  t.deepEqual(await addressesOf(lab, 'late', 'db'), [ip('db')]);
  await attach('late-red', 'h1', 'Red', 'late', '--dns');
  t.regex(await lab.sh('late', 'cat /etc/resolv.conf'), new RegExp(`nameserver ${end('late-red').gateway}`));
  await lab.json('h1', 'detach', 'blue', lab.ns('late'));
  t.notRegex(await lab.sh('late', 'cat /etc/resolv.conf'), /blue/);
  await lab.json('h1', 'detach', 'Red', lab.ns('late'));
  t.is(await must(['cat', path]), 'nameserver 192.0.2.99\n');
  const holder = await lab.lab.anonymous();
  const { code, stderr } = await lab.weft('h1', 'attach', 'blue', `pid:${holder.pid}`, '--dns');
  t.is(code, 1);
  t.regex(stderr, /pid:\d+ is no namespace in \/run\/netns/);
  t.regex(
    (await lab.weft('h1', 'attach', 'blue', lab.ns('c3'), '--dns')).stderr,
    /resolv\.conf is not weft’s/,
  );
});

test.serial('custom names: added, listed, resolved, and deleted with their network', async (t) => {
  const added = await lab.json(
    'h1',
    'dns',
    'add',
    'Printer',
    '198.51.100.7',
    '2001:db8::7',
    '--network',
    'blue',
  );
  t.like(added, {
    name: 'printer',
    network: 'blue',
    addresses: ['198.51.100.7', '2001:db8::7'],
    kind: 'own',
  });
  await lab.until(
    'h2 knows',
    async () => (await addressesOf(lab, 'c2', `@${end('db').gateway}`, 'printer')).length === 1,
  );
  t.deepEqual(await addressesOf(lab, 'c1', 'PRINTER.blue', 'AAAA'), ['2001:db8::7']);
  t.deepEqual(await addressesOf(lab, 'c1', '-x', '198.51.100.7'), ['printer.blue.weft.']);
  await lab.json('h2', 'dns', 'add', 'printer', '198.51.100.8', '--network', 'blue');
  await lab.until('h1 knows both', async () => (await addressesOf(lab, 'c1', 'printer')).length === 2);
  t.deepEqual((await addressesOf(lab, 'c1', 'printer')).toSorted(), ['198.51.100.7', '198.51.100.8']);
  const rows = await lab.json<{ name: string; kind: string; node: string | null; state: string }[]>(
    'h1',
    'dns',
    'ls',
  );
  for (const row of [
    { name: 'db', kind: 'endpoint', node: 'h2', state: 'up' },
    { name: 'post_gres', kind: 'alias', node: 'h1', state: 'up' },
    { name: 'printer', kind: 'own', node: null, state: 'up' },
  ]) {
    t.true(
      rows.some((it) => it.name === row.name && it.kind === row.kind && it.node === row.node),
      row.name,
    );
  }
  const found = await lab.json<{ source: string; answers: { data: string; whose: string }[] }>(
    ...(['h1', 'dns', 'lookup', 'db', '--from', lab.ns('c5')] as const),
  );
  t.deepEqual(
    found.answers.map(({ data }) => data),
    [ip('red-db')],
  );
  t.regex(found.answers[0]?.whose ?? '', /db of Red, netns:.* on h2/);
  t.is((await lab.weft('h1', 'dns', 'lookup', 'nope.weft')).code, 1);
  await lab.json('h1', 'dns', 'rm', 'printer', '198.51.100.8');
  await lab.json('h1', 'dns', 'rm', 'printer');
  t.is((await dig(lab, 'c1', 'printer.weft')).status, 'NXDOMAIN');
  for (const [words, code, message] of [
    [['add', 'a..b', '192.0.2.1'], 2, /not a name that can be asked for/],
    [['add', 'x'.repeat(64), '192.0.2.1'], 2, /at most 63/],
    [['add', 'x', '192.0.2.256'], 2, /not an IP address/],
    [['add', 'x', '224.0.0.1'], 2, /not the address of one host/],
    [['add', 'x', '192.0.2.1'], 1, /several \(Red, blue\)/],
    [['add', 'x', '192.0.2.1', '--network', 'nope'], 1, /network nope: there is no such network/],
    [['rm', 'x'], 1, /no network has an added name x/],
    [['ls', '--network', 'nope'], 1, /network nope: there is no such network/],
    [['lookup', 'db', '--from', 'nobody'], 1, /not attached/],
  ] as const) {
    const { code: exit, stderr } = await lab.weft('h1', 'dns', ...words);
    t.is(exit, code, words.join(' '));
    t.regex(stderr, message);
  }
  await lab.etcdctl('put', '/weft/networks/blue/dns/bad', '{"ips":[]}');
  const { problems } = await lab.until('status reports it', async () => {
    const status = await lab.json<{ problems: { what: string }[] }>('h1', 'status');
    return status.problems.some(({ what }) => what.includes('dns/bad')) ? status : undefined;
  });
  t.is(problems.length, 1);
  await lab.json('h1', 'network', 'create', 'gone', '--subnet', '10.102.0.0/16');
  await lab.json('h1', 'dns', 'add', 'x', '192.0.2.1', '--network', 'gone');
  await lab.json('h1', 'network', 'rm', 'gone');
  t.is(await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/gone'), '');
  await lab.etcdctl('del', '/weft/networks/blue/dns/bad');
});

test.serial(
  'a name resolves on every host within 100 ms of attach, and no longer 100 ms after detach',
  async (t) => {
    const watcher = watchName(lab, 'c1', end('c1').gateway, 'soon.blue.weft');
    await lab.until('the watcher runs', () => seenBy(watcher).length === 1);
    const agent = agentOf(lab, 'h2');
    const target = `netns:/run/netns/${lab.ns('late')}`;
    const came: number[] = [];
    const went: number[] = [];
    for (let round = 0; round < 9; round++) {
      for (const [list, there] of [
        [came, true],
        [went, false],
      ] as const) {
        const before = seenBy(watcher).length;
        const done = await (there ? agent.attach('blue', target, 'soon') : agent.detach('blue', target));
        const seen = await lab.until('the watcher sees it', () => seenBy(watcher)[before]);
        t.is(seen.there, there);
        list.push(Math.max(0, seen.at - done));
      }
    }
    agent.close();
    for (const list of [came, went]) list.sort((a, b) => a - b);
    t.log(`resolves after ${came.join(', ')} ms; absent after ${went.join(', ')} ms`);
    t.true((came[4] ?? Infinity) <= 100);
    t.true((went[4] ?? Infinity) <= 100);
  },
);

test.serial('malformed queries are refused and do no harm', async (t) => {
  const { pid } = lab.process('agent-h1');
  const answers = JSON.parse(
    await must(program(lab, 'c1', '../lab/name-abuse.js', end('c1').gateway, 'db.blue.weft')),
  ) as Record<string, string>;
  t.deepEqual(answers, {
    'an answer': 'nothing',
    'no header': 'nothing',
    'a header alone': 'FORMERR',
    'no question': 'FORMERR',
    'two questions': 'FORMERR',
    '65535 questions': 'FORMERR',
    'a cut name': 'FORMERR',
    'a cut type': 'FORMERR',
    'a pointer to itself': 'FORMERR',
    'a pointer ahead': 'FORMERR',
    'a reserved label': 'FORMERR',
    'a name of 300 bytes': 'FORMERR',
    'an update': 'NOTIMP',
    'a looping additional record': 'FORMERR',
    'two OPT records': 'FORMERR',
    // Its upper bits are in the OPT record.
    'EDNS version 1': 'NOERROR',
    'class CHAOS': 'REFUSED',
    'class ANY': 'NOERROR',
    'a whole zone': 'REFUSED',
  });
  t.deepEqual(await addressesOf(lab, 'c1', 'db', '+tcp'), [ip('db')]);
  t.is(lab.process('agent-h1').pid, pid);
  t.notRegex(lab.process('agent-h1').log(), /error {2}/);
  const metrics = await lab.sh('h1', 'curl -s http://127.0.0.1:7402/metrics');
  t.regex(metrics, /weft_dns_questions_total\{result="malformed"\} \d{2,}/);
});
