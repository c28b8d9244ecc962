// Networks whose names are words of weft's own.
//
// Removing one leaves everything else on the host alone.
import test from 'ava';

import { bare, Cluster } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';

let lab: Cluster;

async function setUp(): Promise<void> {
  lab = await Cluster.create(1);
  await lab.addContainers('n1', 'p1', 'p2');
  await lab.startController();
  await lab.startAgents(['h1']);
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** Long enough for one whole comparison with the kernel, which runs every 10 seconds. */
const COMPARED_MS = 11_000;

interface StatusJson {
  problems: { what: string; why: string; fix: string }[];
}

test.serial('a network "on" is deleted; pipework’s bridge and its containers stay', async (t) => {
  await lab.json('h1', 'network', 'create', 'on', '--subnet', '10.100.0.0/16');
  const endpoint = await lab.attach('h1', 'on', 'n1');
  t.true(await lab.reaches('h1', bare(endpoint.ip)));
  for (const [container, address] of [
    ['p1', '192.168.1.1/24'],
    ['p2', '192.168.1.2/24'],
  ] as const) {
    const { code, stderr } = await lab.weft('h1', 'pipework', 'brx', lab.ns(container), address);
    t.is(code, 0, stderr);
  }
  t.true(await lab.reaches('p1', '192.168.1.2'));
  const bridge = await lab.sh('h1', 'ip -o link show brx');

  await lab.json('h1', 'detach', 'on', lab.ns('n1'));
  await lab.json('h1', 'network', 'rm', 'on', '--force');
  await lab.until(
    'the host has left the network',
    async () => !(await lab.sh('h1', 'ip -d link')).includes('alias weft on'),
  );
  t.is((await lab.try('h1', 'ip link show brx')).code, 0, 'the bridge is there');
  t.true(await lab.reaches('p1', '192.168.1.2'));

  await new Promise((resolve) => setTimeout(resolve, COMPARED_MS));
  t.is(await lab.sh('h1', 'ip -o link show brx'), bridge);
  t.true(await lab.reaches('p2', '192.168.1.1'));
  const { problems } = await lab.json<StatusJson>('h1', 'status');
  t.deepEqual(problems, []);
});

for (const name of ['inside', 'node', 'network', 'sysctl', 'link']) {
  test.serial(`a network "${name}" is created and deleted as any other`, async (t) => {
    await lab.json('h1', 'network', 'create', name, '--subnet', '10.100.0.0/16');
    const endpoint = await lab.attach('h1', name, 'n1');
    t.true(await lab.reaches('h1', bare(endpoint.ip)));
    await lab.json('h1', 'detach', name, lab.ns('n1'));
    await lab.json('h1', 'network', 'rm', name, '--force');
    await lab.until(
      'the host has left the network',
      async () => !(await lab.sh('h1', 'ip -o link')).includes('wfbr'),
    );
    const { problems } = await lab.json<StatusJson>('h1', 'status');
    t.deepEqual(problems, []);
  });
}
