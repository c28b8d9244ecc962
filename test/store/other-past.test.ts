// An etcd that was restored from a copy, and has grown past what a store knew of it: nothing of it is missed.
import { cpSync } from 'node:fs';
import path from 'node:path';

import test from 'ava';

import { encodeEndpoint } from '../../store/record-codec.js';
import { startEtcd, temporaryFolder } from './etcd.js';
import { closeStores, endpoint, eventually, openTestStore, recordingLog } from './helpers.js';
import { startProxy } from './proxy.js';

test.after.always(() => closeStores());

const networks = ['blue', 'red'];

/** A store that follows blue, while etcd is replaced by a copy that was made in between. */
async function replaced(
  t: { teardown: (work: () => Promise<void>) => void },
  work: { before?: Work; opened?: Work; after: Work },
) {
  const own = await startEtcd();
  t.teardown(() => own.stop());
  const key = (network: string, id: string) => `/weft/networks/${network}/endpoints/${id}`;
  const etcd: Parameters<Work>[0] = {
    put: async (network, id, name) =>
      void (await own.raw.put(key(network, id)).value(encodeEndpoint(endpoint(network, id, { name })))),
    delete: async (network, id) => void (await own.raw.delete().key(key(network, id))),
  };
  for (const [at, name] of networks.entries()) {
    const config = { Network: `10.${at + 1}.0.0/16`, Backend: { Type: 'vxlan', VNI: 4000 + at } };
    await own.raw.put(`/weft/networks/${name}/config`).value(JSON.stringify(config));
  }
  await etcd.put('blue', 'ab', 'first');
  await own.kill();
  const copy = path.join(temporaryFolder('copy'), 'data');
  cpSync(own.dataDir, copy, { recursive: true });
  await own.start();
  await work.before?.(etcd);
  const proxy = await startProxy(own.port);
  t.teardown(() => proxy.close());
  const store = openTestStore([proxy.url], '/weft', recordingLog(), ['blue']);
  await eventually(() => store.state.connected, 'the watches run');
  const has = (id: string): boolean => store.view.endpoints.get('blue')?.has(id) === true;
  await work.opened?.(etcd);
  await eventually(() => work.opened === undefined || !has('ab'), 'what was written since');
  proxy.refuse(true);
  await own.kill();
  await eventually(() => !store.state.connected, 'it is away');
  await own.start(copy);
  await work.after(etcd);
  for (let at = 0; at < 60; at++) await etcd.put('red', 'ab', `other${at}`);
  proxy.refuse(false);
  await eventually(() => store.state.connected, 'it is back');
  await etcd.put('blue', 'ef', 'last');
  await eventually(() => has('ef'), 'it goes on');
  return [...(store.view.endpoints.get('blue')?.keys() ?? [])].sort();
}

type Work = (etcd: {
  put: (network: string, id: string, name: string) => Promise<void>;
  delete: (network: string, id: string) => Promise<void>;
}) => Promise<void>;

test('what was written instead of records that the store does not follow', async (t) => {
  const ids = await replaced(t, {
    before: async (etcd) => {
      for (let at = 0; at < 30; at++) await etcd.put('red', 'ab', `c${at}`);
    },
    after: async (etcd) => etcd.put('blue', 'cd', 'instead'),
  });
  t.deepEqual(ids, ['ab', 'cd', 'ef']);
});

test('what was deleted in the other past only', async (t) => {
  const ids = await replaced(t, {
    opened: async (etcd) => etcd.delete('blue', 'ab'),
    after: async () => undefined,
  });
  t.deepEqual(ids, ['ab', 'ef']);
});
