// What a node that is gone for good still has: its names are free, its claims are not.
//
// h1 is down, and its machine is node web7 now.
import test from 'ava';

import { IpAddress } from '../../core/address.js';
import { encodeNode } from '../../store/record-codec.js';
import { node } from '../controller/records.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { closeStores, endpoint, eventually, freshPrefix, spec, storeOn } from './helpers.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

/** h1, down, with the endpoint olddb. */
async function setUp() {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const network = await store.createNetwork(spec('blue', '10.100.0.0/16'));
  const put = async (name: string, publicIp: string): Promise<void> => {
    await etcd.raw.put(`${prefix}/nodes/${name}`).value(encodeNode(node(name, publicIp)));
  };
  await put('h1', '192.0.2.1');
  const old = endpoint('blue', 'aa', { name: 'olddb', explicitName: true, node: 'h1' });
  await store.putEndpoint(old, { unique: true });
  /** h1's machine is installed anew under this name. */
  const replace = async (): Promise<void> => {
    await put('web7', '192.0.2.1');
    await etcd.raw.put(`${prefix}/nodes/web7/alive`).value('i-web7');
    await eventually(() => store.view.alive.has('web7') && store.view.nodes.has('web7'), 'web7 is up');
  };
  await eventually(
    () => store.view.endpoints.get('blue')?.has('aa') === true && store.view.nodes.has('h1'),
    'seen',
  );
  const index = async (): Promise<string | null> =>
    await etcd.raw.get(`${prefix}/networks/blue/names/olddb`).string();
  return { prefix, store, network, replace, index };
}

test('a name of a gone node is taken over, of one that is only down it is not', async (t) => {
  const { prefix, store, replace, index } = await setUp();
  const mine = endpoint('blue', 'bb', { name: 'olddb', explicitName: true, node: 'web7' });
  const put = async (): Promise<void> => await store.putEndpoint(mine, { unique: true });
  await t.throwsAsync(put(), { message: /the name olddb belongs to endpoint aa .* on node h1/ });
  await replace();
  await put();
  t.is(await index(), 'bb');
  await t.throwsAsync(store.putEndpoint({ ...mine, id: 'cc', node: 'h2' }, { unique: true }), {
    message: /the name olddb belongs to endpoint bb/,
  });
  await eventually(() => store.view.endpoints.get('blue')?.has('bb') === true, 'it is there');
  await store.removeNode('h1', { force: false });
  t.is(await index(), 'bb', 'the name is the new one’s');
  t.is(await etcd.raw.get(`${prefix}/networks/blue/endpoints/aa`).string(), null);
});

test('a gone node that comes back keeps its name', async (t) => {
  const { prefix, store, replace, index } = await setUp();
  await replace();
  await etcd.raw.put(`${prefix}/nodes/h1/alive`).value('i-h1');
  const mine = endpoint('blue', 'bb', { name: 'olddb', explicitName: true, node: 'web7' });
  await t.throwsAsync(store.putEndpoint(mine, { unique: true }));
  t.is(await index(), 'aa');
});

test('an address that a gone node claims is free after weft node rm', async (t) => {
  const { store, network, replace } = await setUp();
  const ip = IpAddress.parse('10.100.77.5');
  const claim = async (node: string, endpoint: string) =>
    await store.claimAddress({ network, ip, node, endpoint });
  await claim('h1', 'aa');
  const next = async (): Promise<unknown> =>
    await claim('web7', 'bb').catch((error: { next?: string }) => error.next);
  t.is(await next(), 'Choose another address.');
  await replace();
  t.is(await next(), 'Remove what is left of it: weft node rm h1.');
  await store.removeNode('h1', { force: false });
  t.like(await next(), { node: 'web7', state: 'granted' });
});
