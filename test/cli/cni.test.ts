// `weft cni`: files in their places, again without a change, and never in the place of another's.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import {
  installCni,
  installNetavark,
  listCni,
  listNetavark,
  uninstallCni,
  uninstallNetavark,
  type PluginFile,
} from '../../cli/plugin-files.js';
import type { WeftError } from '../../core/errors.js';
import { SHIM } from '../lab/cni.js';
import { exec } from '../lab/exec.js';
import { run } from './fakes.js';

function folders(t: ExecutionContext): { binDir: string; confDir: string } {
  const root = mkdtempSync(join(tmpdir(), 'weft-cni-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  return { binDir: join(root, 'opt/cni/bin'), confDir: join(root, 'etc/cni/net.d') };
}

const states = (files: readonly PluginFile[]): (string | null)[][] =>
  files.map(({ network, state }) => [network, state]);

test('install, again, and uninstall', (t) => {
  const at = folders(t);
  t.deepEqual(listCni(at), []);
  t.deepEqual(states(installCni(at, ['blue', 'red'])), [
    [null, 'made'],
    ['blue', 'made'],
    ['red', 'made'],
  ]);
  t.is(readFileSync(join(at.binDir, 'weft'), 'utf8'), readFileSync(SHIM, 'utf8'));
  t.is(statSync(join(at.binDir, 'weft')).mode & 0o777, 0o755);
  t.is(statSync(join(at.confDir, 'blue.conflist')).mode & 0o777, 0o644);
  t.deepEqual(JSON.parse(readFileSync(join(at.confDir, 'blue.conflist'), 'utf8')), {
    ...{ cniVersion: '1.0.0', cniVersions: ['1.0.0', '1.1.0'], name: 'blue', madeBy: 'weft cni install' },
    plugins: [
      {
        ...{ type: 'weft', network: 'blue' },
        capabilities: { portMappings: true, ips: true, mac: true, aliases: true, dns: true },
      },
    ],
  });
  t.deepEqual(states(installCni(at, ['blue'])), [
    [null, 'unchanged'],
    ['blue', 'unchanged'],
  ]);
  t.deepEqual(states(uninstallCni(at)), [
    [null, 'deleted'],
    ['blue', 'deleted'],
    ['red', 'deleted'],
  ]);
  t.deepEqual([...readdirSync(at.binDir), ...readdirSync(at.confDir)], []);
  t.deepEqual(uninstallCni(at), []);
});

test('what is not weft’s is neither replaced nor deleted', (t) => {
  const at = folders(t);
  for (const folder of Object.values(at)) mkdirSync(folder, { recursive: true });
  const foreign = join(at.confDir, 'blue.conflist');
  writeFileSync(foreign, '{"name":"blue"}');
  writeFileSync(join(at.confDir, '10-garbage.conflist'), '{');
  const error = t.throws<WeftError>(() => installCni(at, ['blue', 'red']));
  t.is(error.code, 'ALREADY_EXISTS');
  t.regex(error.message, /blue\.conflist/);
  t.false(existsSync(join(at.binDir, 'weft')), 'nothing was begun');
  writeFileSync(join(at.binDir, 'weft'), '#!/bin/sh\nexit 0\n');
  t.throws(() => installCni(at, []), { message: /bin\/weft/ });
  t.deepEqual(uninstallCni(at), []);
  t.is(readFileSync(foreign, 'utf8'), '{"name":"blue"}');
});

test('an old shim is replaced, and what somebody edited stays', (t) => {
  const at = folders(t);
  installCni(at, ['blue'], '/run/other.sock');
  const shim = join(at.binDir, 'weft');
  const conf = join(at.confDir, 'blue.conflist');
  t.is(
    (JSON.parse(readFileSync(conf, 'utf8')) as { plugins: { socket: string }[] }).plugins[0]?.socket,
    '/run/other.sock',
  );
  t.deepEqual(states(listCni(at)), [
    [null, 'unchanged'],
    ['blue', 'unchanged'],
  ]);
  writeFileSync(shim, readFileSync(shim, 'utf8').replace(/^version=.*/m, 'version=0.0.1'));
  const edited = readFileSync(conf, 'utf8').replace('"mac": true', '"mac": false');
  writeFileSync(conf, edited);
  t.deepEqual(states(listCni(at)), [
    [null, 'old'],
    ['blue', 'edited'],
  ]);
  t.deepEqual(states(installCni(at, ['blue'], '/run/other.sock')), [
    [null, 'made'],
    ['blue', 'edited'],
  ]);
  t.is(readFileSync(conf, 'utf8'), edited);
});

test('the commands say what they did, and need no daemon', async (t) => {
  const { binDir, confDir } = folders(t);
  const where = ['--bin-dir', binDir, '--conf-dir', confDir, '-o', 'json'];
  const made = await run(['cni', 'install', '--network', 'blue', ...where], { WEFT_AGENT: '/nonexistent' });
  t.is(made.code, 0, made.stderr);
  t.deepEqual(JSON.parse(made.stdout), [
    { path: join(binDir, 'weft'), network: null, state: 'made' },
    { path: join(confDir, 'blue.conflist'), network: 'blue', state: 'made' },
  ]);
  const gone = await run(['cni', 'uninstall', ...where], {});
  t.is((JSON.parse(gone.stdout) as PluginFile[]).length, 2);
  writeFileSync(join(binDir, 'weft'), 'other');
  const refused = await run(['cni', 'install', ...where], {});
  t.is(refused.code, 1);
  t.like(JSON.parse(refused.stdout), { error: { code: 'ALREADY_EXISTS' } });
});

test('netavark’s plugin, also with another socket, and never in the place of another’s', async (t) => {
  const { binDir: dir } = folders(t);
  t.deepEqual(states(installNetavark(dir)), [[null, 'made']]);
  t.deepEqual(states(installNetavark(dir)), [[null, 'unchanged']]);
  const odd = "/run/it's here/cni.sock";
  t.deepEqual(states(installNetavark(dir, odd)), [[null, 'made']]);
  const path = join(dir, 'weft');
  const { stdout } = await exec(['sh', path, 'create'], { input: '{}' });
  t.regex(stdout, /does not answer at the socket that is configured/);
  t.regex(readFileSync(path, 'utf8'), /^default_socket='.*s here\/cni.sock'$/m);
  t.deepEqual(states(listNetavark(dir)), [[null, 'unchanged']]);
  t.deepEqual(states(uninstallNetavark(dir)), [[null, 'deleted']]);
  writeFileSync(path, '#!/bin/sh\n');
  t.throws(() => installNetavark(dir), { message: /has not made it/ });
  t.deepEqual(listNetavark(dir), []);
  const refused = await run(['netavark', 'install', '--dir', dir], {});
  t.is(refused.code, 1);
});
