// The single executable by itself: its native parts, and what it says as the checkout does.
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { exec, type Outcome } from '../lab/exec.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { executablePath } from './packages.js';

const ENV = { WEFT_INSECURE: '', NODE_OPTIONS: '' };
const KOFFI = 'koffi.node';

/** An agent that has asked the kernel for something when it finds that it has no certificates, and ends. @param stateDir of it */
async function run(weft: string, stateDir: string, before = ''): Promise<Outcome> {
  const files = '--tls-ca /none --tls-cert /none --tls-key /none';
  const agent = `agent --config /dev/null --etcd http://127.0.0.1:1 ${files} --run-dir ${stateDir}/run --state-dir ${stateDir}`;
  return exec(['unshare', '--net', '--mount', 'sh', '-c', `${before} exec ${weft} ${agent}`], { env: ENV });
}

/** As `run`. @throws Error where it ended before */
async function native(t: ExecutionContext, weft: string, stateDir: string): Promise<void> {
  t.regex((await run(weft, stateDir)).stderr, /\/none: /);
}

/** The folder of the native parts below a state directory. */
function partsIn(t: ExecutionContext, stateDir: string): string {
  const [name = '', ...more] = readdirSync(join(stateDir, 'lib'));
  t.deepEqual(more, []);
  t.regex(name, /^[0-9a-f]{64}$/);
  return join(stateDir, 'lib', name);
}

test('it says what the checkout says, whatever the environment has for Node.js', async (t) => {
  const env = { ...ENV, NODE_OPTIONS: '--no-such-option' };
  for (const words of [
    ['--version'],
    ['--help'],
    ['network', 'create', '--help'],
    ['agent', '--help'],
    ['agnet'],
  ]) {
    const [one, other] = await Promise.all([
      exec([executablePath(), ...words], { env }),
      exec([WEFT, ...words], { env: ENV }),
    ]);
    t.deepEqual(
      [one.code, one.stdout, one.stderr],
      [other.code, other.stdout, other.stderr],
      words.join(' '),
    );
  }
});

test('help and refused settings write nothing', async (t) => {
  const stateDir = join(temporaryFolder(t, 'weft-executable-'), 'state');
  const state = ['--state-dir', stateDir];
  t.is((await exec([executablePath(), 'agent', '--help', ...state], { env: ENV })).code, 0);
  t.is((await exec([executablePath(), 'agent', '--nonsense', ...state], { env: ENV })).code, 2);
  t.false(existsSync(stateDir));
});

test('native parts are written to the state directory, and mended where they are not what they were', async (t) => {
  const stateDir = join(temporaryFolder(t, 'weft-executable-'), 'state');
  await native(t, executablePath(), stateDir);
  const folder = partsIn(t, stateDir);
  const whole = readFileSync(join(folder, KOFFI));
  t.true(
    whole.equals(
      readFileSync(
        join(CHECKOUT, `node_modules/@koromix/koffi-linux-${process.arch}/linux_${process.arch}`, KOFFI),
      ),
    ),
  );
  const wrong = Buffer.from(whole);
  wrong.fill(0, 4096, 8192);
  // Those of another version go.
  mkdirSync(join(stateDir, 'lib', 'f'.repeat(64)));
  writeFileSync(join(folder, KOFFI), wrong);
  await native(t, executablePath(), stateDir);
  t.is(partsIn(t, stateDir), folder);
  t.true(readFileSync(join(folder, KOFFI)).equals(whole));
});

test('those beside the executable are taken if they are the right ones', async (t) => {
  const root = temporaryFolder(t, 'weft-executable-');
  const weft = join(root, 'bin/weft');
  cpSync(executablePath(), weft);
  chmodSync(weft, 0o755);
  const written = join(root, 'written');
  await native(t, weft, written);
  cpSync(partsIn(t, written), join(root, 'lib/weft'), { recursive: true });
  const stateDir = join(root, 'state');
  await native(t, weft, stateDir);
  t.false(existsSync(join(stateDir, 'lib')));
  writeFileSync(join(root, 'lib/weft', KOFFI), 'something else');
  await native(t, weft, stateDir);
  partsIn(t, stateDir);
});

test('a state directory that is noexec or read-only is said, with what to do', async (t) => {
  const stateDir = temporaryFolder(t, 'weft-executable-');
  const noexec = await run(executablePath(), stateDir, `mount -t tmpfs -o noexec t ${stateDir};`);
  t.is(noexec.code, 1);
  t.regex(noexec.stderr, /native parts cannot be loaded from .*\/lib\/[0-9a-f]{64}: .*noexec.*--state-dir/);
  const readOnly = await run(executablePath(), stateDir, `mount -t tmpfs -o ro t ${stateDir};`);
  t.is(readOnly.code, 1);
  t.regex(readOnly.stderr, /native parts cannot be written to .*EROFS.*can be written/);
});
