// Files that commands write: read by the programs that they are for.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { chosenPairs, junit } from '../../cli/connectivity-plan.js';
import { interfaceBlock, packetBlock, sectionHeader } from '../../cli/pcapng.js';
import { tarEnd, tarEntry } from '../../cli/tar.js';

const folder = mkdtempSync(join(tmpdir(), 'weft-files-'));
test.after.always(() => rmSync(folder, { recursive: true }));

test('tar extracts the archive, also long names', (t) => {
  const path = join(folder, 'a.tar');
  const deep = `${'folder/'.repeat(15)}${'n'.repeat(60)}`;
  const files: [string, string][] = [
    ['b/one.txt', 'one\n'],
    ['b/empty', ''],
    [deep, 'x'.repeat(5000)],
  ];
  const entries = files.map(([name, text]) => tarEntry(name, Buffer.from(text), new Date(1_700_000_000_000)));
  writeFileSync(path, Buffer.concat([...entries, tarEnd()]));
  execFileSync('tar', ['-xf', path, '-C', folder]);
  for (const [name, text] of files) t.is(readFileSync(join(folder, name), 'utf8'), text);
  t.throws(() => tarEntry('n'.repeat(101), Buffer.alloc(0), new Date()), { instanceOf: RangeError });
});

/** Types and lengths of the blocks of a pcapng file, and whether each says its length twice. */
function blocksOf(bytes: Buffer): { type: number; body: Buffer }[] {
  const blocks = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt32LE(at + 4);
    if (length % 4 !== 0 || bytes.readUInt32LE(at + length - 4) !== length)
      throw new Error(`a bad block at ${at}`);
    blocks.push({ type: bytes.readUInt32LE(at), body: bytes.subarray(at + 8, at + length - 4) });
    at += length;
  }
  return blocks;
}

test('a capture has an interface for each point, and times in microseconds', (t) => {
  const time = 1_764_500_000_123_456;
  const bytes = Buffer.concat([
    sectionHeader(),
    interfaceBlock({ linkType: 1, name: 'h1:wfve0123', description: 'the node’s end of web.blue' }),
    interfaceBlock({ linkType: 101, name: 'h2:wfud', description: 'tunnel' }),
    packetBlock({ interface: 1, time, length: 1500, bytes: Buffer.from('abcde') }),
  ]);
  const [section, first, second, packet] = blocksOf(bytes);
  t.deepEqual([section?.type, first?.type, second?.type, packet?.type], [0x0a0d0d0a, 1, 1, 6]);
  t.is(section?.body.readUInt32LE(), 0x1a2b3c4d);
  t.deepEqual([first?.body.readUInt16LE(), second?.body.readUInt16LE()], [1, 101]);
  t.true(first?.body.includes('h1:wfve0123'));
  const { body = Buffer.alloc(0) } = packet ?? {};
  t.deepEqual(
    [0, 12, 16].map((at) => body.readUInt32LE(at)),
    [1, 5, 1500],
  );
  t.is(body.readUInt32LE(4) * 2 ** 32 + body.readUInt32LE(8), time);
  t.is(body.toString('latin1', 20, 25), 'abcde');
});

test('pairs: a ring and some random ones, none twice, none with itself', (t) => {
  const all = Array.from({ length: 20 }, (_, i) => i);
  const pairs = chosenPairs(all);
  for (const i of all) t.true(pairs.some(([a, b]) => a === i && b === (i + 1) % 20));
  t.true(pairs.length >= 20 && pairs.length <= 30);
  t.true(pairs.every(([a, b]) => a !== b));
  t.is(new Set(pairs.map(String)).size, pairs.length);
  t.deepEqual(
    chosenPairs(['a', 'b'], () => 0),
    [
      ['a', 'b'],
      ['b', 'a'],
    ],
  );
  t.deepEqual(chosenPairs(['a']), []);
});

test('results for CI: failures are counted and named, and nothing breaks the XML', (t) => {
  const xml = junit([
    { name: 'tcp', from: 'blue on h1', to: 'blue on h2', ok: true, why: '' },
    { name: 'udp', from: 'a "b" <c>', to: 'd & e', ok: false, why: 'no answer\u0000 <1 s' },
  ]);
  t.regex(xml, /tests="2" failures="1"/);
  t.regex(xml, /name="a &quot;b&quot; &lt;c&gt; to d &amp; e"><failure message="no answer &lt;1 s"\/>/);
});
