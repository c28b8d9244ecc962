// The shape of the source: sizes of files, and words that the glossary replaces.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { importsOf } from '../lanes/changed.js';
import { CHECKOUT } from '../lab/lab.js';

const FOLDERS = [
  'agent',
  'bundle',
  'cli',
  'cloud',
  'controller',
  'core',
  'daemon',
  'plugin',
  'programs',
  'store',
  'test',
  'web',
];

function* sources(folder: string): Generator<string> {
  for (const entry of readdirSync(join(CHECKOUT, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* sources(path);
    else if (/\.tsx?$/.test(path)) yield path;
  }
}

const linesOf = (path: string): string[] => readFileSync(join(CHECKOUT, path), 'utf8').split('\n');

/** Words of earlier releases, and where one of them is still a format or another thing. */
const OLD_WORDS: readonly { word: RegExp; except?: RegExp }[] = [
  { word: /\b(mourn\w*|comfort\w*|rivals?|tally|takeBack|deaf\w*|buried|overtaken)\b/i },
  { word: /\b(peer-records|lease-keeper|join-when-there|taken-port|held-?port|container-links)\b/i },
  { word: /\b(forgetFlows|NodeFirewall|Retaking|Exposure|AgentDoor|neighbour-questions)\b/ },
  // The field of release 0.1 in etcd and state files; a name in a test.
  { word: /\bdoors?\b/i, except: /\bdoor\??:|'door'|`door`|\bdoor\b,|\.door\b|door \?\?|_door/ },
  // Folders of release 0.1 in the state directory; the encoding of protobuf.
  { word: /\bwires?\b/i, except: /wires?[-/']|\/wire'|WIRES?\b|Wire types/ },
];

test('none of the words that the glossary replaces is left', (t) => {
  const found = FOLDERS.flatMap((folder) => [...sources(folder)])
    .filter((path) => path !== 'test/core/house.test.ts')
    .flatMap((path) =>
      linesOf(path).flatMap((line, i) =>
        OLD_WORDS.some(({ word, except }) => word.test(line) && except?.test(line) !== true)
          ? [`${path}:${i + 1} ${line.trim()}`]
          : [],
      ),
    );
  t.deepEqual(found, []);
});

test('few files are long: at most three over 400 lines outside of tests', (t) => {
  const long = FOLDERS.filter((folder) => folder !== 'test')
    .flatMap((folder) => [...sources(folder)])
    .filter((path) => linesOf(path).length > 401);
  t.true(long.length <= 3, long.join(', '));
});

test('agent/ has folders by subject, and few files beside them', (t) => {
  const files = readdirSync(join(CHECKOUT, 'agent'), { withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  t.true(files.length <= 8, files.map(({ name }) => name).join(', '));
});

test('every folder of agent/ has an index.ts, by which the others import it', (t) => {
  for (const entry of readdirSync(join(CHECKOUT, 'agent'), { withFileTypes: true }))
    if (entry.isDirectory())
      t.true(readdirSync(join(CHECKOUT, 'agent', entry.name)).includes('index.ts'), entry.name);
});

/** The files that a program loads at its start and that load one of these packages. */
function loadingAtStart(main: string, packages: readonly string[]): { reached: number; loading: string[] } {
  // What starts the program imports its mains for importsOf; here it is the program itself.
  const loaded = (text: string): string =>
    text.replaceAll(/^import type [^;]*;|\bimport\(|\bbin\/weft\b/gm, '');
  const texts = new Map(
    FOLDERS.flatMap((folder) => [...sources(folder)]).map((path) => [path, loaded(linesOf(path).join('\n'))]),
  );
  const imports = importsOf(texts);
  const reached = new Set([main]);
  for (const file of reached) for (const to of imports.get(file) ?? []) reached.add(to);
  const loads = (file: string): boolean =>
    packages.some((name) => texts.get(file)?.includes(`from '${name}'`));
  return { reached: reached.size, loading: [...reached].filter(loads) };
}

test('the commands start without the schema library and without gRPC', (t) => {
  const { reached, loading } = loadingAtStart('cli/main.ts', ['zod', '@grpc/grpc-js']);
  t.true(reached > 30);
  t.deepEqual(loading, []);
});

test('an agent and a command start without the X.509 library, and nobody with that of XML', (t) => {
  for (const main of ['agent/main.ts', 'cli/main.ts', 'controller/main.ts']) {
    const libraries = ['fast-xml-parser', ...(main === 'controller/main.ts' ? [] : ['@peculiar/x509'])];
    const { reached, loading } = loadingAtStart(main, libraries);
    t.true(reached > 30);
    t.deepEqual(loading, [], main);
  }
});
