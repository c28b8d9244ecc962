// What a TARGET means, with a Docker engine that answers as a real one does.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { canonicalForms, resolveTarget } from '../../agent/runtime/targets.js';

const folder = mkdtempSync(join(tmpdir(), 'weft-docker-'));
const engine = { socketPath: join(folder, 'docker.sock') };
const away = { socketPath: join(folder, 'none.sock') };
const server = createServer((request, response) => {
  const name = request.url?.split('/')[2];
  const containers: Record<string, object> = {
    web: { Id: 'f'.repeat(64), Name: '/web', State: { Running: true, Pid: 4711 } },
    stopped: { Id: 'e'.repeat(64), Name: '/stopped', State: { Running: false, Pid: 0 } },
  };
  const found = containers[name ?? ''];
  response.writeHead(found === undefined ? 404 : 200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(found ?? { message: `No such container: ${name}` }));
});

test.before(() => new Promise<void>((resolve) => void server.listen(engine.socketPath, resolve)));
test.after.always(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a path, a process, a Docker container, a word', async (t) => {
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
  t.deepEqual(canonicalForms('web'), ['docker:web', 'netns:/run/netns/web']);
  t.deepEqual(canonicalForms('netns:/var/run/netns/web'), ['netns:/run/netns/web']);
});

for (const [target, code, words] of [
  ['docker:nope', 'NOT_FOUND', /no Docker container nope/],
  ['docker:stopped', 'FAILED_PRECONDITION', /stopped is not running/],
  ['stopped', 'FAILED_PRECONDITION', /not running/],
  ['nope', 'NOT_FOUND', /no container nope/],
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

test('an engine that is away is named', async (t) => {
  const error = await t.throwsAsync(resolveTarget('docker:web', away), { code: 'UNAVAILABLE' });
  t.true(error?.message.includes(away.socketPath));
});
