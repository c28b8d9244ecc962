// What bin/weft runs: the bundle while it is fresh, else the plain build.
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';

import test, { type ExecutionContext } from 'ava';

import { PROGRAMS } from '../../bundle/bundle.js';
import { exec } from '../lab/exec.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

const BUNDLE = "(function (exports) { exports.run = async (argv) => console.log('bundle', ...argv); })";
/** What the one who runs the tests may have set. */
const BARE = { WEFT_BUILD: '', NODE_OPTIONS: '', NODE_V8_COVERAGE: '' };
const RECORD = 'tsconfig.tsbuildinfo';

/** A checkout with bin/weft and, in place of the programs, ones that say which they are. */
function checkout(t: ExecutionContext): {
  folder: string;
  weft: string;
  write: (path: string, text: string | Buffer) => void;
} {
  const folder = temporaryFolder(t, 'weft-choice-');
  const write = (path: string, text: string | Buffer): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  const weft = join(folder, 'bin/weft');
  write('package.json', '{ "type": "module" }');
  write('bin/package.json', readFileSync(join(dirname(WEFT), 'package.json')));
  copyFileSync(WEFT, weft);
  for (const program of ['cli', 'agent', 'controller']) {
    write(
      `build/programs/${program}.js`,
      "export const run = async (argv) => console.log('plain', ...argv);",
    );
    write(`build/bundled/${program}.cjs`, BUNDLE);
  }
  write(`build/${RECORD}`, 'one');
  write(`build/bundled/${RECORD}`, 'one');
  return { folder, weft, write };
}

async function run(command: string[], env: Record<string, string> = {}): Promise<string> {
  const { stdout, stderr } = await exec([process.execPath, ...command], { env: { ...BARE, ...env } });
  return (stdout + stderr).trim();
}

test('a fresh bundle runs, for each program, from everywhere', async (t) => {
  const { folder, weft } = checkout(t);
  t.is(await run([weft, 'network', 'ls']), 'bundle network ls');
  t.is(await run([weft, 'agent', '--help']), 'bundle --help');
  t.is(await run([weft, 'controller']), 'bundle');
  const link = join(folder, 'weft');
  symlinkSync(weft, link);
  t.is((await exec(['/bin/sh', '-c', `cd / && exec ${link} ps`], { env: BARE })).stdout, 'bundle ps\n');
});

test('a bundle of another build does not run', async (t) => {
  const { folder, weft, write } = checkout(t);
  write(`build/${RECORD}`, 'two');
  t.is(await run([weft, 'ps']), 'plain ps');
  rmSync(join(folder, 'build', RECORD));
  t.is(await run([weft, 'ps']), 'plain ps');
  write(`build/${RECORD}`, 'one');
  t.is(await run([weft, 'ps']), 'bundle ps');
  rmSync(join(folder, 'build/bundled'), { recursive: true });
  t.is(await run([weft, 'ps']), 'plain ps');
  rmSync(join(folder, 'build'), { recursive: true });
  t.regex(await run([weft, 'ps']), /^weft: this checkout is not built\n {6}Run: /);
});

test('the plain build can be asked for, and is taken where lines of sources count', async (t) => {
  const { weft } = checkout(t);
  t.is(await run([weft, 'ps'], { WEFT_BUILD: 'plain' }), 'plain ps');
  t.is(await run([weft, 'ps'], { NODE_OPTIONS: '--no-warnings --enable-source-maps' }), 'plain ps');
  t.is(await run(['--enable-source-maps', weft, 'ps']), 'plain ps');
  t.is(await run([weft, 'ps'], { NODE_V8_COVERAGE: temporaryFolder(t, 'weft-choice-') }), 'plain ps');
});

test('a code cache that V8 refuses does no harm', async (t) => {
  const { weft, write } = checkout(t);
  const cache = `build/bundled/cli.${process.version}.cache`;
  const made = new Script(BUNDLE).createCachedData();
  for (const bytes of [made, Buffer.alloc(0), made.subarray(0, made.length / 2), Buffer.alloc(5000, 1)]) {
    write(cache, bytes);
    t.is(await run([weft, 'ps']), 'bundle ps');
  }
  write(cache, new Script('(function () { throw new Error("of another bundle") })').createCachedData());
  t.is(await run([weft, 'ps']), 'bundle ps');
});

test('whatever tsc alone writes makes the bundles stale', async (t) => {
  const folder = temporaryFolder(t, 'weft-choice-');
  const { compilerOptions } = JSON.parse(readFileSync(join(CHECKOUT, 'tsconfig.json'), 'utf8')) as {
    compilerOptions: object;
  };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: { ...compilerOptions, types: [] } }),
  );
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const build = async (text: string): Promise<string> => {
    writeFileSync(join(folder, 'a.ts'), `export const a = ${text};\n`);
    await exec([join(CHECKOUT, 'node_modules/.bin/tsc'), '-p', folder]);
    return readFileSync(join(folder, 'build', RECORD), 'utf8');
  };
  const first = await build('1');
  t.is(await build('1'), first);
  t.not(await build('2'), first);
});

test('where no cluster can be run, the code cache is made of less, and says so', async (t) => {
  const folder = temporaryFolder(t, 'weft-choice-');
  for (const program of PROGRAMS) writeFileSync(join(folder, `${program}.cjs`), BUNDLE);
  const made = join(CHECKOUT, 'build/bundle/cache.js');
  const script = `import { recordAll } from '${made}'; await recordAll('${folder}');`;
  const env = { ...BARE, PATH: '/nonexistent' };
  const { stderr } = await exec([process.execPath, '--input-type=module', '-e', script], { env });
  t.regex(stderr, /^The code cache is made of less than a whole start .*unshare ENOENT\n$/);
  for (const program of PROGRAMS) {
    const cachedData = readFileSync(join(folder, `${program}.${process.version}.cache`));
    t.false(new Script(BUNDLE, { cachedData }).cachedDataRejected, program);
  }
});
