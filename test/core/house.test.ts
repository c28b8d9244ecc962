// The shape of the source, and the licences of what it is built on.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { BACKEND_TYPES, UNSERVED_BACKENDS } from '../../core/backends/index.js';
import { DRIVER_NAMES } from '../../core/drivers/index.js';
import { CHECKOUT } from '../lab/lab.js';
import { importsOf } from '../lanes/changed.js';

// The shape of the source: sizes of files, and words that the glossary replaces.

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

// Seams: backend and driver names are compared only in their folders.
//
// No code outside core/backends compares a backend's name, and none outside core/drivers a driver's. Differences between them
// are fields and methods there, so that a new one is one file and one entry.

const CODE = ['agent', 'bin', 'cli', 'cloud', 'controller', 'core', 'daemon', 'plugin', 'store'];

const alternatives = (names: readonly string[]): string => names.map((name) => `['"]${name}['"]`).join('|');
const backend = alternatives([...BACKEND_TYPES, ...UNSERVED_BACKENDS]);
const driver = alternatives(DRIVER_NAMES);

/** A name that is compared, looked up in a list, or a case. */
const compared = (names: string): RegExp =>
  new RegExp(
    `[!=]==?\\s*(?:${names})|(?:${names})\\s*[!=]==?|\\bcase (?:${names})|\\[[^\\]]*(?:${names})[^\\]]*\\]\\.includes`,
  );

const RULES: { what: string; home: string; pattern: RegExp }[] = [
  { what: 'the name of a backend is compared', home: 'core/backends/', pattern: compared(backend) },
  { what: 'the name of a driver is compared', home: 'core/drivers/', pattern: compared(driver) },
  { what: 'a VNI or VTEP is read', home: 'core/backends/', pattern: /\.v(?:ni|tep6?)\b/ },
];

/** Lines where these words mean something else, or are fields of the API. */
const ALLOWED: { path: RegExp; line: RegExp; why: string }[] = [
  {
    path: /^(?:agent\/kernel|core\/objects|core\/plan)/,
    line: /./,
    why: 'types of links in the kernel, and what such a link has',
  },
  {
    path: /^core\/attachment\.ts$|^agent\/pipework\//,
    line: /kind/,
    why: 'what a pipework attachment is plugged into',
  },
  { path: /^agent\/trace\/way\.ts$/, line: /what !== 'bridge'/, why: 'a point on the way of a packet' },
  { path: /^agent\/api\/status\.ts$/, line: /describeNetwork\(network\)\.vni/, why: 'a field of the API' },
  {
    path: /^controller\/status-service\.ts$/,
    line: /describeNetwork\(network\)\.vni/,
    why: 'a field of the API',
  },
  { path: /^cli\//, line: /network\.vni/, why: 'a field of the API, shown' },
  {
    path: /^plugin\/cnm\/network-spec\.ts$/,
    line: /options\.vni/,
    why: 'an option of docker network create',
  },
  { path: /^plugin\/cni\/ipam\.ts$/, line: /type !== 'bridge'/, why: 'CNI’s own plugin bridge' },
  { path: /^daemon\//, line: /kind/, why: 'protocols of settings and ports, not backends' },
];

function* codeIn(folder: string): Generator<string> {
  for (const entry of readdirSync(join(CHECKOUT, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* codeIn(path);
    else if (/\.[mc]?[jt]s$/.test(entry.name)) yield path;
  }
}

/** UDP is a protocol as well as a backend: outside core/backends it is always a port's protocol. */
const isProtocol = (line: string): boolean => /protocol|transport|'tcp'/i.test(line);

for (const { what, home, pattern } of RULES) {
  test(`nowhere outside ${home}: ${what}`, (t) => {
    const found = CODE.flatMap((folder) => [...codeIn(folder)])
      .filter((path) => !path.startsWith(home))
      .flatMap((path) =>
        readFileSync(join(CHECKOUT, path), 'utf8')
          .split('\n')
          .flatMap((line, index) => {
            const isCode = !/^\s*(?:\/\/|\*|\/\*)/.test(line);
            const isAllowed = ALLOWED.some((one) => one.path.test(path) && one.line.test(line));
            return isCode && pattern.test(line) && !isAllowed && !isProtocol(line)
              ? [`${path}:${index + 1} ${line.trim()}`]
              : [];
          }),
      );
    t.deepEqual(found, []);
  });
}

// docs/licences.md names every package that an installation has, with its licence; none of them runs a script at installation.

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
