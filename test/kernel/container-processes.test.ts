// A container's processes, found by their mounts.
//
// That takes a mount namespace, and so root.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { processAt } from '../../agent/kernel/process-id.js';
import { killAll, processesWith } from '../../agent/runtime/processes.js';
import { until } from '../lab/wait.js';

test('a container’s processes are those that have its folder mounted, with or without blanks in its path', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-processes-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'a b');
  const script = 'mkdir -p "$0" && mount --bind "$0" "$0" && { setsid sleep 1000 & } && sleep 1000';
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script, path]);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  t.teardown(() => killAll(path));
  const all = await until('all three run', () => {
    const found = processesWith(path);
    return found.length === 3 ? found : undefined;
  });
  t.true(all.includes(child.pid ?? 0));
  killAll(path);
  await ended;
  await until('none is left', () => processesWith(path).every((pid) => processAt(pid) === undefined));
  t.pass();
});
