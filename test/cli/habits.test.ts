// What users of docker, kubectl and flannel type by habit.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';

import { coloured, wantsColour } from '../../cli/colour.js';
import { passes, parseFilter } from '../../cli/filter.js';
import { fitted, indentedTable } from '../../cli/output.js';
import { parseTemplate } from '../../cli/template.js';
import { notSilently, seen } from '../../cli/waiting.js';
import { until } from '../lab/wait.js';
import { Fakes, run, WEFT } from './fakes.js';
import { endpoint, endpointJson } from './samples.js';

const fakes = new Fakes();
test.before(() => fakes.start());
test.after.always(() => fakes.stop());

const OUTPUTS: [line: string, stdout: RegExp][] = [
  ['endpoint ls -o name', /^web\.blue\n$/],
  ['endpoint ls -q', /^web\.blue\n$/],
  ['network ls --quiet', /^blue\n$/],
  ['node ls --no-headers', /^a +up /],
  ['endpoint ls -o wide', /^ID .* TARGET +MAC +HOST IFNAME .*\n.*02:77:0a:64:05:02/],
  ['endpoint ls --filter name=we --filter network=blue -q', /^web\.blue\n$/],
  ['endpoint ls --filter name=db -q', /^$/],
  ['endpoint ls --filter network=red --filter network=blue -q', /^web\.blue\n$/],
  ['network ls --format {{.Name}}/{{.driver}}', /^blue\/overlay\n$/],
  ['network inspect blue --format {{.subnet}}', /^10\.100\.0\.0\/16\n$/],
  ['endpoint inspect web -o name', /^web\n$/],
  ['inspect blue web -o name', /^blue\nweb\n$/],
  ['policy ls -q', /^p\n$/],
  ['policy ls --filter name=q', /^NAME +FROM +TO +PORTS\nisolated: red\n$/],
  ['policy ls --format {{.name}}:{{.to}}', /^p:\["role=db"\]\n$/],
  ['policy ls -o json --filter name=q', /^\{\n +"policies": \[\],\n +"isolated": \[/],
  ['policy isolate red -o name', /^red\n$/],
  ['ipam release x -o name', /^endpoint-of-no-node\/blue\/aa\n$/],
  // The end of a lease is of interest where it was not renewed in time.
  ['ipam show', /^NETWORK .* FREE\n/],
];

for (const [line, stdout] of OUTPUTS)
  test(`weft ${line}`, async (t) => {
    const ran = await fakes.weft(...line.split(' '));
    t.deepEqual([ran.code, ran.stderr], [0, '']);
    t.regex(ran.stdout, stdout);
  });

test('--format table lines columns up, and JSON is there for programs', async (t) => {
  const [asTable, asJson] = await Promise.all([
    fakes.weft('node', 'ls', '--format', 'table {{.Name}}\\t{{.State}}'),
    fakes.weft('endpoint', 'ls', '--format', '{{json .}}'),
  ]);
  t.regex(asTable.stdout, /^NAME +STATE\na +up\n$/);
  t.like(JSON.parse(asJson.stdout), endpointJson);
});

test('inspect takes several, of any kind, by any name; one is an object, several are a list', async (t) => {
  const [one, two, mac, pid] = await Promise.all([
    fakes.weft('inspect', 'blue', '-o', 'json'),
    fakes.weft('inspect', 'web.blue', 'a', '-o', 'json'),
    fakes.weft('endpoint', 'inspect', endpoint.mac, '-o', 'json'),
    fakes.weft('inspect', 'pid:4711', '-o', 'json'),
  ]);
  t.like(JSON.parse(one.stdout), { name: 'blue', driver: 'overlay' });
  t.like(JSON.parse(two.stdout), [{ name: 'web' }, { name: 'a', state: 'up' }]);
  t.like(JSON.parse(mac.stdout), { name: 'web' });
  // Only this host's agent knows whose process that is.
  t.like(JSON.parse(pid.stdout), { name: 'web' });
});

test('version: of the program, the agent and the controller, also where one is away', async (t) => {
  const both = await fakes.weft('version', '-o', 'json');
  t.like(JSON.parse(both.stdout), { agent: '0.1.0', controller: '0.1.0' });
  const alone = await run(['version'], { WEFT_CONTROLLER: '127.0.0.1:1', WEFT_AGENT: '/nowhere/agent.sock' });
  t.is(alone.code, 0);
  t.regex(alone.stdout, /^Client: +\d+\.\d+\.\d+\nAgent: +does not answer\nController: +does not answer\n/);
});

test('--watch goes on until Ctrl-C, which ends it well', async (t) => {
  const env = { ...process.env, WEFT_CONTROLLER: fakes.address, WEFT_AGENT: fakes.socket };
  const child = spawn(WEFT, ['node', 'ls', '-q', '--watch', '1'], { env });
  t.teardown(() => void child.kill('SIGKILL'));
  let seen = '';
  child.stdout.on('data', (bytes: Buffer) => (seen += bytes.toString()));
  const code = new Promise((resolve) => child.once('exit', resolve));
  await until('it is printed twice', () => seen === 'a\n\na\n');
  child.kill('SIGINT');
  t.is(await code, 0);
});

const WRONG: [line: string, next: RegExp][] = [
  ['ls', /weft network ls, weft endpoint ls and weft node ls/],
  ['network crate', /Did you mean `weft network create`\? See `weft network --help`/],
  ['stat', /Did you mean `weft status`\? See `weft help`/],
  ['stats', /weft top/],
  ['weave status', /docs\/from-weave\.md/],
  ['network foo', /See `weft network --help`/],
  ['endpoint ls --ntwork x', /Did you mean --network\? See `weft endpoint ls --help`/],
  ['launch', /weft init/],
  ['status connections', /weft ping/],
  ['report', /weft bundle/],
  ['rmpeer x', /weft node rm/],
  ['dns-add x', /weft dns add/],
  ['reset', /weft leave/],
  ['network connect blue web', /weft attach/],
  ['swarm init', /weft init/],
  ['node status', /weft status/],
  ['get nodes', /weft node ls/],
  ['agent -etcd-endpoints x', /is here --etcd/],
  ['agent --iface eth0', /is here --underlay-iface/],
  ['top --interval 2h', /Give 1s to 1h/],
  ['network ls --filter name', /KEY=VALUE/],
  ['network ls --filter nosuch=1', /Filter by name, driver/],
  ['network ls --format {{name}}', /not understood/],
  ['network ls --format {{.nosuch}}', /there is no field nosuch/],
];

for (const [line, next] of WRONG)
  test(`weft ${line}: leads to what was meant`, async (t) => {
    // bin/weft starts the agent.
    const words = line.split(' ');
    const { code, stdout, stderr } = await (words[0] === 'agent'
      ? fakes.weft(...words)
      : fakes.weftHere(...words));
    t.is(stdout, '');
    t.not(code, 0);
    t.regex(stderr, next);
  });

for (const line of [
  'top',
  'trace',
  'events',
  'check',
  'inspect',
  'version',
  'ping',
  'diff',
  'capture',
  'bundle',
  'ipam',
  'connectivity',
])
  test(`weft ${line} is not taken for another word`, async (t) => {
    const { code, stdout, stderr } = await fakes.weftHere(line, '--help');
    t.is(code, 0);
    t.regex(stdout, new RegExp(`^Usage: weft ${line}\\b`));
    t.notRegex(stderr, /Did you mean `weft (?:port|run|ps|expose|detach)`/);
  });

test('templates: fields of any case, functions, and what they do not have is refused', (t) => {
  const value = { name: 'web', aliases: ['a', 'b'], labels: { tier: 'db' }, none: null, nested: { id: 7 } };
  const show = (text: string): string => parseTemplate(text).line(value);
  t.is(show('{{.Name}} {{.Nested.ID}}|{{.none}}'), 'web 7|');
  t.is(show('{{join .aliases ", "}} {{len .aliases}} {{upper .name}}'), 'a, b 2 WEB');
  t.is(show('{{json .labels}}{{index .labels "tier"}}'), '{"tier":"db"}db');
  // Which labels there are is the object's own matter.
  t.is(show('{{.labels.tier}}|{{.Labels.none}}{{index .labels "none"}}'), 'db|');
  t.throws(() => show('{{.nested.none}}'), { message: 'format: there is no field none' });
  t.throws(() => parseTemplate('{{.name}} {{join .nope ","}}', Object.keys(value)), {
    message: 'format: there is no field nope',
  });
  for (const bad of [
    '{{.name',
    '{{range .aliases}}',
    '{{.a b}}',
    '{{}}',
    '{{if .x}}',
    '{{join .aliases "\\q"}}',
  ])
    t.throws(() => parseTemplate(bad), { message: /^format: / }, bad);
});

test('filters: a part of a name, the beginning of an id, labels, and members of lists', (t) => {
  const it = {
    id: 'abcdef',
    name: 'web-1',
    ip: '10.1.0.2/24',
    labels: { tier: 'db', x: '' },
    networks: ['blue'],
    n: 3,
    off: false,
  };
  const fits = (...texts: string[]): boolean =>
    passes(
      it,
      texts.map((text) => parseFilter(text, Object.keys(it))),
    );
  t.true(
    fits(
      'name=eb-',
      'id=abc',
      'label=tier=db',
      'label=x',
      'networks=blue',
      'ip=10.1.0.2',
      'n=3',
      'off=false',
    ),
  );
  t.throws(() => parseFilter('labels=x', Object.keys(it)), { message: 'filter: there is no labels' });
  for (const not of [
    'name=db',
    'id=bcd',
    'label=tier=web',
    'label=y',
    'label=toString',
    'networks=red',
    'ip=10.1.0.3',
    'n=4',
  ])
    t.false(fits(not), not);
});

test('colour is for terminals, unless NO_COLOR says otherwise, and marks what is good and bad', (t) => {
  t.true(wantsColour(true, { TERM: 'xterm', NO_COLOR: '' }));
  t.false(wantsColour(false, { TERM: 'xterm' }));
  t.false(wantsColour(true, { TERM: 'xterm', NO_COLOR: '1' }));
  t.false(wantsColour(true, { TERM: 'dumb' }));
  const text = 'Health:  ok\nName: ok\n\nProblems:\n  Problems: of others\n';
  t.is(
    coloured(text),
    'Health:  \u001B[32mok\u001B[0m\nName: ok\n\n\u001B[31mProblems:\u001B[0m\n  Problems: of others\n',
  );
  const red = (word: string): string => `\u001B[31m${word}\u001B[0m`;
  t.is(coloured('  down  192.0.2.11  down   -  0 ok'), `  down  192.0.2.11  ${red('down')}   -  0 ok`);
  t.is(coloured('  link eth0 is down'), '  link eth0 is down');
  t.is(coloured('Problems of the cluster:\n'), `${red('Problems of the cluster:')}\n`);
  t.is(
    coloured('Verdict: stopped on h2\nReason: stopped'),
    `Verdict: ${red('stopped')} on h2\nReason: stopped`,
  );
});

test('a command that waits says for whom within 3 s, and gives up soon', async (t) => {
  // It takes connections, and never answers.
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const { code, waits } = await run(['node', 'ls', '--insecure'], { WEFT_CONTROLLER: `127.0.0.1:${port}` });
  // Well before it would have been killed.
  t.is(code, 1);
  t.deepEqual(waits, [`weft: waiting for the controller at 127.0.0.1:${port}\n`]);
});

test('what a command shows is known only when it has asked: a wrong field is a wrong call all the same', async (t) => {
  for (const line of ['network inspect blue', 'inspect web', 'status', 'check', 'ipam check']) {
    const { code, stdout, stderr } = await fakes.weft(...line.split(' '), '--format', '{{.nosuch}}');
    t.deepEqual([code, stdout], [2, ''], line);
    t.regex(stderr, /^weft: format: there is no field nosuch\n {6}Fields are \w+, [^\n]+\.\n$/, line);
  }
});

test('lists of a network or node that is not there are errors, with what was perhaps meant', async (t) => {
  const unknown = (kind: string, name: string, next: string): RegExp =>
    new RegExp(`^weft: ${kind} ${name}: there is no such ${kind}\n      ${next}\n$`);
  for (const [line, stderr] of [
    ['ipam show --network blu', unknown('network', 'blu', 'Did you mean blue\\?')],
    ['ipam show --network other', unknown('network', 'other', 'See weft network ls.')],
    ['top --node other', unknown('node', 'other', 'See weft node ls.')],
    ['connectivity test --network other', unknown('network', 'other', 'See weft network ls.')],
    ['connectivity test --nodes a,other', unknown('node', 'other', 'See weft node ls.')],
    ['ping a --network other', /^weft: network other: no path of it leads to a\n/],
  ] as const) {
    const ran = await fakes.weft(...line.split(' '));
    t.deepEqual([ran.code, ran.stdout], [1, ''], line);
    t.regex(ran.stderr, stderr, line);
  }
});

async function saysFirst(
  t: ExecutionContext,
  args: readonly string[],
  env: Record<string, string>,
): Promise<string> {
  const child = spawn(WEFT, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => void child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  await until(`weft ${args[0]} says for what it waits`, () => said !== '');
  child.kill('SIGKILL');
  return said;
}

test('a node that has begun to answer is waited for aloud, too', async (t) => {
  const own = new Fakes();
  await own.start();
  let release: () => void = () => undefined;
  own.held = new Promise((resolve) => (release = resolve));
  t.teardown(() => {
    release();
    own.stop();
  });
  const env = { WEFT_CONTROLLER: own.address, WEFT_AGENT: own.socket };
  t.is(await saysFirst(t, ['diff'], env), `weft: waiting for the agent at ${own.socket}\n`);
  t.is(
    await saysFirst(t, ['diff', 'a'], env),
    `weft: waiting for node a, through the controller at ${own.address}\n`,
  );
});

test.serial('several short waits are a long one, and what was shown meanwhile ends it', async (t) => {
  const write = process.stderr.write.bind(process.stderr);
  let said = '';
  t.teardown(() => void (process.stderr.write = write));
  process.stderr.write = (text: string): boolean => {
    said += text;
    return true;
  };
  seen();
  const began = performance.now();
  let waits = 0;
  for (; said === ''; waits++) await notSilently('several', () => delay(400));
  process.stderr.write = write;
  t.regex(said, /^(?:weft: waiting for several\n)$/);
  t.true(performance.now() - began > 1900);
  t.true(waits <= 7, String(waits));
});

test('streams and calls by HTTP do not wait silently either', async (t) => {
  const agent = join(fakes.folder, 'silent.sock');
  // The kernel takes connections for a process that is stopped.
  const server = createServer((connection) => connection.on('error', () => undefined)).listen(agent);
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const env = { WEFT_CONTROLLER: fakes.address, WEFT_AGENT: agent };
  // A question with many answers; changes, which may take half a minute; names alone.
  for (const args of [['diff'], ['attach', 'blue', 'web'], ['detach', 'blue', 'web'], ['ps', '-q']])
    t.is(await saysFirst(t, args, env), `weft: waiting for the agent at ${agent}\n`);
});

test('tables fit the terminal: the widest columns give way, and headings stay', (t) => {
  const head = ['NAME', 'TARGET', 'STATE'];
  const rows = [
    ['web', `netns:/run/netns/${'x'.repeat(80)}`, 'up'],
    ['db', 'short', 'down'],
  ];
  t.deepEqual(fitted(head, rows, undefined), rows);
  const [first, second] = fitted(head, rows, 60);
  t.is(first?.[0], 'web');
  t.true((first?.[1]?.length ?? 0) < 55 && first?.[1]?.endsWith('…') === true);
  t.deepEqual(second, rows[1]);
  // Less than this helps nobody.
  t.is(fitted(head, rows, 5)[0]?.[1]?.length, 10);
});

test('a table below a heading fits the terminal with its margin', async (t) => {
  const before = Object.getOwnPropertyDescriptor(process.stdout, 'columns');
  Object.defineProperty(process.stdout, 'columns', { value: 60, configurable: true });
  t.teardown(() => {
    if (before === undefined) Reflect.deleteProperty(process.stdout, 'columns');
    else Object.defineProperty(process.stdout, 'columns', before);
  });
  const text = await indentedTable(['NAME', 'WHY'], [['web', 'x'.repeat(200)]]);
  t.deepEqual(
    text.split('\n').map((line) => line.length),
    ['  NAME  WHY'.length, 60],
  );
});
