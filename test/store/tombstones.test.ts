// Which records of a copy of etcd a missing tombstone removes again.
//
// The copy lacks the tombstone and has the removed record itself, or one made since.
import test from 'ava';

import type { Removal } from '../../core/records.js';
import { Keys } from '../../store/keys.js';
import { lostRemovals } from '../../store/tombstones.js';
import { encodeNode } from '../../store/record-codec.js';

const keys = new Keys('/weft');
const removal: Removal = { kind: 'node', name: 'n1', forced: false, at: '2026-11-21T12:00:00.000Z' };
const key = keys.node('n1');
const tombstones = new Map([[key, { createRevision: '33', modRevision: '40' }]]);

/** The revision to remove again, of a copy whose node was started then and made and written at these revisions. */
function again(startedAt: string, created: string, written: string): string | undefined {
  const node = { name: 'n1', instance: 'i', publicIp: '192.0.2.1', version: '1', startedAt };
  const kv = {
    ...{ key: Buffer.from(key), value: Buffer.from(encodeNode(node)), version: '1', lease: '0' },
    ...{ create_revision: created, mod_revision: written },
  };
  const [lost] = lostRemovals(keys, [removal], new Map([[key, kv]]), tombstones);
  return lost?.revision;
}

const BEFORE = '2026-11-21T11:00:00.000Z';
const AFTER = '2026-11-21T12:00:05.000Z';

test('the removed node, as it was last or in an earlier life, is removed again', (t) => {
  t.is(again(BEFORE, '33', '40'), '40');
  t.is(again(BEFORE, '33', '35'), '35');
});

test('a node that was made at another revision stays', (t) => {
  t.is(again(BEFORE, '34', '35'), undefined);
  t.is(again(BEFORE, '33', '41'), undefined);
});

test('a node that was started since stays, though an emptied etcd gives the same revisions again', (t) => {
  t.is(again(AFTER, '33', '35'), undefined);
});
