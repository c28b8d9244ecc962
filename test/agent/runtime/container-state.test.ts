// State files of containers, bounded logs, and the identity of processes.
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { trimLog } from '../../../agent/runtime/container-log.js';
import { ContainerState, type ContainerRecord } from '../../../agent/runtime/container-state.js';
import { isAlive, processAt } from '../../../agent/kernel/process-id.js';
import { commandOf } from '../../../agent/runtime/processes.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';
import { until } from '../../lab/wait.js';

const record: ContainerRecord = {
  id: '0123456789abcdef',
  name: 'web',
  network: 'blue',
  attachments: [
    {
      request: {
        network: 'blue',
        target: 'run:web',
        aliases: ['www'],
        noDefaultRoute: false,
        publish: ['80:80'],
        publishEverywhere: false,
        dns: false,
        allowedAddresses: [],
        labels: {},
      },
      endpoint: 'fedcba9876543210',
      ip: '10.100.5.2/24',
    },
  ],
  command: ['sh', '-c', 'echo "a b"'],
  directory: '/',
  environment: ['A=1\n2'],
  detached: true,
  remove: false,
  restart: 'always',
  stopped: false,
  bootId: 'boot',
  process: { pid: 4711, start: '99' },
  exitCode: null,
  restarts: 3,
  createdAt: '2026-11-21T00:00:00Z',
  startedAt: '2026-11-21T00:00:00Z',
};

test('a record is read as it was written, and a torn one is put aside', (t) => {
  const path = temporaryFolder(t, 'weft-containers-');
  const state = new ContainerState(path, join(path, 'run'));
  t.deepEqual(state.load(), { records: [], torn: [] });
  state.save(record);
  writeFileSync(join(path, 'containers', 'fedcba9876543210.json'), '{"id":"fedcba98');
  writeFileSync(join(path, 'containers', 'x.json.new'), 'half');
  const { records, torn } = state.load();
  t.deepEqual(records, [record]);
  t.is(torn.length, 1);
  t.true(existsSync(join(path, 'containers', 'fedcba9876543210.json.torn')));
  t.false(existsSync(join(path, 'containers', 'x.json.new')));
  state.forget(record.id);
  t.deepEqual(state.load(), { records: [], torn: [] });
});

test('the files of a run are shared with joining containers, and no number is parsed from nonsense', (t) => {
  const path = temporaryFolder(t, 'weft-containers-');
  const state = new ContainerState(path, join(path, 'run'));
  const [a, b] = ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb'];
  for (const id of [a, b]) state.makeFolder(id);
  state.writeFiles(a, new Map([['hosts', 'one\n']]));
  state.shareFiles(b, a);
  state.writeFiles(a, new Map([['hosts', 'two\n']]));
  t.is(readFileSync(join(state.folderOf(b), 'hosts'), 'utf8'), 'two\n');
  t.is(state.exitCode(a), undefined);
  writeFileSync(join(state.folderOf(a), 'exit'), '137\n');
  t.is(state.exitCode(a), 137);
  writeFileSync(join(state.folderOf(a), 'exit'), '13x');
  t.is(state.exitCode(a), undefined);
  state.clearFolder(a);
  t.deepEqual(state.folders(), [state.folderOf(b)]);
});

test('a log that is too long keeps its end in LOG.1 and continues', (t) => {
  const log = join(temporaryFolder(t, 'weft-containers-'), 'log');
  trimLog(log, 10);
  writeFileSync(log, '0123456789');
  trimLog(log, 10);
  t.is(statSync(log).size, 10);
  appendFileSync(log, 'abc');
  trimLog(log, 10);
  t.is(statSync(log).size, 0);
  t.is(readFileSync(`${log}.1`, 'utf8'), '3456789abc');
  appendFileSync(log, 'd');
  t.is(readFileSync(log, 'utf8'), 'd');
});

test('a process is known by its id and start', async (t) => {
  const own = processAt(process.pid);
  t.true(own !== undefined && isAlive(own));
  t.false(isAlive({ pid: process.pid, start: '1' }));
  t.is(processAt(2 ** 30), undefined);
  t.true(commandOf(process.pid).length > 1);
  const child = spawn('sleep', ['1000']);
  const one = processAt(child.pid ?? 0);
  t.true(one !== undefined && isAlive(one));
  child.kill('SIGKILL');
  await until('it is gone', () => one !== undefined && !isAlive(one));
});
