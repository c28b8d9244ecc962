// A cluster with mutual TLS on every connection.
//
// The embedded etcd, the controller, the agents and the commands. A peer without a certificate of the CA is refused.
import test from 'ava';

import { TestCa, type Pair } from '../daemon/certificates.js';
import { bare, Cluster, CONTROLLER, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import type { Outcome } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';

const ETCD = `https://${INFRA_IP}:2379`;

let lab: Cluster;
let ca: TestCa;
let stranger: TestCa;
let member: Pair;

async function setUp(): Promise<void> {
  ca = new TestCa();
  stranger = new TestCa();
  member = ca.issue('member', INFRA_IP);
  lab = await Cluster.create(2);
  lab.etcd = ETCD;
  await lab.addContainers('c1', 'c2');
  await lab.startController(['--etcd-listen', ETCD, ...tls('etcd', ca, member), ...tls('tls', ca, member)]);
  await lab.startAgents(['h1', 'h2'], [...tls('etcd', ca, member), ...tls('tls', ca, member)]);
}

shareAmongTests(test, setUp, async () => {
  await lab?.lab.down();
  ca?.remove();
  stranger?.remove();
});

const tls = (kind: 'etcd' | 'tls', { ca: file }: TestCa, { cert, key }: Pair): string[] => [
  ...[`--${kind}-ca`, file],
  ...[`--${kind}-cert`, cert],
  ...[`--${kind}-key`, key],
];

/** The command line with a certificate, as the environment gives it. */
function weft(host: string, authority: TestCa, pair: Pair, ...args: string[]): Promise<Outcome> {
  const env = { WEFT_TLS_CA: authority.ca, WEFT_TLS_CERT: pair.cert, WEFT_TLS_KEY: pair.key };
  return lab.place(host).exec([WEFT, ...args, '-o', 'json'], { env: { ...lab.environment(host), ...env } });
}

test.serial('everything works with certificates', async (t) => {
  const made = await weft('h1', ca, member, 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  t.is(made.code, 0, made.stderr);
  const ends: EndpointJson[] = [];
  for (const [host, name] of [
    ['h1', 'c1'],
    ['h2', 'c2'],
  ] as const) {
    const { code, stdout, stderr } = await weft(host, ca, member, 'attach', 'blue', lab.ns(name));
    t.is(code, 0, stderr);
    ends.push(JSON.parse(stdout) as EndpointJson);
  }
  await lab.until('they reach each other', () => lab.reaches('c1', bare(ends[1]?.ip ?? '')));
  const nodes = await lab.until('both nodes report', async () => {
    const list = JSON.parse((await weft('h2', ca, member, 'node', 'ls')).stdout) as { state: string }[];
    return list.length === 2 && list.every(({ state }) => state === 'up') ? list : undefined;
  });
  t.is(nodes.length, 2);
});

test.serial(
  'a command without a certificate, or with one of another CA, is refused with the reason',
  async (t) => {
    const without = await lab.weft('h1', 'network', 'ls', '-o', 'json');
    t.is(without.code, 1);
    t.regex(without.stderr, /--tls-ca/);
    t.like(JSON.parse(without.stdout), { error: { code: 'UNAVAILABLE' } });

    const other = stranger.issue('stranger', INFRA_IP);
    // A client that trusts the cluster but has no certificate of its CA; then one that does not trust it either.
    for (const authority of [ca, stranger]) {
      const refused = await weft('h1', authority, other, 'network', 'ls');
      t.is(refused.code, 1);
      t.like(JSON.parse(refused.stdout), { error: { code: 'UNAVAILABLE' } });
    }
  },
);

test.serial('etcd refuses clients without a certificate, too', async (t) => {
  const get = ['etcdctl', '--endpoints', ETCD, '--cacert', ca.ca, '--command-timeout=3s', 'get', '/'];
  const env = { ETCDCTL_API: '3' };
  t.not((await lab.place('infra').exec(get, { env })).code, 0);
  const pair = ['--cert', member.cert, '--key', member.key];
  t.is((await lab.place('infra').exec([...get, ...pair], { env })).code, 0);
});

test.serial('an incomplete set of certificates is a wrong call', async (t) => {
  const half = await lab.weft('h1', 'network', 'ls', '--controller', CONTROLLER, '--tls-ca', ca.ca);
  t.is(half.code, 2);
  t.regex(half.stderr, /--tls-cert/);
});
