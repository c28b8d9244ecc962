// The lab: connectivity, complete removal, and sweeping.
//
// Leftovers of a killed lab are swept while a living one is not touched.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { CHECKOUT, Lab, OUTSIDE } from './lab.js';
import { folderOf, namespacesOf, removeRun, sweep } from './runs.js';
import { ping, reaches, transfer } from './traffic.js';
import { until } from './wait.js';

test('hosts reach each other, the infra host and the outside, in both families', async (t) => {
  const lab = await Lab.up({ hosts: 2 });
  t.teardown(() => lab.down());
  const [one, two] = [lab.host(1), lab.host(2)];
  for (const ip of [two.ip, two.ip6, lab.infra.ip, OUTSIDE.ip, OUTSIDE.ip6]) {
    t.is((await ping(one, ip)).received, 3, ip);
  }
  const moved = await transfer(one, two, two.ip, 1_000_000);
  t.true(moved.intact);

  await lab.cut(two);
  t.false(await reaches(one, two.ip));
  await lab.heal(two);
  await lab.until('the cable carries again', () => reaches(one, two.ip));
});

test('nothing is left over of a lab', async (t) => {
  const lab = await Lab.up({ hosts: 1 });
  const named = await lab.container();
  const anonymous = await lab.anonymous();
  const { pid } = named.spawn('sleep', ['sleep', '1000']);
  t.true(existsSync(`/proc/${pid}`));
  await lab.down();
  t.deepEqual(namespacesOf(lab.run), []);
  t.false(existsSync(folderOf(lab.run)));
  t.false(anonymous.isRunning);
});

test('leftovers of a killed run are swept, a living run is not', async (t) => {
  const mine = await Lab.up({ hosts: 1 });
  t.teardown(() => mine.down());
  const script = `
    import { Lab } from '${join(CHECKOUT, 'build/test/lab/lab.js')}';
    const lab = await Lab.up({ hosts: 1 });
    const holder = await lab.anonymous();
    lab.host(1).spawn('sleep', ['sleep', '1000']);
    console.log(JSON.stringify({ run: lab.run, pid: holder.pid }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const { run, pid } = await until('the other run is up', () =>
    output === '' ? undefined : (JSON.parse(output) as { run: string; pid: number }),
  );
  t.teardown(() => removeRun(run));

  t.false(sweep().includes(run));
  t.true(namespacesOf(run).length > 0);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  sweep();
  t.deepEqual(namespacesOf(run), []);
  t.false(existsSync(folderOf(run)));
  // Its parent is dead, and not every init reaps its orphans: a zombie has no namespace.
  await until('its processes have ended', () => !existsSync(`/proc/${pid}/ns/net`));
  t.true(namespacesOf(mine.run).length > 0);
  t.true(await reaches(mine.host(1), mine.infra.ip));
});

test('a signal removes the lab', async (t) => {
  const script = `
    import { Lab } from '${join(CHECKOUT, 'build/test/lab/lab.js')}';
    const lab = await Lab.up({ hosts: 1 });
    console.log(lab.run);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let run = '';
  child.stdout.on('data', (chunk: Buffer) => (run += chunk.toString().trim()));
  await until('the other run is up', () => run !== '');
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGINT');
  t.is(await ended, 130);
  t.deepEqual(namespacesOf(run), []);
  t.false(existsSync(folderOf(run)));
});
