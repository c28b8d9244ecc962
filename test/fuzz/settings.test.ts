// Garbage as YAML files, environment and flags of both daemons.
//
// Each is a setting, or an error that names the file, the variable or the flag in one line and the next step in another.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { stringify } from 'yaml';

import { agentProgramWith } from '../../agent/settings.js';
import { controllerProgram } from '../../controller/settings.js';
import { WeftError } from '../../core/errors.js';
import { environmentName, loadSettings } from '../../daemon/settings.js';
import { readEtcdAccess } from '../../daemon/etcd-access.js';
import { readTls } from '../../daemon/tls.js';
import { cnm } from '../../plugin/cnm/index.js';
import { exec } from '../lab/exec.js';
import { WEFT } from '../lab/lab.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { patience, polluted, times, unclear, value, word } from './garbage.js';

const agentProgram = agentProgramWith([cnm]);

const KEYS = [
  ...new Set([...Object.keys(agentProgram.settings), ...Object.keys(controllerProgram.settings)]),
  ...['config', 'help', '__proto__', 'constructor', '<<', '?', 'Node'],
];

const bomb = (levels: number): string =>
  Array.from(
    { length: levels },
    (_, i) =>
      `a${i}: &a${i} [${
        i === 0
          ? 'lol'
          : Array(9)
              .fill(`*a${i - 1}`)
              .join(',')
      }]`,
  ).join('\n');

const ODD_YAML = [
  ...[
    '- a\n- b',
    '{',
    '[',
    '"',
    "'",
    'a: b: c',
    '\t',
    '---\n---\n',
    '%YAML 1.1\n---\n<<: {node: x}',
    '&a *a',
    '*a',
  ],
  ...[
    'node: &a [*a]',
    'etcd: &a\n  - *a',
    'join: [[a]]',
    'join: {a: b}',
    'node: !!binary aGk=',
    'node: !!js/function x',
  ],
  ...[
    'node: !!set {a}',
    'node: |\n  two\n  lines',
    'node: 0x10',
    'node: 1e400',
    'http: 1_000',
    'node: a\nnode: b',
  ],
  ...[
    'node: 2026-11-21',
    'node: ~',
    'node:',
    'null: x',
    '? [a]\n: b',
    '? {a: b}\n: c',
    'true: x',
    '1: 2',
    '"": x',
  ],
  ...[
    '__proto__: {polluted: yes}',
    '__proto__:\n  polluted: yes',
    'constructor: {prototype: {polluted: yes}}',
  ],
  ...[
    '\ufeffnode: a',
    'node: "\\0"',
    'node: "\\ud83d"',
    'etcd: "http://a\\nb:1"',
    '%TAG ! tag:x,2026:\n---\n!a b: c',
  ],
];

/** Slow or breaking input for a parser: each is tried once, not repeatedly by chance. */
const HEAVY_YAML = [
  ...[
    bomb(9),
    `join: ${'['.repeat(20_000)}`,
    'a: {'.repeat(20_000),
    '- '.repeat(20_000),
    '? '.repeat(20_000),
  ],
  `node: ${'9'.repeat(100_000)}`,
  `etcd: [${Array(5000).fill('http://192.0.2.1:2379').join(',')}]`,
];

const line = fc
  .tuple(fc.constantFrom(...KEYS), fc.oneof(value, word))
  .map(([key, given]) => stringify({ [key]: given }));
const yaml = fc.oneof(
  { weight: 6, arbitrary: fc.array(line, { minLength: 1, maxLength: 4 }).map((lines) => lines.join('')) },
  { weight: 2, arbitrary: fc.constantFrom(...ODD_YAML) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom(...KEYS), word).map(([key, given]) => `${key}: ${given}`),
  },
  { weight: 1, arbitrary: fc.tuple(line, fc.string({ unit: 'binary' })).map((parts) => parts.join('')) },
  { weight: 1, arbitrary: value.map((given) => stringify(given)) },
);

/** Loads settings and reads the files that they name, as a daemon would. */
function load(argv: readonly string[], env: Record<string, string>): void {
  for (const loaded of [loadSettings(agentProgram, argv, env), loadSettings(controllerProgram, argv, env)]) {
    if (loaded.kind === 'help') continue;
    readTls(loaded.values);
    readEtcdAccess(loaded.values);
  }
}

/** @param names what the error may name */
function judged(t: ExecutionContext, names: readonly string[], load: () => void): void {
  try {
    load();
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    t.true(['INVALID_ARGUMENT', 'FAILED_PRECONDITION'].includes(error.code), error.message);
    t.is(unclear(error.message), undefined, error.message);
    t.notRegex(`${error.message}${error.next ?? ''}`, /\p{Cc}/u, error.message);
    t.true(
      names.some((name) => error.message.includes(name)),
      `names none of ${names.join(', ')}: ${error.message.slice(0, 500)}`,
    );
  }
}

test('YAML files: settings, or an error that names the file and the place', (t) => {
  t.timeout(patience(60));
  const path = join(temporaryFolder(t, 'weft-fuzz-'), 'weft.yaml');
  fc.assert(
    fc.property(yaml, (written) => {
      writeFileSync(path, written);
      // Settings that only the other daemon lacks are reported by their names.
      judged(t, [path, 'etcd', 'tls', '--'], () => load(['--config', path], { WEFT_ETCD: '' }));
    }),
    { numRuns: times(2000), includeErrorInReport: true },
  );
  // Also with a suffix that ends an unfinished construct.
  for (const written of [...ODD_YAML, ...HEAVY_YAML].flatMap((one) => [one, `${one}\nnonsense: 1\n`])) {
    writeFileSync(path, written);
    judged(t, [path, 'etcd'], () => load(['--config', path], {}));
  }
  t.deepEqual(polluted(), []);
  t.pass();
});

test('environment and flags: settings, or an error that names them', (t) => {
  t.timeout(patience(60));
  const variable = fc.tuple(
    fc.constantFrom(...KEYS).map(environmentName),
    word.map((text) => text.replaceAll('\0', '')),
  );
  fc.assert(
    fc.property(fc.array(variable, { minLength: 1, maxLength: 3 }), (variables) => {
      // A file that a variable names may exist and be invalid.
      const files = variables.flatMap(([name, given]) => (name === 'WEFT_CONFIG' ? [given] : []));
      judged(t, ['environment WEFT_', 'etcd', 'TLS', ...files], () =>
        load([], Object.fromEntries(variables)),
      );
    }),
    { numRuns: times(2000), includeErrorInReport: true },
  );
  const flag = fc.oneof(
    word,
    fc.tuple(fc.constantFrom(...KEYS), word).map(([key, given]) => `--${key}=${given}`),
  );
  fc.assert(
    fc.property(fc.array(flag, { minLength: 1, maxLength: 4 }), (argv) => {
      judged(t, ['flag', 'argument', 'option', 'etcd', '--', 'passwd'], () => load(argv, {}));
    }),
    { numRuns: times(2000), includeErrorInReport: true },
  );
  t.deepEqual(polluted(), []);
  t.pass();
});

test('a daemon started with garbage ends with status 2 and two lines', async (t) => {
  t.timeout(patience(90));
  const path = join(temporaryFolder(t, 'weft-fuzz-'), 'weft.yaml');
  const odd = fc.constantFrom(...[...ODD_YAML, ...HEAVY_YAML].filter((written) => /\S/.test(written)));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('agent', 'controller'), odd, async (daemon, written) => {
      // This key is unknown, whatever the file holds: the daemon never starts.
      writeFileSync(path, `${written}\nnonsense: 1\n`);
      const { code, stderr } = await exec([WEFT, daemon, '--config', path]);
      t.is(code, 2, `${JSON.stringify(written.slice(0, 200))}\n${stderr}`);
      t.is(unclear(stderr), undefined, stderr);
      t.true(stderr.trimEnd().split('\n').length <= 2, stderr);
    }),
    { numRuns: times(6), includeErrorInReport: true },
  );
});
