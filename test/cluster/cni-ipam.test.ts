// Addresses of weft's for CNI's own plugins: `"ipam": {"type": "weft"}` below bridge and macvlan.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster } from '../lab/cluster.js';
import { CniRuntime, type CniResult } from '../lab/cni.js';
import { shareAmongTests } from '../lab/fresh.js';
import { reboot } from '../lab/reboot.js';

let lab: Cluster;
const h1 = new CniRuntime(() => lab, 'h1');
const h2 = new CniRuntime(() => lab, 'h2');

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2');
    await lab.startController();
    await lab.startAgents(['h1', 'h2'], ['--subnet-only', 'green']);
    await lab.json('h1', 'network', 'create', 'green', '--subnet', '10.102.0.0/16');
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  },
  async () => lab?.lab.down(),
  (t) => {
    for (const n of [1, 2])
      t.deepEqual(readdirSync(join(lab.lab.host(n).stateDir, 'reservations')), [], `h${n}`);
  },
);

const under = (type: string, network: string): { conf: Record<string, unknown> } => ({
  conf: { type, network: undefined, ipam: { type: 'weft', network } },
});
const addressOf = ({ ips }: CniResult): string => ips[0]?.address ?? '';

test.serial(
  'below bridge: the gateway is that plugin’s, of a network that is joined without weft’s bridge',
  async (t) => {
    const bridge = under('bridge', 'green');
    const one = await h1.add({ ...bridge, id: 'a', container: 'c1' });
    t.deepEqual(Object.keys(one).toSorted(), ['cniVersion', 'dns', 'ips', 'routes']);
    t.regex(addressOf(one), /^10\.102\.\d+\.\d+\/24$/);
    t.is(one.ips[0]?.gateway, addressOf(one).replace(/\d+\/24$/, '1'));
    t.true(one.routes.some(({ dst, gw }) => dst === '10.102.0.0/16' && gw === one.ips[0]?.gateway));
    // Unique in the cluster: the other node has another subnet.
    const two = await h2.add({ ...bridge, id: 'a', container: 'c2' });
    t.not(addressOf(one).replace(/\.\d+\/24$/, ''), addressOf(two).replace(/\.\d+\/24$/, ''));
    // No interface of weft's comes of it, and no endpoint.
    t.regex(await lab.sh('c1', 'ip -br link'), /^lo .*\n$/);
    t.deepEqual(await lab.json('h1', 'endpoint', 'ls'), []);

    const held = { ...bridge, id: 'a', container: 'c1' };
    const prevResult = { ips: one.ips };
    await h1.done({ command: 'CHECK', ...held, conf: { ...bridge.conf, prevResult } });
    const other = { ips: [{ address: '10.102.9.9/24' }] };
    t.is(
      (await h1.refused({ command: 'CHECK', ...held, conf: { ...bridge.conf, prevResult: other } })).code,
      3,
    );
    t.deepEqual(await h1.add(held), one, 'asked again');
    await h1.done({ command: 'STATUS', ...bridge });
    await h1.done({ command: 'DEL', ...held, container: '' });
    await h1.done({ command: 'DEL', ...held });
    await h2.done({ command: 'DEL', ...bridge, id: 'a' });
    const refused = await h1.refused({
      command: 'ADD',
      ...under('bridge', 'blue'),
      id: 'b',
      container: 'c1',
    });
    t.is(refused.code, 103);
    t.regex(refused.msg, /two bridges cannot have one gateway/);
    t.regex(refused.details, /--subnet-only blue/);
  },
);

test.serial(
  'below macvlan, asked for, and by an agent that was killed; the address of a container that vanished',
  async (t) => {
    const macvlan = under('macvlan', 'blue');
    const one = await h1.add({ ...macvlan, id: 'm', container: 'c1' });
    const wanted = bare(addressOf(one)).replace(/\d+$/, '99');
    const asked = { ...macvlan, id: 'n', container: 'c2' };
    t.is(addressOf(await h1.add({ ...asked, args: `IP=${wanted}` })), `${wanted}/24`);
    t.is((await h1.refused({ command: 'ADD', ...asked, id: 'o', args: `IP=${wanted}` })).code, 101);
    await lab.process('agent-h1').kill();
    await lab.startAgents(['h1'], ['--subnet-only', 'green']);
    await h1.done({ command: 'CHECK', ...macvlan, id: 'm', container: 'c1' });
    await h1.done({ command: 'DEL', ...macvlan, id: 'm' });
    // Another container may not get it as long as this one lives.
    await h1.done({ command: 'GC', ...macvlan });
    t.is((await h1.refused({ command: 'ADD', ...asked, id: 'o', args: `IP=${wanted}` })).code, 101);
    await lab.removeContainer('c2');
    await lab.addContainers('c2');
    await h1.done({ command: 'GC', ...macvlan });
    t.is(addressOf(await h1.add({ ...asked, id: 'o', args: `IP=${wanted}` })), `${wanted}/24`);
    await h1.done({ command: 'DEL', ...macvlan, id: 'o' });
  },
);

test.serial('a restart of the host: no container has its address any more', async (t) => {
  const macvlan = under('macvlan', 'blue');
  await h1.add({ ...macvlan, id: 'm', container: 'c1' });
  await lab.process('agent-h1').kill();
  await lab.removeContainer('c1');
  await lab.addContainers('c1');
  await reboot(lab, 'h1');
  await lab.startAgents(['h1'], ['--subnet-only', 'green']);
  await h1.done({ command: 'GC', ...macvlan });
  t.deepEqual(readdirSync(join(lab.lab.host(1).stateDir, 'reservations')), []);
});
