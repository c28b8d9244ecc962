// weft status for people: what stands where, and what is left out.
import test from 'ava';

import { clusterText, nodeText } from '../../cli/status-text.js';
import type { Peer, Status } from '../../proto/gen/weft/v1/types.js';
import { problem, status } from './samples.js';

const linesOf = async (of: Partial<Status>): Promise<string[]> =>
  (await nodeText({ ...status, ...of })).split('\n');

const peer = (number: number, of: Partial<Peer> = {}): Peer => ({
  ...{ node: `n${number}`, publicIp: `192.0.2.${number % 250}`, state: 'up', rttMs: 0.4 },
  paths: [{ network: 'blue', family: 4, state: 'ok', mtu: 1450, rttMs: 0.4 }],
  ...of,
});

const inFuture = (minutes: number): string => new Date(Date.now() + minutes * 60_000).toISOString();

test('problems come right below the health, and warnings last', async (t) => {
  const lines = await linesOf({
    health: 'degraded',
    problems: [problem('link eth0', 'no carrier', 'plug it in')],
  });
  t.regex(lines[0] ?? '', /^Health: +degraded$/);
  t.deepEqual(lines.slice(1, 7), [
    '',
    'Problems:',
    '  link eth0',
    '    why: no carrier',
    '    fix: plug it in',
    '',
  ]);
  t.regex(lines[7] ?? '', /^Node: +a, 192\.0\.2\.10$/);
  t.true(lines.indexOf('Warnings:') > lines.indexOf('Peers:'));
  // Without any, the node follows the health.
  t.regex((await linesOf({}))[1] ?? '', /^Node: /);
});

test('of a great many problems the first are shown, and the rest counted', async (t) => {
  const problems = Array.from({ length: 70 }, (_, i) => problem(`object ${i}`, 'x', 'y'));
  const lines = await linesOf({ health: 'degraded', problems });
  t.true(lines.includes('  object 49'));
  t.false(lines.includes('  object 50'));
  t.true(lines.includes('  and 20 more, see -o json'));
});

test('few peers are all listed, those that are not well first', async (t) => {
  const lines = await linesOf({
    peers: [peer(1), peer(2, { state: 'down', rttMs: undefined, paths: [] }), peer(3)],
  });
  const at = lines.indexOf('Peers:');
  t.deepEqual(
    lines.slice(at + 2, at + 5).map((line) => line.trim().split(' ')[0]),
    ['n2', 'n1', 'n3'],
  );
});

test('5,000 peers are counted, and the bad ones named', async (t) => {
  const blocked = [{ network: 'blue', family: 4, state: 'blocked', mtu: undefined, rttMs: undefined }];
  const peers = Array.from({ length: 5000 }, (_, i) =>
    i === 1234
      ? peer(i, { state: 'down', rttMs: undefined, paths: [] })
      : peer(i, i === 4321 ? { paths: blocked } : i === 7 ? { node: '', state: 'unknown', paths: [] } : {}),
  );
  const lines = await linesOf({ peers, warnings: [] });
  const at = lines.indexOf('Peers: 4998 up, 1 down, 1 unknown, 1 with broken paths');
  t.true(at > 0, lines.join('\n'));
  t.is(lines.length, at + 4, 'headings and two rows');
  t.regex(lines[at + 2] ?? '', /^ {2}n1234 .* down /);
  t.regex(lines[at + 3] ?? '', /^ {2}n4321 .* blue IPv4 blocked$/);
  const well = await linesOf({ peers: peers.slice(0, 100), warnings: [] });
  t.is(well.at(-1), 'Peers: 99 up, 1 unknown', 'no table without a bad one');
});

test('where very many peers are bad, the first are named and the rest counted', async (t) => {
  const peers = Array.from({ length: 300 }, (_, i) => peer(i, { state: 'down', paths: [] }));
  const lines = await linesOf({ peers, warnings: [] });
  t.true(lines.includes('Peers: 300 down'));
  t.is(lines.at(-1), '  and 280 more that are not well, see -o json');
});

test('the end of a lease is shown only where it was not renewed in time', async (t) => {
  const [blue] = status.networks;
  if (blue === undefined) throw new Error('the sample has no network');
  const textWith = async (expires: string | undefined): Promise<string> =>
    (
      await linesOf({
        networks: [
          { ...blue, expires },
          { ...blue, name: 'red', expires: inFuture(23 * 60) },
        ],
      })
    ).join('\n');
  t.notRegex(await textWith(inFuture(24 * 60)), /EXPIRES|in 24h/);
  t.notRegex(await textWith(undefined), /EXPIRES|never/);
  const late = await textWith(inFuture(20));
  t.regex(late, / EXPIRES$/m);
  t.regex(late, /^ {2}blue .* in 20m$/m);
  t.notRegex(late, /in 23h/);
});

test('a controller’s answer has headings of its own, also for its problems and its store', async (t) => {
  const here = [problem('the agent at /run/weft/agent.sock', 'is away', 'start it')];
  const answer = { ...status, health: 'down', problems: [problem('node c', 'is down', 'start it')] };
  const text = await clusterText(answer, here);
  t.regex(
    text,
    /^Health: down\n\nProblems:\n {2}the agent at .*\n.*\n.*\n\nProblems of the cluster:\n {2}node c\n/,
  );
  t.regex(text, /^Controller:\n {2}Address: .*192\.0\.2\.1:7400$/m);
  t.regex(text, /^ {2}Store: .*connected/m);
  t.regex(text, /^Networks of the cluster:$/m);
  t.regex(text, /^Nodes of the cluster:$/m);
  t.regex(text, /^Warnings of the cluster:$/m);
  t.notRegex(text, /^(?:Node|Networks|Peers|Store|Version|Warnings):/m);
});
