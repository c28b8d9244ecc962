// The start of an agent: beside another one, and while it waits for what it needs.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, INFRA, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
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
  await lab.sh('h3', 'ip addr flush dev eth0 scope global');
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
  t.regex(underlay?.why ?? '', /^waiting for the underlay: this host has no address that other nodes reach/);
  t.notRegex(underlay?.fix ?? '', /--underlay/);
  t.regex((await lab.weft('h3', 'status')).stdout, /^Node: +h3$/m);
  const attach = await lab.weft('h3', 'attach', 'blue', lab.ns('c1'), '-o', 'json');
  t.is(attach.code, 1);
  t.regex(attach.stderr, /waiting for the underlay/);
  t.like(JSON.parse(attach.stdout), { error: { code: 'UNAVAILABLE' } });

  await lab.sh('h3', `ip addr add ${ip}/24 dev eth0; ip route add default via 192.0.2.1`);
  await lab.says(agent, 'the agent serves');
  t.true((await first())?.why.startsWith(`waiting for etcd at ${etcd}: `));
  const ready = await lab.sh('h3', "curl -s -w '%{http_code}' http://127.0.0.1:7402/readyz");
  t.regex(ready, /waiting for etcd .*\n503$/);
  await agent.stop();
  t.not((await lab.try('h3', `ls ${join(runDir, 'agent.sock')}`)).code, 0, 'the socket goes with it');
});

test.serial(
  'an agent at an etcd with users says what it lacks, and goes on with a new password',
  async (t) => {
    const url = 'http://192.0.2.2:2479';
    const peer = 'http://127.0.0.1:2480';
    const etcd = lab.spawn('etcd-with-users', INFRA, [
      ...['etcd', '--name', 'users', '--data-dir', join(lab.folder, 'etcd-with-users'), '--bcrypt-cost', '4'],
      ...['--listen-client-urls', url, '--advertise-client-urls', url, '--listen-peer-urls', peer],
      ...['--initial-advertise-peer-urls', peer, '--initial-cluster', `users=${peer}`],
    ]);
    t.teardown(() => etcd.stop());
    const etcdctl = `ETCDCTL_API=3 etcdctl --endpoints ${url}`;
    await lab.until('etcd serves', async () => (await lab.try(INFRA, `${etcdctl} get /`)).code === 0);
    await lab.sh(
      INFRA,
      [
        'user add root:secret-of-root',
        'user grant-role root root',
        'user add weft:secret-of-weft',
        'role add weft',
        'role grant-permission weft readwrite --prefix=true /weft/',
        'user grant-role weft weft',
        'auth enable',
      ]
        .map((words) => `${etcdctl} ${words}`)
        .join(' && '),
    );
    const file = join(lab.folder, 'password');
    const start = async (...user: string[]): Promise<LabProcess> => {
      const flags = lab.agentFlags('h3').map((word) => (word === lab.etcd ? url : word));
      const agent = lab.spawn('agent-h3', 'h3', [WEFT, 'agent', ...flags, ...user]);
      await lab.says(agent, 'the agent serves');
      return agent;
    };
    const problem = (why: RegExp): Promise<Status['problems'][number]> =>
      lab.until(`status says ${why.source}`, async () => {
        const { stdout } = await lab.weft('h3', 'status', '-o', 'json');
        return (JSON.parse(stdout) as Status).problems.find((one) => why.test(one.why));
      });

    const without = await start();
    t.regex((await problem(/wants a user, and none was given/)).why, /^waiting for etcd at /);
    await without.stop();

    writeFileSync(file, 'wrong-secret\n');
    const agent = await start('--etcd-username', 'weft', '--etcd-password-file', file);
    t.regex((await problem(/has no such user with this password/)).why, /^waiting for etcd at /);
    writeFileSync(file, 'secret-of-weft\n');
    await lab.until('the agent is ready', async () => (await lab.weft('h3', 'status')).code === 0);
    t.notRegex(agent.log(), /wrong-secret|secret-of-weft/);
    await agent.stop();
  },
);
