// State files: atomic writes, fsync where required, torn files put aside.
import { execFileSync } from 'node:child_process';
import fs, {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { WeftError } from '../../core/errors.js';
import { RecordFolder, type RecordFolderOptions, RecordTable } from '../../daemon/record-folder.js';
import { replaceFile } from '../../daemon/state-file.js';
import { countedCalls } from '../fakes/file-calls.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

interface Item {
  id: string;
  text: string;
}

function parse(value: unknown): Item {
  if (typeof value !== 'object' || value === null || !('id' in value) || !('text' in value))
    throw new Error('it is no item');
  return { id: String(value.id), text: String(value.text) };
}

const open = (folder: string, more: Partial<RecordFolderOptions<Item>> = {}): RecordFolder<Item> =>
  new RecordFolder({ folder, parse, nameOf: ({ id }) => id, ...more });

const one = { id: 'one', text: 'first' };

const failure = (code: string): Error => Object.assign(new Error(`${code}: it fails`), { code });

test('a record is loaded again until it is deleted, and deleting it twice is no error', (t) => {
  const folder = open(join(temporaryFolder(t, 'weft-records-'), 'a', 'items'));
  t.deepEqual(folder.load(), { records: [], torn: [] });
  folder.put(one);
  folder.put({ ...one, text: 'second' });
  t.deepEqual(folder.load().records, [{ id: 'one', text: 'second' }]);
  folder.delete('one');
  folder.delete('one');
  t.deepEqual(folder.load(), { records: [], torn: [] });
});

test('a table agrees with its files, and is unchanged where a write fails', (t) => {
  const path = join(temporaryFolder(t, 'weft-records-'), 'items');
  const table = new RecordTable<Item>({ folder: path, parse, nameOf: ({ id }) => id });
  table.put(one);
  rmSync(path, { recursive: true });
  writeFileSync(path, '');
  t.throws(() => table.put({ ...one, text: 'second' }), { instanceOf: WeftError });
  t.throws(() => table.delete('one'), { instanceOf: WeftError });
  t.deepEqual(table.list(), [one]);
});

for (const [what, name, text, why] of [
  ['torn', 'bad', '{"id":"b', /JSON/],
  ['empty', 'bad', '', /JSON/],
  ['of another shape', 'bad', '{}', /no item/],
  ['about another record', 'bad', '{"id":"one","text":""}', /about one/],
] as const) {
  test(`a file that is ${what} is put aside, kept and reported`, (t) => {
    const path = temporaryFolder(t, 'weft-records-');
    const folder = open(path);
    folder.put(one);
    writeFileSync(join(path, `${name}.json`), text);
    const { records, torn } = folder.load();
    t.deepEqual(records, [one]);
    t.like(torn, [{ id: name, path: join(path, `${name}.json.torn`) }]);
    t.regex(torn[0]?.why ?? '', why);
    t.is(readFileSync(join(path, `${name}.json.torn`), 'utf8'), text);
    t.deepEqual(folder.load(), { records: [one], torn: [] });
    // A new record of that name is separate; the file put aside stays until it is deleted itself.
    folder.delete(name);
    t.true(existsSync(join(path, `${name}.json.torn`)));
    folder.deleteTorn(name);
    t.deepEqual(readdirSync(path), ['one.json']);
  });
}

test('a folder that refuses torn files leaves them where they are', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  writeFileSync(join(path, 'bad.json'), '{');
  const folder = open(path, { refuse: (file, why) => new Error(`${file} ${why}`) });
  t.true(t.throws(() => folder.load())?.message.startsWith(join(path, 'bad.json')));
  t.deepEqual(readdirSync(path), ['bad.json']);
});

test('read only, a folder reports the same, and nothing on disk changes', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  open(path).put(one);
  writeFileSync(join(path, 'bad.json'), '{');
  writeFileSync(join(path, 'one.json.new'), '{"id":"on');
  const before = readdirSync(path);
  const folder = open(path, { readOnly: true });
  t.like(folder.load(), { records: [one], torn: [{ id: 'bad', path: join(path, 'bad.json') }] });
  folder.put({ id: 'two', text: '' });
  folder.delete('one');
  folder.deleteTorn('bad');
  t.deepEqual(readdirSync(path), before);
  const missing = join(path, 'missing');
  const none = open(missing, { readOnly: true });
  none.create();
  t.deepEqual(none.load(), { records: [], torn: [] });
  t.false(existsSync(missing));
});

test('a file that is gone by the time that it is read is no torn one', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  symlinkSync(join(path, 'gone'), join(path, 'two.json'));
  open(path).put(one);
  const refuse = (file: string): Error => new Error(file);
  t.deepEqual(open(path, { refuse }).load(), { records: [one], torn: [] });
});

test('a file left half written by a killed process is removed at load, and other files stay', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  const folder = open(path);
  folder.put(one);
  writeFileSync(join(path, 'one.json.new'), '{"id":"on');
  mkdirSync(join(path, 'two.json.new'));
  writeFileSync(join(path, 'one.log'), 'of another program');
  t.deepEqual(folder.load().records, [one]);
  t.deepEqual(readdirSync(path).toSorted(), ['one.json', 'one.log']);
});

test('a failed write leaves the file as it was, and nothing beside it', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  open(path).put(one);
  for (const broken of ['writeFileSync', 'renameSync', 'fsyncSync'] as const) {
    const calls = countedCalls({
      [broken]: () => {
        throw failure('ENOSPC');
      },
    });
    const folder = open(path, { durable: true, calls });
    const error = t.throws(() => folder.put({ ...one, text: 'second' }), { instanceOf: WeftError });
    t.is(error?.code, 'FAILED_PRECONDITION');
    t.true(error?.message.includes(join(path, 'one.json')) && error.message.includes('ENOSPC'));
    t.regex(error?.next ?? '', /space.*--state-dir/);
    t.deepEqual(readdirSync(path), ['one.json'], broken);
    t.deepEqual(open(path).load().records, [one], broken);
  }
});

test('each error gives the next step for its cause', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  for (const [code, next] of [
    ['EDQUOT', /space/],
    ['EROFS', /Mount/],
    ['EACCES', /writable/],
    ['ENOTDIR', /folder in its place/],
  ] as const) {
    const calls = countedCalls({
      writeFileSync: () => {
        throw failure(code);
      },
    });
    const error = t.throws(() => open(path, { calls }).put(one), { instanceOf: WeftError });
    t.regex(error?.next ?? '', next);
    t.like(error?.cause, { code });
  }
});

/** A user other than root becomes root in a user namespace, where a tmpfs may be mounted. */
const asRoot = process.geteuid?.() === 0 ? [] : ['--map-root-user'];

test('a full disk, and a read-only folder', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  const script = `mount -t tmpfs -o size=16k,nr_inodes=16 none ${path} || exit 77; exec "$@"`;
  const work = `
    const { RecordFolder } = await import(process.argv[1]);
    const { execFileSync } = await import('node:child_process');
    const { readdirSync } = await import('node:fs');
    const folder = new RecordFolder({ folder: process.argv[2], parse: (v) => v, nameOf: (r) => r.id });
    const attempt = (record) => { try { folder.put(record); return 'written'; } catch (e) { return { message: e.message, next: e.next }; } };
    const results = [attempt({ id: 'a', text: '' }), attempt({ id: 'b', text: 'x'.repeat(100_000) }), attempt({ id: 'c', text: '' })];
    execFileSync('mount', ['-o', 'remount,bind,ro', process.argv[2]]);
    results.push(attempt({ id: 'd', text: '' }));
    process.stdout.write(JSON.stringify({ results, names: readdirSync(process.argv[2]) }));
  `;
  const module = new URL('../../daemon/record-folder.js', import.meta.url).href;
  const inside = [process.execPath, '--input-type=module', '-e', work, module, path];
  const out = execFileSync('unshare', [...asRoot, '--mount', 'sh', '-c', script, 'sh', ...inside], {
    encoding: 'utf8',
  });
  const { results, names } = JSON.parse(out) as { results: unknown[]; names: string[] };
  t.is(results[0], 'written');
  t.like(results[1], {
    next: 'Give its file system space and inodes (df, df -i), or name another state directory with --state-dir.',
  });
  t.is(results[2], 'written', 'the half-written file does not keep the space');
  t.regex((results[3] as { message: string; next: string }).message, /EROFS.*d\.json|d\.json.*EROFS/);
  t.deepEqual(names.toSorted(), ['a.json', 'c.json']);
});

const WRITE = ['write', 'rename'];
const SYNCED = ['open', 'write', 'fsync', 'close', 'rename', 'open', 'fsync', 'close'];

test('a durable record is synced before its file is renamed, and its folder after; another is one write and one rename', (t) => {
  const path = temporaryFolder(t, 'weft-records-');
  const calls = countedCalls();
  open(path, { calls }).put(one);
  t.deepEqual(calls.seen.splice(0), WRITE);
  open(path, { calls, durable: true }).put(one);
  t.deepEqual(calls.seen.splice(0), SYNCED);
  const some = open(path, { calls, durable: ({ text }) => text === 'dear' });
  some.put({ ...one, text: 'cheap' });
  t.deepEqual(calls.seen.splice(0), WRITE);
  some.put({ ...one, text: 'dear' });
  t.deepEqual(calls.seen.splice(0), SYNCED);
  some.delete('one');
  t.deepEqual(calls.seen.splice(0), ['unlink']);
});

test('a file system without fsync on folders can be used', (t) => {
  let count = 0;
  const calls = countedCalls({
    fsyncSync: (file) => {
      if (++count % 2 === 0) throw failure('EINVAL');
      fs.fsyncSync(file);
    },
  });
  const path = join(temporaryFolder(t, 'weft-records-'), 'file');
  replaceFile(path, 'text', { sync: true, calls });
  t.is(readFileSync(path, 'utf8'), 'text');
});
