// docs/licences.md names every package that an installation has, with its licence; none of them runs a script at installation.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { CHECKOUT } from '../lab/lab.js';

interface Locked {
  dev?: boolean;
  license?: string;
  hasInstallScript?: boolean;
}

const read = (file: string): string => readFileSync(join(CHECKOUT, file), 'utf8');
const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };
const installed = Object.entries(lock.packages)
  .filter(([path, { dev }]) => path !== '' && dev !== true)
  .map(([path, locked]) => ({ name: path.slice(path.lastIndexOf('node_modules/') + 13), ...locked }));

test('the list of licences is complete and has nothing else', (t) => {
  const listed = [...read('docs/licences.md').matchAll(/^\| `([^`]+)`\s+\| (.+?)\s+\|$/gm)].map(
    ([, name = '', licence = '']) => [name, licence].join(': '),
  );
  const wanted = installed.map(({ name, license }) => [name, license ?? 'none named'].join(': '));
  t.deepEqual(listed, [...new Set(wanted)].toSorted());
  t.deepEqual(
    listed.filter((line) => line.endsWith('none named')),
    [],
  );
});

test('no package needs a script at its installation', (t) => {
  const { allowScripts } = JSON.parse(read('package.json')) as { allowScripts: Record<string, boolean> };
  const scripts = installed.flatMap(({ name, hasInstallScript }) => (hasInstallScript === true ? name : []));
  t.deepEqual(
    scripts.filter((name) => allowScripts[name] !== false),
    [],
  );
});
