// Resolving a TARGET, with a Docker engine that answers as a real one does.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { resolveTarget } from '../../../agent/targets/targets.js';
import { canonicalForms } from '../../../core/target.js';

const folder = mkdtempSync(join(tmpdir(), 'weft-docker-'));
const engine = { socketPath: join(folder, 'docker.sock') };
const away = { socketPath: join(folder, 'none.sock') };
const server = createServer((request, response) => {
  const word = request.url?.split('/')[2] ?? '';
  const containers = [
    { Id: 'f'.repeat(64), Name: '/web', State: { Running: true, Pid: 4711 } },
    { Id: 'e'.repeat(64), Name: '/stopped', State: { Running: false, Pid: 0 } },
    { Id: `c1${'0'.repeat(62)}`, Name: '/stranger', State: { Running: true, Pid: 4712 } },
    { Id: `d1${'0'.repeat(62)}`, Name: '/one', State: { Running: true, Pid: 4713 } },
    { Id: `d1${'1'.repeat(62)}`, Name: '/other', State: { Running: true, Pid: 4714 } },
  ];
  const exact = containers.find(({ Id, Name }) => Id === word || Name === `/${word}`);
  const beginning = containers.filter(({ Id }) => Id.startsWith(word));
  const found = exact ?? (beginning.length === 1 ? beginning[0] : undefined);
  const [status, message] =
    beginning.length > 1
      ? [500, `Multiple IDs found with provided prefix: ${word}`]
      : [404, `No such container: ${word}`];
  response.writeHead(found === undefined ? status : 200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(found ?? { message }));
});

test.before(() => new Promise<void>((resolve) => void server.listen(engine.socketPath, resolve)));
test.after.always(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a path, a process, a Docker container and a word are resolved', async (t) => {
  t.deepEqual(await resolveTarget('netns:/var/run/netns/c1', away), {
    canonical: 'netns:/run/netns/c1',
    path: '/run/netns/c1',
    name: 'c1',
  });
  t.deepEqual(await resolveTarget('pid:12', away), {
    canonical: 'pid:12',
    path: '/proc/12/ns/net',
    name: 'pid-12',
  });
  const web = { canonical: 'docker:web', path: '/proc/4711/ns/net', name: 'web' };
  t.deepEqual(await resolveTarget('docker:web', engine), web);
  t.deepEqual(await resolveTarget('web', engine), web);
  t.deepEqual(canonicalForms('web'), ['docker:web', 'netns:/run/netns/web', 'run:web']);
  t.deepEqual(canonicalForms('netns:/var/run/netns/web'), ['netns:/run/netns/web']);
});

test('an id prefix resolves after docker:, and not as a bare word, which is then a name elsewhere', async (t) => {
  const stranger = { canonical: 'docker:stranger', path: '/proc/4712/ns/net', name: 'stranger' };
  t.deepEqual(await resolveTarget('docker:c1', engine), stranger);
  t.deepEqual(await resolveTarget(`c1${'0'.repeat(62)}`, engine), stranger);
  for (const name of ['c1', 'd1', 'eee']) {
    const run = { canonical: `run:${name}`, path: '/proc/4715/ns/net', name };
    t.deepEqual(await resolveTarget(name, engine, () => run), run);
  }
});

for (const [target, code, words] of [
  ['docker:nope', 'NOT_FOUND', /no Docker container nope/],
  ['docker:stopped', 'FAILED_PRECONDITION', /stopped is not running/],
  ['stopped', 'FAILED_PRECONDITION', /not running/],
  ['nope', 'NOT_FOUND', /no container nope/],
  ['c1', 'NOT_FOUND', /no container c1/],
  ['d1', 'NOT_FOUND', /no container d1/],
  ['eee', 'NOT_FOUND', /no container eee/],
  ['netns:relative', 'INVALID_ARGUMENT', /absolute/],
  ['pid:0', 'INVALID_ARGUMENT', /process id/],
  ['pid:1;reboot', 'INVALID_ARGUMENT', /process id/],
  ['docker:../../etc', 'INVALID_ARGUMENT', /container/],
  ['a b', 'INVALID_ARGUMENT', /not a target/],
  ['', 'INVALID_ARGUMENT', /not given/],
] as const) {
  test(`"${target}" is refused`, async (t) => {
    const error = await t.throwsAsync(resolveTarget(target, engine), { code });
    t.regex(error?.message ?? '', words);
  });
}

test('an engine that does not answer is named', async (t) => {
  const error = await t.throwsAsync(resolveTarget('docker:web', away), { code: 'UNAVAILABLE' });
  t.true(error?.message.includes(away.socketPath));
});

test('a server that is no Docker engine is named, for any response', async (t) => {
  const stranger = { socketPath: join(folder, 'stranger.sock') };
  let said = '';
  const other = createServer((_request, response) => response.end(said));
  await new Promise<void>((resolve) => void other.listen(stranger.socketPath, resolve));
  t.teardown(() => other.close());
  for (said of ['<html>', '', 'null', '{"Id": 1}', '{"Id": "a", "Name": "/web"}']) {
    const error = await t.throwsAsync(resolveTarget('docker:web', stranger), { code: 'UNAVAILABLE' }, said);
    t.regex(error?.message ?? '', /stranger\.sock is no Docker engine/);
  }
});
