// Containers whose state cannot be written when their command ends.
//
// The requested restart or removal happens all the same, a problem is reported, and the state is written once that is possible.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import { ContainerState, type ContainerRecord } from '../../../agent/runtime/container-state.js';
import { Containers } from '../../../agent/runtime/containers.js';
import { processAt } from '../../../agent/kernel/process-id.js';
import { failedPrecondition, type WeftError } from '../../../core/errors.js';
import { LAUNCH_EXIT, LAUNCH_PID } from '../../../core/launch.js';
import { endpointOf, overlay } from '../../core/records.js';
import { silentLogger } from '../../../daemon/log.js';
import { until } from '../../lab/wait.js';

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
