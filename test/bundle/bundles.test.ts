// The bundles of this build: as the plain build in all that they say, with a code cache that V8 takes, and with licences.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';

import test from 'ava';

import { PROGRAMS } from '../../bundle/bundle.js';
import { exec } from '../lab/exec.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

const BUNDLED = join(CHECKOUT, 'build/bundled');
const read = (file: string): string => readFileSync(join(BUNDLED, file), 'latin1');

test.before('they are of this build', (t) => {
  const record = readFileSync(join(CHECKOUT, 'build/tsconfig.tsbuildinfo'), 'latin1');
  t.true(read('tsconfig.tsbuildinfo') === record, 'Run: npm run build');
});

/** Prints whether V8 refuses the cache of a program: its path without the ending, and the name of the cache beside it. */
const REJECTED = `
  const { readFileSync } = require('node:fs');
  const { dirname, join } = require('node:path');
  const [program, cache] = process.argv.slice(1);
  const cachedData = readFileSync(join(dirname(program), cache));
  const source = readFileSync(program + '.cjs', 'latin1');
  console.log(new (require('node:vm').Script)(source, { cachedData }).cachedDataRejected);
`;

test('V8 takes the code cache, in the Node.js that made it', async (t) => {
  const caches = readdirSync(BUNDLED).filter((file) => file.endsWith('.cache'));
  t.is(caches.length, PROGRAMS.length);
  for (const program of PROGRAMS) {
    const name = `${program}.${process.version}.cache`;
    if (!caches.includes(name)) continue;
    // V8 also compares its options, which a test's process has of its own.
    const { stdout } = await exec([process.execPath, '-e', REJECTED, join(BUNDLED, program), name]);
    t.is(stdout.trim(), 'false', program);
  }
});

test('a bundle loads nothing of the plain build, and no library but koffi', (t) => {
  for (const program of PROGRAMS) {
    const text = read(`${program}.cjs`);
    // Not a method of that name, which a library of the controller's has.
    t.notRegex(text, /^(?! *\/\/).*(?<!\.)\bimport\((?![^()]*\)\{)/m, program);
    const loaded = new Set([...text.matchAll(/\brequire\("((?!node:)[^"]+)"\)/g)].map(([, name]) => name));
    const builtIn = new Set(builtinModules);
    t.deepEqual(
      [...loaded].filter((name = '') => !builtIn.has(name)),
      program === 'agent' ? ['koffi'] : [],
    );
  }
});

test('every library in a bundle is in the file of licences', (t) => {
  const listed = read('LICENSES.txt');
  for (const program of PROGRAMS) {
    const { sources } = JSON.parse(read(`${program}.cjs.map`)) as { sources: string[] };
    // What a library's own source map names need not be there.
    const folders = new Set(
      sources
        .flatMap((file) => /node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+/.exec(file) ?? [])
        .filter((folder) => existsSync(join(CHECKOUT, folder, 'package.json'))),
    );
    t.true(folders.size > 10);
    for (const folder of folders) {
      const { name, version, license } = JSON.parse(
        readFileSync(join(CHECKOUT, folder, 'package.json'), 'utf8'),
      ) as Record<string, string>;
      t.true(listed.includes(`\n${name} ${version} (${license})\n`), folder);
    }
  }
  t.regex(listed, /\netcd3 [^]*Permission is hereby granted, free of charge/);
});

test('the package that npm makes has the folders that bin/weft looks into', (t) => {
  const { files } = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8')) as { files: string[] };
  for (const folder of ['bin/', 'build/']) t.true(files.includes(folder), folder);
  t.deepEqual(
    files.filter((file) => file.startsWith('!')),
    [],
  );
});

test('both builds say the same', async (t) => {
  const nowhere = [
    '--agent',
    join(temporaryFolder(t, 'weft-bundles-'), 'agent.sock'),
    '--controller',
    '127.0.0.1:1',
  ];
  for (const words of [
    ['--version'],
    ['agent', '--help'],
    ['network', 'lst'],
    ['network', 'ls', '-o', 'json', ...nowhere],
    ['status', ...nowhere],
    ['attach', 'blue', 'nobody', '-o', 'yaml', ...nowhere],
    ['agent', '--etcd', 'nonsense'],
    ['controller', '--http', '192.0.2.1'],
  ]) {
    const [bundled, plain] = await Promise.all(
      ['', 'plain'].map(async (build) => {
        const env = { WEFT_BUILD: build, NODE_OPTIONS: '', NODE_V8_COVERAGE: '' };
        const { code, stdout, stderr } = await exec([process.execPath, WEFT, ...words], { env });
        return { code, stdout, stderr };
      }),
    );
    t.deepEqual(bundled, plain, words.join(' '));
    t.not(`${bundled?.stdout}${bundled?.stderr}`, '', words.join(' '));
  }
});

test('a stack names functions and the file that they are in', async (t) => {
  const words = ['network', 'ls', '--controller', '127.0.0.1:1', '--log-level', 'debug'];
  const stack = async (env: Record<string, string>): Promise<string> =>
    (
      await exec([process.execPath, WEFT, ...words], {
        env: { NODE_OPTIONS: '', NODE_V8_COVERAGE: '', ...env },
      })
    ).stderr;
  t.regex(await stack({ WEFT_BUILD: '' }), /at away \(\S+\/build\/bundled\/cli\.cjs:\d+:\d+\)/);
  t.regex(
    await stack({ NODE_OPTIONS: '--enable-source-maps' }),
    /at away \(\S+\/cli\/services\.ts:\d+:\d+\)/,
  );
});
