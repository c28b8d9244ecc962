// A cluster that is secure by default, as users make it: tokens, certificates, renewal, removal.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { authorityHashOf } from '../../daemon/certificate.js';
import { bare, CONTROLLER, INFRA, type Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { SecureCluster } from '../lab/secure-cluster.js';

let cluster: SecureCluster;
let lab: Cluster;
let controller: LabProcess;

type Weft = SecureCluster['weft'];
const weft = (...args: Parameters<Weft>): ReturnType<Weft> => cluster.weft(...args);
const json = <T>(host: string, args: readonly string[], env?: Record<string, string>): Promise<T> =>
  cluster.json<T>(host, args, env);
const token = (...args: string[]): Promise<string> => cluster.token(...args);
const identityOf = (host: string): string => cluster.identityOf(host);

/** Renewed between the tenth second and the sixteenth: a controller is back before that, also on a busy machine. */
const LIFE = ['--certificate-ttl', '20s'];

shareAmongTests(
  test,
  async () => {
    cluster = await SecureCluster.create(2, 'c1', 'c2');
    ({ lab } = cluster);
    controller = await cluster.startController(LIFE);
    await cluster.join('h1', 'h2');
  },
  async () => {
    await lab?.lab.down();
  },
);

test.serial('nodes join by token, and containers reach each other', async (t) => {
  await json(INFRA, ['network', 'create', 'blue', '--subnet', '10.100.0.0/16']);
  const [, b] = await Promise.all(
    (['h1', 'h2'] as const).map((host, i) =>
      json<EndpointJson>(host, ['attach', 'blue', lab.ns(`c${i + 1}`)]),
    ),
  );
  await lab.until('they reach each other', () => lab.reaches('c1', bare(b?.ip ?? '')));
  t.deepEqual(
    (await json<{ name: string; state: string }[]>(INFRA, ['node', 'ls'])).map((it) => [it.name, it.state]),
    [
      ['h1', 'up'],
      ['h2', 'up'],
    ],
  );
  const folder = identityOf('h1');
  t.is(statSync(folder).mode & 0o777, 0o700);
  t.deepEqual(
    readdirSync(folder).filter((name) => name !== 'cluster.json'),
    ['ca.crt', 'node.crt', 'node.key'],
  );
  // The token is neither in the process list nor in a log.
  const listed = await lab.sh(INFRA, 'cat /proc/[0-9]*/cmdline | tr "\\0" " "');
  t.false(/WEFT-1-[0-9a-z]{50}-/.test(listed));
  const logs = ['agent-h1', 'agent-h2'].map((name) => lab.process(name).log()).join('\n');
  t.false(/WEFT-1-[0-9a-z]{50}-/.test(logs.replaceAll(/^\$ .*$/gm, '')));
});

test.serial('a certificate is renewed without a token, also after the controller was away', async (t) => {
  const read = (): string => readFileSync(join(identityOf('h1'), 'node.crt'), 'utf8');
  const first = read();
  await lab.until('a renewal', () => read() !== first, { timeoutMs: 30_000 });
  const second = read();
  await controller.kill();
  controller = await cluster.startController(LIFE);
  await lab.until('a renewal after the outage', () => read() !== second, { timeoutMs: 30_000 });
  // Both were in use: the session with the old one ends with it, and comes back.
  await lab.until('the session', async () => {
    const { controller: session } = await json<{ controller: { state: string } }>('h1', ['status']);
    return session.state === 'connected';
  });
  const metrics = await lab.sh('h1', 'curl -s http://127.0.0.1:7402/metrics');
  const ends = Number(/^weft_certificate_expiry_timestamp_seconds (\S+)$/m.exec(metrics)?.[1]);
  t.true(ends > Date.now() / 1000 && ends < Date.now() / 1000 + 21, `${ends}`);
});

test.serial(
  'an agent without a way to trust its controller, and a command without a certificate',
  async (t) => {
    const { code, stderr } = await lab
      .place('h2')
      .exec(
        [
          WEFT,
          'agent',
          '--controller',
          CONTROLLER,
          '--state-dir',
          join(lab.folder, 'fresh'),
          '--etcd',
          'http://a:1',
        ],
        {
          env: { WEFT_INSECURE: '' },
        },
      );
    t.is(code, 2);
    for (const way of ['--token', '--tls-ca', '--insecure']) t.true(stderr.includes(way), stderr);

    const nobody = await weft('h1', ['network', 'ls', '-o', 'json'], { WEFT_ADMIN_DIR: '/nowhere' });
    t.is(nobody.code, 1);
    t.like(JSON.parse(nobody.stdout), { error: { code: 'UNAUTHENTICATED' } });
    t.regex(nobody.stderr, /weft login/);
    const plain = await weft('h1', ['network', 'ls', '--insecure', '-o', 'json'], {
      WEFT_ADMIN_DIR: '/nowhere',
    });
    t.is(plain.code, 1);
  },
);

test.serial('a person logs in, and has the rights of the token', async (t) => {
  const home = join(lab.folder, 'home');
  const viewer = { WEFT_ADMIN_DIR: '/nowhere', HOME: home };
  const file = join(lab.folder, 'token');
  writeFileSync(file, `${await token('--role', 'viewer', '--uses', '1')}\n`);
  const made = await json<{ role: string; folder: string }>(
    'h1',
    ['login', '--token-file', file, CONTROLLER],
    viewer,
  );
  t.is(made.role, 'viewer');
  const hash = authorityHashOf(readFileSync(join(identityOf('h1'), 'ca.crt')));
  t.is(made.folder, join(home, '.config/weft', hash));
  t.deepEqual(readdirSync(made.folder), ['ca.crt', 'client.crt', 'client.key']);
  t.is((await weft('h1', ['network', 'ls'], viewer)).code, 0);
  const refused = await weft(
    'h1',
    ['network', 'create', 'x', '--subnet', '10.1.0.0/16', '-o', 'json'],
    viewer,
  );
  t.like(JSON.parse(refused.stdout), { error: { code: 'PERMISSION_DENIED' } });
  const again = await weft('h1', ['login', '--token-file', file, CONTROLLER, '-o', 'json'], viewer);
  t.like(JSON.parse(again.stdout), { error: { code: 'UNAUTHENTICATED' } });
});

test.serial(
  'root on a node needs neither an address nor a certificate: it has what the node may see',
  async (t) => {
    const nothing = { WEFT_CONTROLLER: '', WEFT_ADMIN_DIR: '/nowhere', HOME: '/nowhere' };
    t.deepEqual(
      (await json<{ name: string }[]>('h2', ['node', 'ls'], nothing)).map(({ name }) => name).toSorted(),
      ['h1', 'h2'],
    );
    const more = ['network', 'create', 'x', '--subnet', '10.1.0.0/16', '-o', 'json'];
    t.like(JSON.parse((await weft('h2', more, nothing)).stdout), { error: { code: 'PERMISSION_DENIED' } });
    // What its host tells somebody else has no secret of it: the token is among the agent's settings.
    const file = join(lab.folder, 'h2.tar');
    t.is((await weft('h2', ['bundle', '-w', file], nothing)).code, 0);
    t.is(statSync(file).mode & 0o777, 0o600);
    const bundle = readFileSync(file, 'latin1');
    t.true(bundle.includes('settings.json') && bundle.includes('"token": "(redacted)"'));
    t.notRegex(bundle, /WEFT-1-[0-9a-z]{50}-[0-9A-Za-z]|PRIVATE KEY/);
    // Who may not ask the agent has nothing.
    const stranger = { ...nothing, WEFT_AGENT: '/nowhere/agent.sock' };
    t.regex(
      (await weft('h2', ['node', 'ls'], stranger)).stderr,
      /the controller at 127\.0\.0\.1:7400 does not answer/,
    );
  },
);

test.serial('a removed node is refused, until it joins again', async (t) => {
  const removed = await weft(INFRA, ['node', 'rm', 'h2', '--force']);
  t.is(removed.code, 0, removed.stderr);
  const status = await lab.until('its session is refused', async () => {
    const found = await json<{ controller: { state: string; error: string } }>('h2', ['status']);
    return found.controller.state === 'disconnected' ? found : undefined;
  });
  t.regex(status.controller.error, /is refused: the node was removed/);
  t.true(existsSync(identityOf('h2')));
});
