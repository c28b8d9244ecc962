// The start of an agent: beside another one.
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
    lab = await Cluster.create(2);
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
