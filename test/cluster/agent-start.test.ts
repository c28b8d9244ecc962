// The start of an agent: beside another one, and while it waits for what it needs.
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import type { Outcome } from '../lab/exec.js';

let lab: Cluster;
let b: EndpointJson;

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(3);
    await lab.addContainers('c1', 'c2');
    await lab.startController();
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await lab.attach('h1', 'blue', 'c1');
    b = await lab.attach('h2', 'blue', 'c2');
    await lab.until('the containers reach each other', () => lab.reaches('c1', bare(b.ip)));
  },
  () => lab?.lab.down(),
);

test.serial(
  'a second agent of a host, with another prefix and folders, says who is there, and ends',
  async (t) => {
    const { pid } = lab.process('agent-h1');
    const { runDir } = lab.lab.host(1);
    const other = (...flags: string[]): Promise<Outcome> =>
      lab
        .place('h1')
        .exec([
          ...[WEFT, 'agent', ...lab.agentFlags('h1'), '--prefix', '/weft2'],
          ...['--run-dir', join(lab.folder, 'other-run'), '--state-dir', join(lab.folder, 'other-state')],
          ...['--http', '127.0.0.1:7412', ...flags],
        ]);
    const objects = await lab.sh('h1', 'ip link; ip route; nft -s list ruleset');
    for (const flags of [[], ['--cleanup']]) {
      const { code, stderr } = await other(...flags);
      t.is(code, 1, stderr);
      t.true(stderr.includes(`process ${pid}, which serves ${join(runDir, 'agent.sock')}`), stderr);
    }
    t.is((await other('--dry-run')).code, 0);
    t.is(await lab.sh('h1', 'ip link; ip route; nft -s list ruleset'), objects);
    t.true(await lab.reaches('c1', bare(b.ip)));
  },
);

interface Status {
  health: string;
  node: { name: string };
  problems: { what: string; why: string; fix: string }[];
}

test.serial('an agent that waits for its underlay, and for etcd, says so from the start', async (t) => {
  const { runDir, ip } = lab.lab.host(3);
  const etcd = 'http://192.0.2.99:2379';
  await lab.sh('h3', 'ip -4 addr flush dev eth0');
  const flags = lab.agentFlags('h3').map((word) => (word === lab.etcd ? etcd : word));
  const agent = lab.spawn('agent-h3', 'h3', [WEFT, 'agent', ...flags]);
  await lab.says(agent, 'waiting for the underlay');
  const first = async (): Promise<Status['problems'][number] | undefined> => {
    const { code, stdout } = await lab.weft('h3', 'status', '-o', 'json');
    t.is(code, 1);
    const { health, node, problems } = JSON.parse(stdout) as Status;
    t.deepEqual([health, node.name], ['down', 'h3']);
    return problems[0];
  };
  const underlay = await first();
  t.regex(underlay?.why ?? '', /^waiting for the underlay: this host has no IPv4 address/);
  t.notRegex(underlay?.fix ?? '', /--underlay/);
  t.regex((await lab.weft('h3', 'status')).stdout, /^Node: +h3$/m);
  const attach = await lab.weft('h3', 'attach', 'blue', lab.ns('c1'), '-o', 'json');
  t.is(attach.code, 1);
  t.regex(attach.stderr, /waiting for the underlay/);
  t.like(JSON.parse(attach.stdout), { error: { code: 'UNAVAILABLE' } });

  await lab.sh('h3', `ip addr add ${ip}/24 dev eth0; ip route add default via 192.0.2.1`);
  await lab.says(agent, 'the agent serves');
  t.is((await first())?.why, `waiting for etcd at ${etcd}: it has not answered yet`);
  const ready = await lab.sh('h3', "curl -s -w '%{http_code}' http://127.0.0.1:7402/readyz");
  t.regex(ready, /waiting for etcd .*\n503$/);
  await agent.stop();
  t.not((await lab.try('h3', `ls ${join(runDir, 'agent.sock')}`)).code, 0, 'the socket goes with it');
});
