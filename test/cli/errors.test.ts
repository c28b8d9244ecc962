// Errors of the command line, for people and programs.
//
// The exit status, one or two lines on stderr, an object on stdout.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import test from 'ava';
import { parse } from 'yaml';

import { callByHttp } from '../../cli/http-call.js';
import { notFound } from '../../core/errors.js';
import { readTls } from '../../daemon/tls.js';
import { TestCa } from '../daemon/certificates.js';
import { Fakes, run, runHere, WEFT, type Ran } from './fakes.js';
import { status } from './samples.js';

const fakes = new Fakes();
test.before(() => fakes.start());
test.after.always(() => fakes.stop());

const UNREACHABLE = { WEFT_CONTROLLER: '127.0.0.1:1', WEFT_AGENT: '/nonexistent/agent.sock' };

/** One or two lines, and no stack trace. */
const TWO_LINES = /^weft: [^\n]+\n( {6}[^\n]+\n)?$/;

const WRONG: [line: string, named: RegExp][] = [
  ['nonsense', /nonsense/],
  // Names that every object has.
  ['constructor', /constructor/],
  ['hasOwnProperty x', /hasOwnProperty/],
  ['netwrk ls', /network/],
  ['network crate x', /create/],
  ['network ls --bogus', /--bogus/],
  ['network ls extra', /arguments/],
  ['network create --subnet 10.1.0.0/16', /name/i],
  ['network create blue', /--subnet/],
  ['network create bl.ue --subnet 10.1.0.0/16', /bl\.ue/],
  ['network create blue --subnet 10.1.0.5/16', /10\.1\.0\.0\/16/],
  ['network create blue --subnet 127.0.0.0/16', /127\.0\.0\.0\/16/],
  ['network create blue --subnet fd42::/48', /fd42::\/48/],
  ['network create blue --subnet 10.1.0.0/16 --host-prefix 17', /17/],
  ['network create blue --subnet 10.1.0.0/16 --host-prefix6 64', /--subnet6/],
  ['network create blue --subnet 10.1.0.0/16 --vni 16777216', /16777216|16777215/],
  ['network create blue --subnet 10.1.0.0/16 --vni abc', /abc/],
  ['network create blue --subnet 10.1.0.0/16 --port 0', /65535/],
  ['network create blue --subnet 10.1.0.0/16 --backend foo', /foo/],
  ['network create blue --subnet 10.1.0.0/16 --subnet6 fd42::/48 --mtu 1000', /1280/],
  ['network create blue --driver bridge --subnet 10.1.0.0/16 --subnet6 fd42::/64 --mtu 1000', /1280/],
  ['dns lookup db --type FOO', /FOO/],
  ['status --controller nowhere', /nowhere/],
  ['ui --listen 0.0.0.0:7480', /not on loopback/],
  ['ui --listen 7480', /HOST:PORT/],
  ['status --tls-ca /nonexistent/a --tls-cert /nonexistent/b --tls-key /nonexistent/c', /nonexistent/],
  ['attach blue', /target/i],
  ['attach blue pid:0', /pid:0/],
  ['attach blue netns:web', /netns:web/],
  ['attach blue web --ip 10.1.0.300', /10\.1\.0\.300/],
  ['attach blue web --ip6 10.1.0.3', /10\.1\.0\.3/],
  ['attach blue web --mac 01:00:00:00:00:01', /01:00:00:00:00:01/],
  ['attach blue web --ifname abcdefghijklmnop', /abcdefghijklmnop/],
  ['attach blue web --alias -x-', /-x-/],
  ['network ls -o xml', /xml/],
  ['network ls --controller nowhere', /nowhere/],
  ['network ls --tls-ca /nonexistent/ca.pem', /--tls-cert/],
  ['network ls --tls-ca /nonexistent/a --tls-cert /nonexistent/b --tls-key /nonexistent/c', /nonexistent/],
  [
    'network',
    /a command is missing behind `weft network`\n {6}There are create, ls, inspect, rm, .*`weft network --help`/,
  ],
  // What lists and others have is known before they ask.
  ...[
    'network ls',
    'node ls',
    'endpoint ls',
    'port ls',
    'dns ls',
    'token ls',
    'policy ls',
    'ipam show',
    'ps',
  ].flatMap((line): [string, RegExp][] => [
    [`${line} --filter nosuch=1`, /filter: there is no nosuch\n {6}Filter by \w+, \w+/],
    [`${line} --format {{.Nosuch.x}}`, /format: there is no field Nosuch\n {6}Fields are \w+, \w+/],
  ]),
  ['cni ls --filter nosuch=1', /Filter by path, network, state\./],
  ['netavark ls --format {{.nosuch}}', /Fields are path, network, state\./],
  ['status -o name', /Allowed choices are table, json, yaml, wide\./],
  ['status --filter name=x', /--filter/],
  ['policy test a b -o name', /Allowed choices/],
  ['login h:1 --token x -o name', /Allowed choices/],
  ['completion tcsh', /tcsh/],
];

test('a wrong call: exit status 2, two lines that name the mistake, and no service is called', async (t) => {
  for (const [line, named] of WRONG) {
    const ran = await runHere(line.split(' '), UNREACHABLE);
    t.is(ran.code, 2, `weft ${line}: ${ran.stderr}`);
    t.regex(ran.stderr, TWO_LINES, line);
    t.regex(ran.stderr, named, line);
    t.is(ran.stdout, '', line);
  }
});

test('the program says and ends as its main does, for each kind of a wrong call', async (t) => {
  await inTurns(
    [
      'nonsense',
      'network',
      'network ls --bogus',
      'network ls extra',
      'network create --subnet 10.1.0.0/16',
      'network create blue --subnet 10.1.0.5/16',
      'network create blue --subnet 10.1.0.0/16 --vni abc',
      'network ls --tls-ca /nonexistent/ca.pem',
      'completion tcsh',
      'help netwrk',
      'status -o json --controller nowhere',
    ],
    async (line) => {
      const words = line.split(' ');
      const ran = await run(words, UNREACHABLE);
      t.is(ran.code, 2, line);
      t.deepEqual({ ...ran, waits: [] }, { ...(await runHere(words, UNREACHABLE)), waits: [] }, line);
    },
  );
});

test('global options may precede the command', async (t) => {
  const ran = await run(['-o', 'json', '--controller=127.0.0.1:1', 'network', 'ls'], UNREACHABLE);
  t.is(ran.code, 1);
  t.like(JSON.parse(ran.stdout), { error: { code: 'UNAVAILABLE' } });
  t.regex(ran.stderr, /127\.0\.0\.1:1 /);
});

test('an empty variable counts as unset', async (t) => {
  const ran = await run(['network', 'ls'], { WEFT_CONTROLLER: '' });
  t.regex(ran.stderr, /127\.0\.0\.1:7400/);
});

test('a wrong call is an error object for programs', async (t) => {
  const line = ['network', 'create', 'blue', '--subnet', 'x'];
  const [json, yaml] = await Promise.all([run([...line, '-o', 'json']), run([...line, '-oyaml'])]);
  for (const [{ code }, found] of [
    [json, JSON.parse(json.stdout) as unknown],
    [yaml, parse(yaml.stdout) as unknown],
  ] as const) {
    t.is(code, 2);
    t.like(found, { error: { code: 'INVALID_ARGUMENT' } });
  }
});

test.serial('an error of a service: exit status 1, its cause and its next step', async (t) => {
  fakes.failure = notFound('there is no network red', 'See weft network ls.');
  try {
    const ran = await fakes.weft('network', 'inspect', 'red', '-o', 'json');
    t.is(ran.code, 1);
    t.is(ran.stderr, 'weft: there is no network red\n      See weft network ls.\n');
    t.like(JSON.parse(ran.stdout), { error: { code: 'NOT_FOUND', message: 'there is no network red' } });
  } finally {
    fakes.failure = undefined;
  }
});

test('an unreachable service: which one, and how to start it', async (t) => {
  const [controller, agent] = await Promise.all([
    run(['node', 'ls', '-o', 'json'], UNREACHABLE),
    run(['attach', 'blue', 'web'], UNREACHABLE),
  ]);
  t.is(controller.code, 1);
  t.regex(controller.stderr, TWO_LINES);
  t.regex(controller.stderr, /127\.0\.0\.1:1[\s\S]*weft controller/);
  t.like(JSON.parse(controller.stdout), { error: { code: 'UNAVAILABLE' } });
  t.is(agent.code, 1);
  t.regex(agent.stderr, /\/nonexistent\/agent\.sock[\s\S]*weft agent/);
});

test('a file that cannot be written is found before anything is asked', async (t) => {
  for (const [line, option] of [
    ['bundle -w /nonexistent/x', '-w'],
    ['connectivity test --junit /nonexistent/x', '--junit'],
  ] as const) {
    const ran = await run(line.split(' '), UNREACHABLE);
    t.is(ran.code, 1);
    t.regex(
      ran.stderr,
      new RegExp(`^weft: /nonexistent/x: cannot be written: .*\n {6}Give another file with ${option}\\.\n$`),
    );
  }
});

test('stack traces are shown with --log-level debug only', async (t) => {
  const ran = await run(['node', 'ls', '--log-level', 'debug'], UNREACHABLE);
  t.is(ran.code, 1);
  t.regex(ran.stderr, /^ +at /m);
});

test('status asks the controller where the agent is away, and shows nothing of it as this node’s', async (t) => {
  const env = { ...UNREACHABLE, WEFT_CONTROLLER: fakes.address };
  const { WEFT_AGENT: agent, ...elsewhere } = env;
  const [byEnvironment, byFlag, none, asText] = await Promise.all([
    run(['status', '-o', 'json'], env),
    run(['status', '-o', 'json', '--agent', agent], elsewhere),
    run(['status', '-o', 'json'], UNREACHABLE),
    run(['status'], env),
  ]);
  for (const { code, stdout } of [byEnvironment, byFlag]) {
    t.is(code, 1);
    const seen = JSON.parse(stdout) as Record<string, unknown>;
    t.like(seen, { health: 'down', node: {}, store: {}, networks: [], peers: [] });
    t.deepEqual(seen['store'], {});
    t.like(seen['controller'], { state: 'connected', version: '0.1.0' });
    t.deepEqual(seen['cluster'], {
      store: { ...status.store },
      networks: [{ name: 'blue', subnet: '10.100.5.0/24', subnet6: null, vni: 4097, endpoints: 1, nodes: 2 }],
      nodes: [
        { name: 'b', publicIp: '192.0.2.11', state: 'up' },
        { name: 'c', publicIp: '192.0.2.12', state: 'down' },
      ],
    });
    t.regex(JSON.stringify(seen['problems']), /agent/);
  }
  t.is(asText.code, 1);
  t.regex(asText.stdout, /^Health: +down$/m);
  t.regex(asText.stdout, /^Nodes of the cluster:$/m);
  t.notRegex(asText.stdout, /^(Node|Networks|Peers|Firewall|Kernel|Store|Version|Started):/m);
  t.regex(asText.stdout, /^Controller:\n {2}Address: /m);
  t.is(none.code, 1);
  const down = JSON.parse(none.stdout) as Record<string, unknown> & { problems: object[] };
  t.like(down, { health: 'down', networks: [], peers: [] });
  for (const key of ['node', 'store', 'controller']) t.is(typeof down[key], 'object');
  t.is(down.problems.length, 2);
});

test('a host without an agent, such as a controller’s own, is as well as the cluster', async (t) => {
  const { WEFT_AGENT: _, ...env } = { ...UNREACHABLE, WEFT_CONTROLLER: fakes.address };
  const { code, stdout } = await run(['status', '-o', 'json'], env);
  // The machine that runs the tests may have one.
  const hasAgent = existsSync('/run/weft/agent.sock');
  const { health } = JSON.parse(stdout) as { health: string };
  t.deepEqual([code, health], hasAgent ? [1, 'down'] : [0, 'degraded']);
});

test('status -q prints nothing: the exit status says it', async (t) => {
  const [good, bad] = await Promise.all([fakes.weft('status', '-q'), run(['status', '-q'], UNREACHABLE)]);
  t.deepEqual([good.code, good.stdout, good.stderr], [0, '', '']);
  t.deepEqual([bad.code, bad.stdout, bad.stderr], [1, '', '']);
});

test('mutual TLS: a client with a certificate of the CA is served, one without is refused', async (t) => {
  const ca = new TestCa();
  const secure = new Fakes();
  try {
    const server = ca.issue('controller');
    await secure.start(readTls({ tlsCa: ca.ca, tlsCert: server.cert, tlsKey: server.key }));
    const mine = ca.issue('me');
    const flags = ['--tls-ca', ca.ca, '--tls-cert', mine.cert, '--tls-key', mine.key];
    const [good, byEnvironment, bare] = await Promise.all([
      secure.weft('network', 'ls', ...flags),
      run(['network', 'ls'], {
        WEFT_CONTROLLER: secure.address,
        WEFT_TLS_CA: ca.ca,
        WEFT_TLS_CERT: mine.cert,
        WEFT_TLS_KEY: mine.key,
      }),
      secure.weft('network', 'ls'),
    ]);
    t.deepEqual([good.code, good.stderr], [0, '']);
    t.deepEqual([byEnvironment.code, byEnvironment.stderr], [0, '']);
    t.is(bare.code, 1);
    t.regex(bare.stderr, /--tls-ca/);
  } finally {
    secure.stop();
    ca.remove();
  }
});

test('a closed pipe is no error', async (t) => {
  const ran = await new Promise<Omit<Ran, 'waits'>>((resolve) => {
    const script = '"$0" help | true; echo "${PIPESTATUS[0]}"';
    execFile('bash', ['--norc', '-c', script, WEFT], (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stdout, stderr }),
    );
  });
  t.deepEqual(ran, { code: 0, stdout: '0\n', stderr: '' });
});

/** A few at a time: each is a process. */
async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: 3 }, async () => {
      for (const item of rest) await work(item);
    }),
  );
}

test('an agent that hangs is told from one that is not there', async (t) => {
  const socket = join(fakes.folder, 'hangs.sock');
  // The kernel takes connections for a process that is stopped.
  const hangs = createServer((connection) => connection.on('error', () => undefined)).listen(socket);
  t.teardown(() => hangs.close());
  const ask = (path: string): Promise<Ran> => run(['status'], { ...UNREACHABLE, WEFT_AGENT: path });
  const { code, stdout } = await ask(socket);
  t.is(code, 1);
  t.regex(stdout, /why: the agent at \S+ did not answer in time: it hangs, is stopped \(SIGSTOP\)/);
  t.regex(
    (await ask(`${socket}.none`)).stdout,
    /why: the agent at \S+ does not answer: there is no such socket/,
  );
  // Changes may take half a minute, and go by HTTP.
  await t.throwsAsync(callByHttp(socket, 'detach', {}, 50), {
    code: 'DEADLINE_EXCEEDED',
    message: `the agent at ${socket} did not answer in time: it hangs, is stopped (SIGSTOP), or has much to do`,
  });
});
