// The states of a record that disappears from etcd, as tables (docs/decisions/0017).
import test from 'ava';

import {
  hasHeldLonger,
  isRemovedOne,
  networkGone,
  ownLease,
  peerLeaseGone,
  predates,
  RETAIN_LOST_MS,
  supersedes,
} from '../../core/lost-records.js';
import type { Removal } from '../../core/records.js';

const NOON = '2026-11-21T12:00:00.000Z';
const EARLIER = '2026-11-21T11:00:00.000Z';
const LATER = '2026-11-21T13:00:00.000Z';
const removal: Removal = { kind: 'network', name: 'blue', at: NOON, forced: false };

test('a peer’s lease that disappears is removed, or retained while its node can write it back', (t) => {
  const gone = { node: 'n2', removed: false, withPast: false, alive: true };
  const retained = (more: Partial<Parameters<typeof peerLeaseGone>[0]>): number | 'removed' => {
    const state = peerLeaseGone({ ...gone, ...more });
    return state.state === 'lost' ? state.retainMs : state.state;
  };
  t.is(retained({}), 5000, 'a deleted key of a living node');
  t.is(retained({ alive: false }), 'removed', 'a dead node writes nothing back');
  t.is(retained({ withPast: true }), RETAIN_LOST_MS);
  t.is(retained({ withPast: true, alive: false }), RETAIN_LOST_MS, 'it may be partitioned');
  t.is(retained({ removed: true }), 'removed');
  t.is(retained({ removed: true, withPast: true }), 'removed', 'a tombstone comes before a loss');
  t.is(retained({ node: undefined, withPast: true }), 'removed', 'a flanneld writes nothing back');
});

test('a network without a config is lost, but for a tombstone that is not older than the membership', (t) => {
  t.is(networkGone(undefined, undefined), 'lost');
  t.is(networkGone(undefined, EARLIER), 'lost');
  t.is(networkGone(removal, undefined), 'removed', 'this run has seen the network');
  t.is(networkGone(removal, EARLIER), 'removed');
  t.is(networkGone(removal, LATER), 'lost', 'the tombstone is of an earlier network of that name');
});

test('state of the node’s own lease in etcd', (t) => {
  const own = { node: 'n1', instance: 'a' };
  t.is(ownLease({ ...own }, own, false), 'present');
  t.is(ownLease({ ...own }, own, true), 'present');
  t.is(ownLease(undefined, own, false), 'lost');
  t.is(ownLease(undefined, own, true), 'removed');
  t.is(ownLease({ node: 'n2', instance: 'b' }, own, false), 'taken');
  t.is(ownLease({ node: 'n1', instance: 'b' }, own, false), 'taken', 'another instance under this name');
  t.is(ownLease({}, own, false), 'taken', 'a flanneld');
});

test('a tombstone is superseded by a newer record alone', (t) => {
  const at = (createRevision: string, modRevision: string) => ({ createRevision, modRevision });
  t.true(supersedes('40', at('41', '41'), undefined));
  t.true(supersedes('40', at('33', '41'), undefined), 'written after the removal');
  t.false(supersedes('40', at('33', '39'), undefined));
  t.false(supersedes('40', undefined, undefined));
  t.true(supersedes('40', undefined, at('41', '45')), 'a later record that a copy of etcd lacks');
  t.false(supersedes('40', undefined, at('39', '45')), 'the one that was removed');
  t.true(supersedes('9', at('10', '10'), undefined), 'revisions are numbers, not text');
});

test('a restored record is the removed one in the same or an earlier revision', (t) => {
  const at = (createRevision: string, modRevision: string) => ({ createRevision, modRevision });
  const deleted = at('33', '40');
  t.true(isRemovedOne(at('33', '40'), deleted));
  t.true(isRemovedOne(at('33', '35'), deleted));
  t.true(isRemovedOne(at('33', '9'), deleted), 'revisions are numbers, not text');
  t.false(isRemovedOne(at('33', '41'), deleted));
  t.false(isRemovedOne(at('34', '35'), deleted));
  t.false(isRemovedOne(at('33', '40'), undefined), 'this process did not see it go');
});

test('of two holders of one subnet exactly one has held it longer', (t) => {
  t.true(hasHeldLonger(EARLIER, LATER));
  t.false(hasHeldLonger(LATER, EARLIER));
  t.false(hasHeldLonger(NOON, NOON), 'then the one who has it keeps it');
  t.true(hasHeldLonger(NOON, undefined), 'a lease of an older release');
});

test('a removal predates what exists since later', (t) => {
  t.true(predates(removal, LATER));
  t.false(predates(removal, EARLIER));
  t.false(predates(removal, NOON));
  t.false(predates(removal, undefined));
});
