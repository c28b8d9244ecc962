// Upstream DNS: names outside of weft.
//
// The host's name servers, one that does not answer, those of a domain, a resolv.conf that changes, and servers that
// forward every query back to weft.
import { mkdirSync, writeFileSync } from 'node:fs';

import test from 'ava';

import { Cluster, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { OUTSIDE } from '../lab/lab.js';
import { addressesOf, dig } from '../lab/names.js';

let lab: Cluster;
let asker: EndpointJson;
let hostFile: string;

interface StatusJson {
  problems: { what: string; why: string }[];
}

const DNSMASQ = [
  ...['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--pid-file', '--user=root', '--no-resolv'],
  ...['--no-hosts', '--bind-interfaces', '--log-queries', '--log-facility=-'],
];

const setServers = (...servers: string[]): void =>
  writeFileSync(hostFile, servers.map((ip) => `nameserver ${ip}\n`).join(''));
const ask = (...words: string[]): ReturnType<typeof dig> => dig(lab, 'c1', ...words, `@${asker.gateway}`);
const asked = (name: string): number => lab.process('dns').log().split(`query[A] ${name} `).length - 1;

async function setUp(): Promise<void> {
  lab = await Cluster.create(1);
  await lab.addContainers('c1', 'c2');
  hostFile = `/etc/netns/${lab.ns('h1')}/resolv.conf`;
  mkdirSync(`/etc/netns/${lab.ns('h1')}`, { recursive: true });
  setServers(OUTSIDE.ip, INFRA_IP);
  // Binds the port and never answers.
  lab.spawn('silent', 'outside', ['nc', '-u', '-l', '-k', OUTSIDE.ip, '53']);
  const names = ['--address=/one.example/198.51.100.71', '--txt-record=long.example,' + 'x'.repeat(250)];
  lab.spawn('dns', 'infra', [...DNSMASQ, `--listen-address=${INFRA_IP}`, '--local-ttl=50', ...names]);
  lab.spawn('corp', 'infra', [
    ...[...DNSMASQ, `--listen-address=${INFRA_IP}`, '--port=5353', '--address=/corp.test/198.51.100.72'],
  ]);
  await lab.startController();
  await lab.startAgents(['h1'], ['--dns-server', `corp.test=${INFRA_IP}:5353`]);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  asker = await lab.attach('h1', 'blue', 'c1', '--name', 'asker');
  await lab.attach('h1', 'blue', 'c2', '--name', 'db');
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

test.serial('a silent server delays the first query only, and no name of weft’s', async (t) => {
  let isWaiting = true;
  const first = ask('one.example').finally(() => (isWaiting = false));
  t.is((await ask('db')).answers.length, 1);
  t.true(isWaiting, 'weft’s own name is answered while the other one waits');
  t.deepEqual(
    (await first).answers.map(({ data }) => data),
    ['198.51.100.71'],
  );
  const silent = (): string => lab.process('silent').log();
  await lab.until('the silent server was queried', () => silent().includes('example'));
  t.is((await ask('other.one.example')).answers.length, 1);
  t.false(silent().includes('other'), 'it is not asked first again');
});

test.serial('an answer is cached for its TTL, over UDP and TCP', async (t) => {
  const before = asked('one.example');
  const { answers } = await ask('ONE.example', '+tcp');
  t.deepEqual(
    answers.map(({ data }) => data),
    ['198.51.100.71'],
  );
  t.true((answers[0]?.ttl ?? 99) <= 50);
  t.is(asked('one.example'), before);
  t.is((await ask('long.example', 'TXT')).answers.length, 1);
  const found = await lab.json<{ source: string; answers: { data: string }[] }>(
    'h1',
    'dns',
    'lookup',
    'one.example',
  );
  t.regex(found.source, /not a name of weft’s: (cached from|answered by) 192\.0\.2\.2/);
});

test.serial('queries for weft’s names and addresses never go upstream', async (t) => {
  for (const name of ['nope.weft', 'nope.blue.weft', 'x.loop.weft'])
    t.is((await ask(name)).status, 'NXDOMAIN');
  t.is((await ask('-x', '10.100.77.77')).status, 'NXDOMAIN');
  t.notRegex(lab.process('dns').log(), /weft|77\.77/);
});

test.serial('queries for a domain go to its own server only', async (t) => {
  t.deepEqual(await addressesOf(lab, 'c1', 'www.corp.test', `@${asker.gateway}`), ['198.51.100.72']);
  t.is(asked('www.corp.test'), 0);
});

test.serial('the host’s resolv.conf is followed: another server, a silent one, none at all', async (t) => {
  setServers(OUTSIDE.ip);
  await lab.says(lab.process('agent-h1'), 'the name servers of the host changed');
  const began = Date.now();
  t.is((await ask('one.example')).status, 'SERVFAIL', 'the cache was dropped with the server');
  t.true(Date.now() - began < 6000, `${Date.now() - began} ms`);
  t.is((await ask('db')).answers.length, 1);
  setServers();
  await lab.until('fails at once where nothing listens', async () => {
    const then = Date.now();
    return (await ask('one.example')).status === 'SERVFAIL' && Date.now() - then < 900;
  });
  setServers(INFRA_IP);
  await lab.until('the server is queried again', async () => (await ask('one.example')).answers.length === 1);
});

test.serial('no loop: weft as its own server, and a server that forwards everything to weft', async (t) => {
  setServers(asker.gateway);
  await lab.until('it queries no server', async () => {
    const then = Date.now();
    return (await ask('a.example')).status === 'SERVFAIL' && Date.now() - then < 900;
  });
  lab.spawn('circle', 'h1', [...DNSMASQ, '--listen-address=127.0.0.1', `--server=${asker.gateway}`]);
  setServers('127.0.0.1');
  const found = await lab.until('the loop is detected', async () => {
    await ask(`${Date.now()}.example`);
    const { problems } = await lab.json<StatusJson>('h1', 'status');
    return problems.find(({ what }) => what === 'the name server 127.0.0.1');
  });
  t.regex(found.why, /forwards queries to weft/);
  const questions = lab.process('circle').log().split('query[').length;
  t.true(questions < 200, `${questions} questions went round`);
  t.is((await ask('db')).answers.length, 1);
  setServers(INFRA_IP);
  await lab.until('it works again', async () => (await ask('one.example')).answers.length === 1);
  t.deepEqual((await lab.json<StatusJson>('h1', 'status')).problems, []);
});

test.serial('DNS can be turned off, and a wrong server is refused before anything starts', async (t) => {
  const { code, stderr } = await lab.weft(
    'h1',
    'agent',
    '--etcd',
    'http://127.0.0.1:1',
    '--dns-server',
    'dns.example',
  );
  t.is(code, 2);
  t.regex(stderr, /flag --dns-server: "dns\.example" has no IP address/);
  await lab.process('agent-h1').stop();
  await lab.startAgents(['h1'], ['--dns', 'off']);
  t.is(await lab.sh('h1', 'ss -Hlun sport = :53 | grep 10.100 || true'), '');
});
