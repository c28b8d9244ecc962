// Containers that the agent runs.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import { isAlive, processAt } from '../../../agent/kernel/process-id.js';
import { trimLog } from '../../../agent/runtime/container-log.js';
import { ContainerStarts } from '../../../agent/runtime/container-start.js';
import { type ContainerRecord, ContainerState } from '../../../agent/runtime/container-state.js';
import { Containers } from '../../../agent/runtime/containers.js';
import { commandOf } from '../../../agent/runtime/processes.js';
import { failedPrecondition, unavailable, type WeftError } from '../../../core/errors.js';
import { LAUNCH_EXIT, LAUNCH_PID, launchMark } from '../../../core/launch.js';
import { silentLogger } from '../../../daemon/log.js';
import { AttachRequest } from '../../../proto/gen/weft/v1/agent.js';
import { endpointOf, overlay } from '../../core/records.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';
import { until } from '../../lab/wait.js';

// Containers whose state cannot be written when their command ends.
//
// The requested restart or removal happens all the same, a problem is reported, and the state is written once that is possible.

const ID = '0123456789abcdef';
const AGAIN_MS = 200;

interface World {
  containers: Containers;
  problems: Problems;
  command: ChildProcess;
  /** Number of detach calls: one at its end, and one with each start. */
  detaches: () => number;
  refuse: (error: Error | undefined) => void;
  saved: () => ContainerRecord;
  /** Makes the state directory unwritable. @returns repairs it */
  breakState: () => () => void;
}

/** An agent that starts while a container runs. */
function running(t: ExecutionContext, more: Partial<ContainerRecord>): World {
  const folder = mkdtempSync(join(tmpdir(), 'weft-containers-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const stateDir = join(folder, 'state');
  mkdirSync(join(stateDir, 'containers'), { recursive: true });
  const state = new ContainerState(stateDir, join(folder, 'run'));
  const command = spawn('sleep', ['600']);
  t.teardown(() => command.kill('SIGKILL'));
  const process = processAt(command.pid ?? 0);
  if (process === undefined) throw new Error('it does not run');
  const now = new Date().toISOString();
  state.save({
    ...{ id: ID, name: 'web', network: 'none', attachments: [], command: ['true'], directory: '/' },
    ...{ environment: [], detached: true, remove: false, restart: 'no', stopped: false, bootId: 'boot' },
    ...{ process, restarts: 0, createdAt: now, startedAt: now, ...more },
  });
  const run = state.makeFolder(ID);
  writeFileSync(join(run, LAUNCH_PID), String(command.pid));
  writeFileSync(join(run, LAUNCH_EXIT), '7');
  const problems = new Problems();
  let detaches = 0;
  let refusal: Error | undefined;
  const containers = new Containers({
    ...{ state, problems, log: silentLogger, bootId: 'boot', everyMs: 10, againMs: AGAIN_MS },
    networks: {
      attach: () => Promise.reject(new Error('not in this test')),
      detach: () => {
        detaches++;
        // Nothing is started in this test.
        const why =
          refusal ?? (detaches > 1 && more.restart === 'always' ? new Error('no start here') : undefined);
        return why === undefined ? Promise.resolve() : Promise.reject(why);
      },
      endpoints: () => [endpointOf(overlay(), '10.100.1.2/24', { target: 'run:web' })],
      resolvConf: () => '',
      isNode: () => Promise.resolve(false),
      loopback: () => Promise.resolve(),
    },
  });
  containers.restore();
  t.teardown(() => containers.stop());
  return {
    ...{ containers, problems, command },
    detaches: () => detaches,
    refuse: (error) => (refusal = error),
    saved: () =>
      JSON.parse(readFileSync(join(stateDir, 'containers', `${ID}.json`), 'utf8')) as ContainerRecord,
    breakState: () => {
      const path = join(stateDir, 'containers');
      renameSync(path, `${path}.away`);
      writeFileSync(path, '');
      return () => {
        rmSync(path);
        renameSync(`${path}.away`, path);
      };
    },
  };
}

test('--restart always restarts a container although its end cannot be written', async (t) => {
  const { containers, problems, command, detaches, breakState } = running(t, { restart: 'always' });
  breakState();
  command.kill('SIGKILL');
  await until('a start is tried', () => detaches() > 1);
  t.is(containers.get('web').phase, 'restarting');
  t.true(problems.list().some(({ why, fix }) => why.includes('/containers') && fix.includes('writable')));
});

test('the exit status of a container is written as soon as possible', async (t) => {
  const { containers, problems, command, saved, breakState } = running(t, {});
  const mend = breakState();
  command.kill('SIGKILL');
  await until('it has ended', () => containers.get('web').phase === 'exited');
  await until('it is a problem', () => problems.list().length === 1);
  mend();
  await until('its problem is cleared', () => problems.list().length === 0);
  t.is(saved().exitCode, 7);
  t.is(saved().process, undefined);
});

test('a container whose end cannot be settled is a problem, retried slowly and settled later', async (t) => {
  const { containers, problems, command, detaches, refuse, saved } = running(t, {});
  const began = performance.now();
  refuse(failedPrecondition('the state directory /s cannot be used: EROFS', 'Make it writable.'));
  command.kill('SIGKILL');
  await until('it is a problem', () => problems.list().some(({ why }) => why.includes('EROFS')));
  await new Promise((resolve) => setTimeout(resolve, 500));
  // Its process is polled every 10 ms.
  t.true(detaches() <= 1 + (performance.now() - began) / AGAIN_MS, 'not retried at once');
  t.is(containers.get('web').phase, 'running');
  // Once the state directory is writable again, the endpoint is absent.
  refuse(Object.assign(failedPrecondition('gone'), { code: 'NOT_FOUND' }));
  await until('it has ended', () => containers.get('web').phase === 'exited');
  t.deepEqual(problems.list(), []);
  t.is(saved().exitCode, 7);
});

test('--rm keeps the record until it can be deleted', async (t) => {
  const { containers, problems, command, breakState } = running(t, { remove: true });
  const mend = breakState();
  command.kill('SIGKILL');
  await until('it is a problem', () => problems.list().length === 1);
  t.is(containers.list(true).length, 1);
  mend();
  await until('it is gone', () => containers.list(true).length === 0);
  t.deepEqual(problems.list(), []);
});

test('a stop that cannot be written changes nothing', async (t) => {
  const { containers, command, breakState } = running(t, { restart: 'always' });
  const mend = breakState();
  const refused = await t.throwsAsync<WeftError>(containers.stopContainer('web', 0));
  t.truthy(refused.next);
  t.is(containers.get('web').phase, 'running');
  t.false(containers.get('web').record.stopped);
  mend();
  const stopping = containers.stopContainer('web', 1);
  await until('it has ended', () => command.signalCode !== null);
  t.is((await stopping).phase, 'exited');
});

test('an agent that has had no containers notices the end of the first, and of the next', async (t) => {
  const folder = temporaryFolder(t, 'weft-containers-');
  const state = new ContainerState(join(folder, 'state'), join(folder, 'run'));
  const everyMs = 10;
  const containers = new Containers({
    ...{ state, problems: new Problems(), log: silentLogger, bootId: 'boot', everyMs },
    networks: {
      attach: () => Promise.reject(new Error('not in this test')),
      detach: () => Promise.resolve(),
      endpoints: () => [],
      resolvConf: () => '',
      isNode: () => Promise.resolve(true),
      loopback: () => Promise.resolve(),
    },
  });
  containers.restore();
  t.teardown(() => containers.stop());
  for (const id of [ID, 'fedcba9876543210']) {
    const command = spawn('sh', ['-c', 'echo; read word', launchMark(id)], { stdio: 'pipe' });
    t.teardown(() => command.kill('SIGKILL'));
    await once(command.stdout, 'data');
    const { pid = 0 } = command;
    await containers.run({
      ...{ id, pid, network: { kind: 'host' }, networkText: 'host', attach: AttachRequest.create({}) },
      ...{ command: ['true'], directory: '/', environment: [], detached: true, remove: true, restart: 'no' },
    });
    t.is(containers.list(true).length, 1);
    command.kill('SIGKILL');
    await until('its end is noticed', () => containers.list(true).length === 0);
    // Several polls later there is nothing to poll.
    await new Promise((resolve) => setTimeout(resolve, 5 * everyMs));
  }
});

// State files of containers, bounded logs, and the identity of processes.

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

// A start that fails after its container was attached.

test('all of it is rolled back, and its cause is told, though an endpoint cannot be detached', async (t) => {
  const folder = temporaryFolder(t, 'weft-start-');
  const state = new ContainerState(join(folder, 'state'), join(folder, 'run'));
  const detached: string[] = [];
  const starts = new ContainerStarts({
    ...{ state, log: silentLogger },
    find: () => {
      throw new Error('no network is shared');
    },
    networks: {
      attach: ({ network }) => Promise.resolve(endpointOf(overlay({ name: network }), '10.100.1.2/24')),
      detach: (network) => {
        detached.push(network);
        return Promise.reject(unavailable('the firewall cannot be changed'));
      },
      endpoints: () => [],
      resolvConf: () => {
        throw new Error('no name server');
      },
      isNode: () => Promise.resolve(false),
      loopback: () => Promise.resolve(),
    },
  });
  const now = new Date().toISOString();
  const record: ContainerRecord = {
    ...{ id: '0123456789abcdef', name: 'web', network: 'blue', command: ['true'], directory: '/' },
    attachments: ['blue', 'green'].map((network) => ({ request: AttachRequest.create({ network }) })),
    ...{ environment: [], detached: true, remove: false, restart: 'no', stopped: false, bootId: 'boot' },
    ...{ restarts: 0, createdAt: now, startedAt: now },
  };
  const own = processAt(process.pid);
  if (own === undefined) return t.fail();
  await t.throwsAsync(starts.begin(record, own), { message: 'no name server' });
  t.deepEqual(detached, ['green', 'blue']);
  t.false(existsSync(state.folderOf(record.id)));
  t.is(starts.pidOf('web'), undefined);
});
