// Commands that ask nodes: what they ask, what they print, and their exit status.
import test from 'ava';

import { Fakes } from './fakes.js';
import { answers, endpoint } from './samples.js';

const fakes = new Fakes();
test.before(() => fakes.start());
test.after.always(() => fakes.stop());

const COMMANDS: { line: string; code: 0 | 1; json: object; table: RegExp[]; stderr?: RegExp }[] = [
  {
    line: 'check',
    code: 1,
    json: {
      ok: false,
      checks: [
        { node: 'a', name: 'connection', ok: true },
        { node: 'a', name: 'controller', ok: null, what: 'the clock', why: 'no controller' },
        { node: 'a', name: 'udp 8472', ok: false, what: 'UDP port 8472', why: 'taken', fix: 'Free it.' },
      ],
    },
    // Failures come last, with the next step.
    table: [
      /^etcd +ok +etcd at/m,
      /^clock +\? /m,
      /Failed:\n {2}UDP port 8472\n {4}why: taken\n {4}fix: Free it\.\n\n3 checks: 1 failed, 1 not known/,
    ],
  },
  {
    line: 'ping a',
    code: 0,
    json: {
      paths: [
        { network: 'blue', family: 4, state: 'ok', mtu: 1450, rttMs: { p50: 0.42, p99: 0.9 }, lost: 1 },
      ],
    },
    table: [/^blue +IPv4 +10\.100\.6\.0 +ok +1450 +0\.42 ms +0\.90 ms +1 of 10$/m],
  },
  {
    line: 'diff a',
    code: 1,
    json: { steps: [{ target: 'node', verb: 'create', what: 'link wfvx0000' }] },
    table: [/^node +create +link wfvx0000$/m],
    stderr: /warning: a namespace cannot be looked into/,
  },
  {
    line: 'ipam check',
    code: 1,
    json: {
      ok: false,
      findings: [
        { kind: 'endpoint-of-no-node', network: 'blue', address: '10.100.7.2/24', node: 'gone', safe: false },
      ],
    },
    table: [/^endpoint-of-no-node\/blue\/aa +10\.100\.7\.2\/24 +gone /m],
  },
  {
    line: 'ipam release x',
    code: 0,
    json: [{ kind: 'endpoint-of-no-node' }],
    table: [/^endpoint-of-no-node\/blue\/aa\n$/],
  },
  {
    line: 'ipam show',
    code: 0,
    json: [{ network: 'blue', node: null, subnet: '10.100.5.0/24', used: 0, size: 253 }],
    table: [/^blue +- +10\.100\.5\.0\/24 +0 +253$/m],
  },
];

for (const { line, code, json, table, stderr = /^$/ } of COMMANDS)
  test(`weft ${line}: table, JSON, and exit ${code}`, async (t) => {
    const words = line.split(' ');
    const [asTable, asJson] = await Promise.all([fakes.weft(...words), fakes.weft(...words, '-o', 'json')]);
    t.deepEqual([asTable.code, asJson.code], [code, code], asTable.stderr + asJson.stderr);
    t.regex(asTable.stderr, stderr);
    t.like(JSON.parse(asJson.stdout), json);
    for (const pattern of table) t.regex(asTable.stdout, pattern);
  });

test('weft top: rates between two samples', async (t) => {
  const { code, stdout } = await fakes.weft('top', '--interval', '1s', '--node', 'a', '-o', 'json');
  t.is(code, 0);
  t.like(JSON.parse(stdout), {
    networks: [{ network: 'blue', node: 'a', sentBytes: 0 }],
    endpoints: [{ name: 'web', network: 'blue', node: 'a' }],
  });
});

test.serial('a word is found in the documented order, and what is ambiguous is a wrong call', async (t) => {
  fakes.asked.length = 0;
  t.is((await fakes.weft('ping', endpoint.name, '-c', '3')).code, 0);
  const query = {
    $case: 'ping',
    value: { peer: '', ip: endpoint.ip.split('/')[0], network: 'blue', count: 3 },
  };
  t.like(fakes.asked.at(-1), ['agent inspect', { node: '', query }]);
  const unknown = await fakes.weft('ping', 'nobody');
  t.is(unknown.code, 1);
  t.is(
    unknown.stderr,
    'weft: nobody: no endpoint, container or node is called so\n      See weft endpoint ls and weft node ls.\n',
  );
  const any = await fakes.weft('inspect', 'blu');
  t.is(any.code, 1);
  t.is(
    any.stderr,
    'weft: blu: no endpoint, container, node or network is called so\n      Did you mean blue? See weft endpoint ls, weft node ls and weft network ls.\n',
  );
});

test.serial('without an agent on this host `check` fails, and says so', async (t) => {
  const before = fakes.socket;
  const { code, stdout } = await fakes.weft('check', '--agent', `${before}-none`, '-o', 'json');
  t.is(code, 1);
  t.like(JSON.parse(stdout), { ok: false, checks: [{ node: null, name: 'agent', ok: false }] });
});

test('wrong calls are found before anything is asked', async (t) => {
  for (const line of [
    'capture web',
    'bundle',
    'bundle -w x.tar.gz',
    'ping',
    'check --wait 0',
    'top --sort name',
    'ipam release',
  ]) {
    const { code } = await fakes.weftHere(...line.split(' '));
    t.is(code, 2, line);
  }
  t.true(Object.keys(answers).length > 3);
});
