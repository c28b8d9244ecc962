// What a trace says of policies: of the packet as it is at the container.
import test from 'ava';

import { deniedBy } from '../../../controller/trace/trace-service.js';
import { parsePolicy } from '../../../core/policy/index.js';
import { endpointOf, overlay } from '../../core/records.js';
import { FakeStore } from '../../fakes/store.js';

const network = overlay();
const web = endpointOf(network, '10.100.9.2/24', { id: '00000000000000aa', labels: { role: 'web' } });
const db = endpointOf(network, '10.100.5.2/24', { id: '00000000000000bb', labels: { role: 'db' } });

async function setUp() {
  const store = new FakeStore();
  store.putNetwork(network);
  for (const one of [web, db]) store.putRecordOf(one);
  await store.createPolicy(parsePolicy({ name: 'db', from: ['role=web'], to: ['role=db'], ports: ['5432'] }));
  const asked = { to: { name: 'db', endpoints: [db] }, destination: '10.100.5.2', family: 4 } as const;
  return (port: number, more: { destination?: string; port?: number } = {}, source = '10.100.9.2') =>
    deniedBy(
      store,
      {
        ...asked,
        protocol: 'tcp',
        port,
        ...(more.destination !== undefined && { destination: more.destination }),
        ...(more.port !== undefined && { to: { ...asked.to, port: more.port } }),
      },
      source,
    ).denied;
}

test('the policy that closes the target is named, and none where the packet is allowed', async (t) => {
  const denied = await setUp();
  t.is(denied(5432), undefined);
  t.is(denied(80), 'policy db selects the target, and no policy allows it; db allows other ports');
  t.is(denied(5432, {}, '198.51.100.7'), 'policy db selects the target, and no policy allows it');
});

test('behind a published port the container and its own port count', async (t) => {
  const denied = await setUp();
  t.is(denied(8080, { destination: '192.0.2.1', port: 5432 }), undefined);
  t.regex(denied(5432, { destination: '192.0.2.1', port: 80 }) ?? '', /policy db selects/);
});
