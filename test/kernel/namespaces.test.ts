// Errors for TARGETs that cannot be opened, from an unprivileged process.
import { container } from './private.js';

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import test from 'ava';

interface Outcome {
  code: string;
  message: string;
  next: string;
}

const OPENER = fileURLToPath(new URL('target-opener.js', import.meta.url));
/** Inherited as descriptor 3: a namespace that can be opened, whatever processes may be read. */
const OWN = openSync('/proc/self/ns/net', 'r');
const WITHOUT_PTRACE = ['setpriv', '--bounding-set', '-sys_ptrace', '--inh-caps', '-sys_ptrace'];

/** @param way the command that drops privileges, and runs what follows it */
function openWith(way: readonly string[], targets: readonly string[], engine = '/nowhere'): Outcome[] {
  const [command = '', ...args] = [...way, process.execPath, OPENER, engine, ...targets];
  const text = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit', OWN] });
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Outcome);
}

test('a process whose namespace may not be read: the missing right is named', (t) => {
  const path = `/proc/${process.pid}/ns/net`;
  const [refused, own] = openWith(WITHOUT_PTRACE, [`pid:${process.pid}`, 'netns:/proc/self/ns/net']);
  t.deepEqual(refused, {
    code: 'PERMISSION_DENIED',
    message: `the network namespace ${path} may not be looked at: permission denied`,
    next: 'Run the agent as root, with CAP_SYS_PTRACE.',
  });
  t.is(own?.code, 'OK');
});

test('a process that /proc hides does not count as absent', async (t) => {
  const box = await container();
  const { pid, path } = box;
  const hiding = (way: number): string[] => [
    ...['unshare', '--mount', 'sh', '-c', `mount -t proc -o hidepid=${way} proc /proc && exec "$@"`, 'sh'],
    ...WITHOUT_PTRACE,
  ];
  for (const way of [1, 2, 4]) {
    const [hidden, none] = openWith(hiding(way), [`pid:${pid}`, 'pid:999999999']);
    t.is(hidden?.code, 'PERMISSION_DENIED', `hidepid=${way}: ${hidden?.message}`);
    t.regex(hidden?.message ?? '', new RegExp(`${path} may not be looked at`));
    t.regex(hidden?.next ?? '', /CAP_SYS_PTRACE/);
    t.is(none?.code, 'NOT_FOUND');
  }
  const [hidden] = openWith(hiding(4), [`netns:${path}`]);
  t.regex(hidden?.message ?? '', new RegExp(`process ${pid} runs, and /proc does not show it`));
  await box.end();
  t.is(openWith(hiding(4), [`netns:${path}`])[0]?.code, 'NOT_FOUND');
});

test('a namespace of another user namespace cannot be entered', (t) => {
  const [refused] = openWith(['unshare', '--user', '--map-root-user'], ['netns:/proc/self/fd/3']);
  t.is(refused?.code, 'PERMISSION_DENIED', refused?.message);
  t.regex(refused?.message ?? '', /may not be entered/);
  t.regex(refused?.next ?? '', /CAP_SYS_ADMIN/);
});

test('folders without access, an engine without access, and absent paths', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-netns-'));
  t.teardown(() => {
    chmodSync(folder, 0o700);
    rmSync(folder, { recursive: true });
  });
  writeFileSync(join(folder, 'c1'), '');
  const engine = join(folder, 'docker.sock');
  const server = createServer();
  await once(server.listen(engine), 'listening');
  t.teardown(() => server.close());
  chmodSync(folder, 0);
  const drop = '-dac_override,-dac_read_search';
  const [refused, docker, long, none] = openWith(
    ['setpriv', '--bounding-set', drop, '--inh-caps', drop],
    [`netns:${folder}/c1`, 'docker:web', `netns:/${'x'.repeat(5000)}`, 'netns:/run/netns/there-is-none'],
    engine,
  );
  t.is(refused?.code, 'PERMISSION_DENIED', refused?.message);
  t.regex(refused?.next ?? '', /right to read this file/);
  t.is(docker?.code, 'PERMISSION_DENIED', docker?.message);
  t.regex(docker?.message ?? '', /docker\.sock may not be asked: permission denied/);
  t.is(long?.code, 'NOT_FOUND');
  t.true((long?.message.length ?? 0) < 200);
  t.is(none?.code, 'NOT_FOUND');
});
