// What keeps a container from its network, found from its inside.
import test, { type ExecutionContext } from 'ava';

import { ContainerChecks } from '../../../agent/endpoints/container-checks.js';
import { recordOf } from '../../../agent/endpoints/endpoints.js';
import { parsePublish } from '../../../core/publish.js';
import type { Endpoint } from '../../../core/records.js';
import { endpointOf, overlay } from '../../core/records.js';
import { attached, path, startNode } from '../node.js';

async function withChecks(t: ExecutionContext, more: Parameters<typeof attached>[2] = {}) {
  const node = await startNode(t);
  const endpoint = await attached(node, 'c1', more);
  const { endpoints, memberships, problems, store, kernel } = node;
  let now = 0;
  const checks = new ContainerChecks({
    ...{ endpoints, memberships, problems, view: store.view, servesNames: true, now: () => now },
  });
  const look = async (one: Endpoint = endpoint): Promise<string[]> => {
    now += 5000;
    const { namespace } = await kernel.openNamespace(one.sandbox.path);
    checks.container(recordOf(one), namespace, await namespace.observe([]));
    namespace.close();
    checks.node(await kernel.node.observe([]));
    // The answer to a question comes later.
    await new Promise(setImmediate);
    return [...problems.list(), ...problems.warnings()].map(({ what, why }) => `${what}: ${why}`);
  };
  return { node, endpoint, look, inside: kernel.handsIn(path('c1')) };
}

test('a container as weft made it has no problem', async (t) => {
  const { look } = await withChecks(t);
  t.deepEqual(await look(), []);
});

test('routes over the network: those that drop, and those that lead elsewhere', async (t) => {
  const { look, inside, endpoint } = await withChecks(t);
  const who = `container netns:/run/netns/c1 (endpoint ${endpoint.name} of network blue)`;
  inside.addLink('tun0', 'tun');
  inside.put({ kind: 'route', to: '10.100.6.0/24', link: '', unreachable: true });
  inside.put({ kind: 'route', to: '10.100.7.0/24', link: 'tun0' });
  // Its neighbours, another network, and what loses to weft's own route.
  inside.put({ kind: 'route', to: '10.100.9.0/24', link: endpoint.ifname });
  inside.put({ kind: 'route', to: '10.100.8.0/24', link: endpoint.ifname, via: '10.100.1.1' });
  inside.put({ kind: 'route', to: '10.200.0.0/16', link: 'tun0' });
  inside.put({ kind: 'route', to: '10.0.0.0/8', link: 'tun0' });
  const found = await look();
  t.is(found.length, 2);
  t.true(found[0]?.startsWith(`${who}: the route to 10.100.6.0/24 drops packets`));
  t.true(found[1]?.startsWith(`${who}: the route to 10.100.7.0/24 leads to tun0`));
  inside.delete('route 10.100.6.0/24' as never);
  inside.delete('route 10.100.7.0/24' as never);
  t.deepEqual(await look(), []);
});

test('an address of the network that weft did not give, and whose it is', async (t) => {
  const { look, inside, node, endpoint } = await withChecks(t);
  node.store.putRecordOf(endpointOf(overlay(), '10.100.77.7/24', { id: 'ee', name: 'db', node: 'n2' }));
  inside.put({ kind: 'address', link: endpoint.ifname, address: '10.100.77.7/32' });
  inside.put({ kind: 'address', link: 'lo', address: '192.0.2.77/32' });
  const [found, ...more] = await look();
  t.regex(
    found ?? '',
    /has the address 10\.100\.77\.7 on eth0, which weft did not give it; it is of endpoint db on node n2/,
  );
  t.deepEqual(more, []);
  const allowed = { ...endpoint, allowedAddresses: ['10.100.77.0/24'] };
  node.endpoints.put(allowed);
  t.deepEqual(await look(allowed), []);
});

test('a published port with nobody behind it, once a process had time to open it', async (t) => {
  const { look, inside } = await withChecks(t, { publish: parsePublish('8080-8081:80-81') });
  t.deepEqual(await look(), [], 'it may be starting');
  t.regex((await look()).join(), /no process in it listens at its published port 80\/tcp, 81\/tcp/);
  const at = { protocol: 'tcp', family: 4 } as const;
  inside.listen([
    { ...at, port: 80, reach: 'any' },
    { ...at, port: 81, reach: 'loopback' },
  ]);
  t.regex((await look()).join(), /behind its published port 81\/tcp listens at the container’s loopback/);
  inside.listen([
    { ...at, port: 80, reach: 'address' },
    { ...at, family: 6, port: 81, reach: 'any' },
  ]);
  t.deepEqual(await look(), []);
});

test('the name server does not answer from the container’s side', async (t) => {
  const { look, inside } = await withChecks(t);
  const asked: string[] = [];
  inside.answer((ip, port) => asked.push(`${ip}:${port}`) < 0);
  t.deepEqual(await look(), [], 'one packet may be lost');
  t.regex((await look()).join(), /name server of this node .*asked from container netns:.*c1 .*network blue/);
  inside.answer(() => true);
  t.deepEqual(await look(), []);
  t.deepEqual([...new Set(asked)], ['169.254.53.53:53']);
});

test('a container that alone gets no answer says nothing of the name server', async (t) => {
  const { look, inside, node } = await withChecks(t);
  const other = await attached(node, 'c2');
  inside.answer(() => false);
  for (let round = 0; round < 4; round++) {
    t.deepEqual(await look(), []);
    t.deepEqual(await look(other), []);
  }
  node.kernel.handsIn(path('c2')).answer(() => false);
  for (let round = 0; round < 3; round++) {
    await look();
    await look(other);
  }
  t.regex((await look()).join(), /name server of this node/);
});

test('a link that somebody made a port of the bridge', async (t) => {
  const { look, node } = await withChecks(t);
  const links = [...(await node.kernel.node.linkNames())];
  const bridge = links.find((name) => name.startsWith('wfbr')) ?? '';
  t.not(bridge, '', links.join());
  const { objects } = await node.kernel.node.observe([]);
  const port = { kind: 'port', link: 'byhand', master: bridge } as const;
  const actual = {
    ...(await node.kernel.node.observe([])),
    objects: new Map(objects).set('x' as never, { object: port, owned: false }),
  };
  const { endpoints, memberships, problems, store } = node;
  const checks = new ContainerChecks({
    endpoints,
    memberships,
    problems,
    view: store.view,
    servesNames: false,
  });
  checks.node(actual);
  t.regex(problems.list()[0]?.what ?? '', /^link byhand, a port of wfbr/);
  t.regex(problems.list()[0]?.why ?? '', /the bridge of network blue/);
  t.deepEqual(await look(), []);
});
