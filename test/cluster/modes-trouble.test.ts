// `weft run` through failures of agents, etcd, state files, and reboots.
//
// Containers go on; what happened meanwhile is known afterwards.
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../lab/cluster.js';
import { containerCalls, readText } from '../lab/containers.js';
import { exec } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { reboot } from '../lab/reboot.js';

let lab: Cluster;
let etcd: LabProcess;
const { weft, detached, all, one, recordPath, nothingLeft } = containerCalls(() => lab);

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  etcd = await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  // As an init system that sets none.
  const umask = process.umask(0);
  const started = lab.startAgents(['h1', 'h2']);
  process.umask(umask);
  await started;
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

test.serial('other users cannot write to what the agent creates, whatever its umask', (t) => {
  const { pid } = lab.process('agent-h1');
  t.regex(readText(`/proc/${pid}/status`), /^Umask:\t0022$/m);
  t.is(statSync(lab.environment('h1')['WEFT_AGENT'] ?? '').mode & 0o777, 0o600);
});

test.serial(
  'containers survive a killed agent, and what happened meanwhile is known afterwards',
  async (t) => {
    const a = await detached('h1', ['--network', 'blue', '--name', 'a'], 'sleep', '1000');
    const b = await detached('h2', ['--network', 'blue', '--name', 'b'], 'sleep', '1000');
    await detached(
      'h1',
      ['--name', 'ends'],
      'sh',
      '-c',
      `while [ ! -e ${lab.folder}/end ]; do sleep 0.1; done; exit 6`,
    );
    const { WEFT_AGENT: socket = '' } = lab.environment('h1');
    const orphan = join(lab.folder, 'h1', 'run', 'containers', 'fedcba9876543210');
    mkdirSync(orphan);
    const front = lab.spawn('front', 'h1', [
      ...[WEFT, 'run', '--agent', socket, '--network', 'blue', '--name', 'front', '--'],
      ...['sh', '-c', `while [ ! -e ${lab.folder}/end ]; do sleep 0.1; done; exit 8`],
    ]);
    await lab.until(
      'all run',
      async () => (await all()).filter(({ state }) => state === 'running').length === 3,
    );
    await lab.process('agent-h1').kill();
    const reaches = await exec([
      'nsenter',
      '--target',
      String(a.container.pid),
      '--net',
      '--',
      'ping',
      '-c1',
      '-W3',
      bare(b.ip),
    ]);
    t.is(reaches.code, 0);
    writeFileSync(join(lab.folder, 'end'), '');
    t.is(await front.ended, 8, 'its exit status is handed on without an agent, too');
    await lab.startAgents(['h1']);
    const now = await lab.until('the exit statuses are known', async () => {
      const list = await all();
      return list.filter(({ state }) => state === 'exited').length === 2 ? list : undefined;
    });
    t.deepEqual(now.map(({ name, state, exitCode }) => `${name} ${state} ${exitCode}`).sort(), [
      'a running null',
      'ends exited 6',
      'front exited 8',
    ]);
    t.false(existsSync(orphan), 'of a start that the agent did not live to write down');
    const still = now.find(({ name }) => name === 'a');
    t.is(still?.pid, a.container.pid);
    t.like(still?.endpoints[0], { id: a.id, ip: a.ip });
    t.is((await weft('exec', 'a', '--', 'ping', '-c1', '-W3', bare(b.ip))).code, 0);
    // Damage in it is repaired as in every container.
    await weft('exec', 'a', '--', 'ip', 'route', 'flush', 'default');
    await lab.until('its route is restored', async () =>
      (await weft('exec', 'a', '--', 'ip', 'route')).stdout.includes('default'),
    );
    for (const name of ['a', 'ends', 'front']) t.is((await weft('rm', '--force', name)).code, 0);
    await lab.weft('h2', 'rm', '--force', 'b');
    await nothingLeft(t);
  },
);

test.serial('--restart always keeps name and address, backs off, and ends with stop', async (t) => {
  const first = await detached(
    'h1',
    ['--network', 'blue', '--name', 'again', '--restart', 'always'],
    ...['sh', '-c', 'echo run; exit 4'],
  );
  const later = await lab.until('it ran three times', async () => {
    const it = await one('again');
    // While it runs it has no status yet.
    return (it?.restarts ?? 0) >= 3 && it?.exitCode !== null ? it : undefined;
  });
  t.like(later, { exitCode: 4 });
  t.is((await weft('stop', 'again')).code, 0);
  const runs = (await weft('logs', 'again')).stdout;
  t.regex(runs, /^(run\n){3,}$/);
  await delay(1000);
  t.is((await weft('logs', 'again')).stdout, runs, 'it stays stopped');
  t.is((await one('again'))?.state, 'exited');
  await weft('rm', 'again');

  const steady = await detached(
    'h1',
    ['--network', 'blue', '--name', 'steady', '--restart', 'always'],
    ...['sleep', '1000'],
  );
  process.kill(steady.container.pid ?? 0, 'SIGKILL');
  const back = await lab.until('it is back', async () => {
    const it = await one('steady');
    return it?.state === 'running' && it.restarts === 1 && it.endpoints.length === 1 ? it : undefined;
  });
  t.not(back.pid, steady.container.pid);
  t.like(back.endpoints[0], { id: steady.id, name: 'steady', ip: steady.ip, mac: steady.mac });
  t.not(bare(first.ip), '');
});

test.serial('--restart always: a container stopped or removed during its start stays so', async (t) => {
  const names = [1, 2, 3, 4, 5, 6].map((n) => `brief${n}`);
  await Promise.all(
    names.map((name) => detached('h1', ['--network', 'blue', '--name', name, '--restart', 'always'], 'true')),
  );
  const starts = (): Promise<unknown> => Promise.all(names.map((name) => weft('start', name)));
  const statesOf = async (): Promise<string[]> =>
    (await all()).filter(({ name }) => names.includes(name)).map(({ state }) => state);
  for (let round = 0; round < 2; round++) {
    await starts();
    const stops = await Promise.all(names.map((name) => weft('stop', name)));
    t.deepEqual(
      stops.map(({ code }) => code),
      names.map(() => 0),
    );
    await delay(500);
    t.deepEqual(
      await statesOf(),
      names.map(() => 'exited'),
      'it stays stopped',
    );
  }
  await detached('h1', ['--name', 'once', '--rm'], 'sleep', '1000');
  t.is((await weft('rm', '--force', 'once')).code, 0, 'one that goes by itself when it ends');
  await starts();
  const removed = await Promise.all(names.map((name) => weft('rm', '--force', name)));
  t.deepEqual(
    removed.map(({ code, stderr }) => `${code} ${stderr}`),
    names.map(() => '0 '),
  );
  await delay(500);
  t.deepEqual(await statesOf(), []);
  const left = await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls', '--node', 'h1');
  t.false(left.some(({ name }) => name.startsWith('brief')));
});

test.serial('after a reboot --restart always starts again; a container without it has exited', async (t) => {
  const steady = await one('steady');
  const before = steady?.endpoints[0];
  const once = await detached('h1', ['--network', 'blue', '--name', 'once'], 'sleep', '1000');
  const gone = await detached('h1', ['--network', 'blue', '--name', 'gone', '--rm'], 'sleep', '1000');
  await lab.until(
    'etcd knows',
    async () => (await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls', '--node', 'h1')).length === 3,
  );
  await lab.process('agent-h1').kill();
  for (const path of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (readText(`/proc/${path}/mountinfo`).includes(` ${lab.folder}/h1/run/`))
      process.kill(Number(path), 'SIGKILL');
  }
  await reboot(lab, 'h1');
  await lab.startAgents(['h1']);
  const back = await lab.until('it runs again', async () => {
    const it = await one('steady');
    return it?.state === 'running' && it.endpoints.length === 1 ? it : undefined;
  });
  t.like(back.endpoints[0], { id: before?.id, name: 'steady', ip: before?.ip, mac: before?.mac });
  t.like(await one('once'), { state: 'exited', exitCode: null, id: once.container.id });
  t.is(await one('gone'), undefined);
  t.false(existsSync(recordPath(gone.container.id)));
  await lab.until('etcd knows', async () => {
    const names = (await lab.json<EndpointJson[]>('h2', 'endpoint', 'ls', '--node', 'h1')).map(
      ({ name }) => name,
    );
    return names.join() === 'steady';
  });
  t.is((await weft('start', 'once')).code, 0);
  t.is((await one('once'))?.state, 'running');
  for (const name of ['steady', 'once']) t.is((await weft('rm', '--force', name)).code, 0);
  await nothingLeft(t);
});

test.serial('with etcd away it runs all the same; etcd gets the endpoint later', async (t) => {
  await etcd.kill();
  const a = await detached('h1', ['--network', 'blue', '--name', 'lonely'], 'sleep', '1000');
  t.regex(a.ip, /^10\.100\./);
  t.is((await weft('run', '--rm', '--network', 'blue', '--', 'sh', '-c', 'exit 3')).code, 3);
  etcd = await lab.startEtcd();
  await lab.until('etcd has the endpoint', async () =>
    (await lab.etcdctl('get', '--prefix', '/weft/networks/blue/endpoints/')).includes(a.id),
  );
  t.is((await weft('rm', '--force', 'lonely')).code, 0);
  await nothingLeft(t);
});

test.serial('a torn state file costs its own container only', async (t) => {
  await detached('h1', ['--name', 'whole'], 'sleep', '1000');
  await lab.process('agent-h1').kill();
  writeFileSync(recordPath('0123456789abcdef'), '{"id":');
  await lab.startAgents(['h1']);
  t.is((await one('whole'))?.state, 'running');
  const { problems } = await lab.json<{ problems: { what: string }[] }>('h1', 'status');
  t.true(problems.some(({ what }) => what.includes('0123456789abcdef.json.torn')));
  rmSync(`${recordPath('0123456789abcdef')}.torn`);
  t.is((await weft('rm', '--force', 'whole')).code, 0);
});

test.serial('--cleanup ends the containers of weft', async (t) => {
  const a = await detached(
    'h1',
    ['--network', 'blue', '--name', 'a', '--restart', 'always'],
    'sleep',
    '1000',
  );
  await lab.json('h1', 'expose', 'blue');
  await lab.process('agent-h1').stop();
  t.true(existsSync(`/proc/${a.container.pid}`), 'it outlives the agent');
  const { code, stderr } = await weft('agent', ...lab.agentFlags('h1'), '--cleanup');
  t.is(code, 0, stderr);
  await lab.until('its process has ended', () => !existsSync(`/proc/${a.container.pid}`));
  t.false(existsSync(recordPath(a.container.id)));
  t.notRegex(await lab.sh('h1', 'ip link; ip route'), /wf(br|vx|ep)/);
});
