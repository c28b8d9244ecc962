// The watcher against a server whose answers come in the order that a test chooses.
import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';

import test from 'ava';
import type { IKeyValue, IRangeRequest, IRangeResponse, IWatchResponse } from 'etcd3';

import type { EtcdClient } from '../../store/client.js';
import { Keys } from '../../store/keys.js';
import type { Session } from '../../store/session.js';
import type { Stream } from '../../store/watch-stream.js';
import { Watcher } from '../../store/watcher.js';
import { recordingLog } from './helpers.js';

type Sent = Parameters<Stream['write']>[0];

/** At least as many keys as a watcher takes in vain. */
const BUSY = 1500;

const kv = (key: string, revision: number): IKeyValue => ({
  ...{ key: Buffer.from(key), value: Buffer.from('{}'), version: '1', lease: '0' },
  ...{ create_revision: String(revision), mod_revision: String(revision) },
});

const header = (revision: number): IWatchResponse['header'] => ({
  ...{ cluster_id: '1', member_id: '1', raft_term: '1', revision: String(revision) },
});

/** A watcher of network blue, and what it asks. */
async function follow() {
  const ranges: { request: IRangeRequest; answer: (revision: number, kvs?: IKeyValue[]) => void }[] = [];
  const sent: Sent[] = [];
  const newStream = () =>
    Object.assign(new EventEmitter(), {
      write: (request: Sent) => sent.push(request),
      end: () => undefined,
      cancel: () => undefined,
    });
  let stream = newStream();
  const watch = () => Promise.resolve((stream = newStream()));
  const range = (request: IRangeRequest): Promise<IRangeResponse> =>
    new Promise((resolve) => {
      ranges.push({
        request,
        answer: (revision, kvs = []) =>
          resolve({ header: header(revision), kvs, more: false, count: String(kvs.length) }),
      });
    });
  const session = {
    ...{ url: 'http://etcd', ended: new AbortController().signal },
    ...{ heard: () => undefined, end: () => undefined, watch },
    call: (call: (etcd: unknown, options: object) => unknown) => call({ kv: { range } }, {}),
  };
  const client = {
    ...{ epoch: 0, saw: () => undefined },
    session: (signal: AbortSignal) =>
      signal.aborted ? Promise.reject(new Error('closed')) : Promise.resolve(session as unknown as Session),
  };
  const heard: string[] = [];
  const watcher = new Watcher(
    client as unknown as EtcdClient,
    new Keys('/weft'),
    { networks: ['blue'] },
    {
      list: (_kvs, revision, restored) => heard.push(`list ${revision}${restored ? ', restored' : ''}`),
      begun: (kvs) => heard.push(`begun ${kvs.map((one) => one.key.toString()).join(' ')}`),
      narrowed: () => [],
      events: (events) => heard.push(...events.map((event) => event.kv.key.toString())),
      connected: (up) => heard.push(up ? 'up' : 'down'),
    },
    recordingLog(),
  );
  const respond = (on: EventEmitter, id: number, revision: number, more: Partial<IWatchResponse>): void => {
    const response = { header: header(revision), watch_id: String(id), events: [], compact_revision: '0' };
    on.emit('data', { ...response, created: false, canceled: false, ...more });
  };
  const put = (id: number, key: string, revision: number, on: EventEmitter = stream): void =>
    respond(on, id, revision, { events: [{ type: 'Put', kv: kv(key, revision), prev_kv: kv(key, 0) }] });
  const until = async (what: () => boolean): Promise<void> => {
    while (!what()) await turn();
  };
  await until(() => ranges.length === 1);
  ranges[0]?.answer(10, [kv('/weft/networks/blue/config', 9)]);
  await until(() => sent.length === 1);
  respond(stream, 0, 10, { created: true });
  return {
    ...{ watcher, ranges, sent, heard, until, put },
    created: (id: number, revision: number) => respond(stream, id, revision, { created: true }),
    /**
     * So much of networks that are not followed that the watches leave them out.
     * @returns their stream until then
     */
    busy: (networks = ['green']) => {
      const busyOne = stream;
      for (let at = 0; at < BUSY; at++)
        put(0, `/weft/networks/${networks[at % networks.length]}/endpoints/e${at}`, 11 + at);
      return busyOne;
    },
    close: async () => {
      const closed = watcher.close();
      stream.emit('end');
      await closed;
    },
  };
}

test('an answer to a new watch that comes after newer events is no sign of another past', async (t) => {
  const { watcher, ranges, sent, heard, until, busy, created, put, close } = await follow();
  watcher.follow('red');
  await until(() => ranges.length === 2);
  // One that is watched already: nothing is left for a watch of its own.
  ranges[1]?.answer(10);
  await until(() => heard.includes('begun '));
  t.is(sent.length, 1);
  // Much of one that is not followed cuts the watch in two.
  const old = busy();
  await until(() => sent.length === 3);
  created(0, 1510);
  put(0, '/weft/nodes/n1', 1511);
  created(1, 1510);
  // What the old stream had on its way is of other watches.
  put(1, '/weft/nodes/n2', 1512, old);
  t.false(heard.includes('/weft/nodes/n2'));
  t.deepEqual(
    heard.filter((one) => one.startsWith('list')),
    ['list 10'],
  );
  t.is(heard.at(-1), 'up');
  await close();
});

test('a server that lacks what was delivered before has another past, by the answer to any watch', async (t) => {
  const { ranges, sent, heard, until, busy, created, close } = await follow();
  busy();
  await until(() => sent.length === 3);
  t.false(heard.includes('list 1509, restored'));
  created(0, 1509);
  await until(() => ranges.length === 2);
  ranges[1]?.answer(1509);
  // What lies behind what was left out.
  await until(() => ranges.length === 3);
  ranges[2]?.answer(1509);
  await until(() => heard.includes('list 1509, restored'));
  await close();
});

test('the list of a network that was given up and is wanted again counts no more', async (t) => {
  const { watcher, ranges, heard, until, put, close } = await follow();
  const key = '/weft/networks/red/endpoints/e1';
  watcher.follow('red');
  await until(() => ranges.length === 2);
  put(0, key, 11);
  watcher.unfollow('red');
  watcher.follow('red');
  await until(() => ranges.length === 3);
  // Older than the event, which was dropped with the first request.
  ranges[1]?.answer(10);
  for (let at = 0; at < 5; at++) await turn();
  t.false(heard.includes('begun '));
  ranges[2]?.answer(11, [kv(key, 11)]);
  await until(() => heard.includes(`begun ${key}`));
  await close();
});

test('networks that are no more do not split the watches for ever', async (t) => {
  const { ranges, sent, heard, until, busy, close } = await follow();
  busy(Array.from({ length: 200 }, (_, at) => `n${at}`));
  await until(() => ranges.length > 1 || sent.length > 1);
  t.is(sent.length, 1);
  // Of all that were left out one is still there.
  const there = [kv('/weft/networks/blue/config', 9), kv('/weft/networks/n7/config', 10)];
  for (let page = 1; !heard.includes('list 1511'); page++) {
    await until(() => ranges.length > page || heard.includes('list 1511'));
    ranges[page]?.answer(1511, page === 1 ? there : []);
  }
  await until(() => sent.length > 1);
  const parts = sent.slice(1).map(({ create_request }) => create_request?.key?.toString());
  t.deepEqual(parts, ['/weft/', '/weft/networks/n7/subnets/']);
  await close();
});
