// Faults of a node's own files, of its resources, and of records by others.
//
// The state directory full, read-only, torn or lost, a socket left over; subnets and addresses exhausted; two nodes of one
// name; networks that overlap.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { bare } from '../../lab/cluster.js';
import { WEFT } from '../../lab/lab.js';
import { keysBelow, tunnels } from './observe.js';
import { raise, suite, type Fault } from './suite.js';

const fault = suite({
  lane: 'state',
  // A busy machine must not make a node lose its name to its duplicate.
  build: () => raise(3, { flags: ['--node-ttl', '15s'], containers: ['c3', 'c4', 'c5', 'c6'] }),
});

const stateOf = (f: Fault): string => f.cluster.lab.host(1).stateDir;

/** Starts the agent of h1 on what is left of its files; no endpoint may have changed. */
async function survives(f: Fault, damage: () => void | Promise<void>): Promise<void> {
  const { cluster } = f;
  const before = await tunnels(cluster, 'h1');
  f.begins();
  await cluster.process('agent-h1').kill();
  await damage();
  await cluster.startAgents(['h1']);
  await f.lossless();
  f.same(await tunnels(cluster, 'h1'), before, 'tunnels and routes as before');
  const again = await cluster.attach('h1', 'blue', 'c1');
  f.same([again.id, again.ip], [f.site.a.id, f.site.a.ip], 'the endpoint is known');
  const other = await cluster.attach('h1', 'blue', 'c3');
  f.check(other.ip !== f.site.a.ip, 'its address is not free');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
}

fault('an endpoint’s file torn', (f) =>
  survives(f, () => {
    const folder = join(stateOf(f), 'endpoints');
    for (const name of readdirSync(folder)) writeFileSync(join(folder, name), '{"id":"0123');
  }),
);

fault('an endpoint’s file of an older version', (f) =>
  survives(f, () => {
    const folder = join(stateOf(f), 'endpoints');
    for (const name of readdirSync(folder)) writeFileSync(join(folder, name), '{"version":0,"id":"0123"}');
  }),
);

fault('an endpoint’s file torn while etcd is away', async (f) => {
  const { cluster } = f;
  const folder = join(stateOf(f), 'endpoints');
  f.begins();
  await cluster.process('agent-h1').kill();
  await cluster.process('etcd').kill();
  for (const name of readdirSync(folder)) writeFileSync(join(folder, name), '{"id":"0123');
  const agent = cluster.spawn('agent-h1', 'h1', [WEFT, 'agent', ...cluster.agentFlags('h1')]);
  await cluster.says(agent, 'the agent serves');
  const early = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c3'));
  f.same(early.code, 1, 'no attach before etcd has given back what the file held');
  f.check(early.stderr.includes('torn') && early.stderr.includes('etcd'), 'with a sentence that says so');
  await cluster.startEtcd();
  f.ends();
  await f.within(5, 'the endpoint is known again', async () => {
    const { code, stdout } = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c1'), '-o', 'json');
    return code === 0 && (JSON.parse(stdout) as { id: string }).id === f.site.a.id;
  });
  const other = await cluster.attach('h1', 'blue', 'c3');
  f.check(other.ip !== f.site.a.ip, 'its address is not free');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await f.lossless();
});

fault('a network’s file torn', (f) =>
  survives(f, () => writeFileSync(join(stateOf(f), 'networks', 'blue.json'), '{"network":')),
);

fault('a network’s file of an older version', (f) =>
  survives(f, () => writeFileSync(join(stateOf(f), 'networks', 'blue.json'), '{"version":0,"name":"blue"}')),
);

fault('the run directory’s socket left over', async (f) => {
  const { cluster } = f;
  f.begins();
  await cluster.process('agent-h1').kill();
  f.check((await cluster.sh('h1', `ls ${cluster.lab.host(1).runDir}`)).includes('agent.sock'), 'it is left');
  await cluster.startAgents(['h1']);
  await f.lossless();
});

fault('the state directory full', async (f) => {
  const { cluster } = f;
  const folder = join(stateOf(f), 'endpoints');
  f.begins();
  // A full file system below the endpoints' folder refuses every write.
  const enter = `nsenter --mount=/proc/${await agentPid(f)}/ns/mnt --`;
  await cluster.sh(
    'h1',
    `${enter} sh -c 'mkdir -p ${folder}.was && cp -a ${folder}/. ${folder}.was/ && mount -t tmpfs -o size=32k,nr_inodes=8 none ${folder} && cp -a ${folder}.was/. ${folder}/; head -c 40000 /dev/zero >${folder}/full 2>/dev/null; true'`,
  );
  const refused = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c3'));
  f.same(refused.code, 1, 'an attach is refused');
  f.check(
    refused.stderr.includes(stateOf(f)) && /ENOSPC|no space/i.test(refused.stderr),
    'with a sentence that names the directory',
  );
  f.same((await cluster.sh('c3', 'ip -br link | grep -c eth || true')).trim(), '0', 'nothing half done');
  await cluster.sh('h1', `${enter} sh -c 'umount ${folder}; rm -rf ${folder}.was'`);
  await cluster.attach('h1', 'blue', 'c3');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await f.lossless();
});

/** `ip netns exec` gives the agent a mount namespace of its own, and then becomes the agent. */
const agentPid = (f: Fault): Promise<number> => Promise.resolve(f.cluster.process('agent-h1').pid);

fault('the state directory read-only', async (f) => {
  const { cluster } = f;
  const folder = stateOf(f);
  await cluster.addContainers('ends');
  const ends = await cluster.attach('h1', 'blue', 'ends');
  f.begins();
  const enter = `nsenter --mount=/proc/${await agentPid(f)}/ns/mnt --`;
  await cluster.sh(
    'h1',
    `${enter} sh -c 'mount --bind ${folder} ${folder} && mount -o remount,ro,bind ${folder}'`,
  );
  const refused = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c3'));
  f.same(refused.code, 1, 'an attach is refused');
  f.check(refused.stderr.includes(folder), 'with a sentence that names the directory');
  f.same((await cluster.sh('c3', 'ip -br link | grep -c eth || true')).trim(), '0', 'nothing half done');
  await cluster.removeContainer('ends');
  const problems = async (): Promise<{ why: string; what: string }[]> =>
    (await cluster.json<{ problems: { why: string; what: string }[] }>('h1', 'status')).problems.filter(
      ({ what }) => what.includes(ends.id),
    );
  await cluster.until('a container that has ended is reported', async () =>
    (await problems()).some(({ why }) => why.includes(folder)),
  );
  await cluster.sh('h1', `${enter} umount ${folder}`);
  await cluster.until(
    'its endpoint is deleted when the directory is writable again',
    async () =>
      !readdirSync(join(folder, 'endpoints')).includes(`${ends.id}.json`) && (await problems()).length === 0,
  );
  await cluster.attach('h1', 'blue', 'c3');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await f.lossless();
});

fault('the network’s subnets, and a subnet’s addresses, exhausted', async (f) => {
  const { cluster } = f;
  const config = {
    ...{ Network: '10.106.0.0/24', SubnetLen: 29, SubnetMin: '10.106.0.8', SubnetMax: '10.106.0.16' },
    Backend: { Type: 'vxlan', VNI: 4106 },
  };
  await cluster.etcdctl('put', '/weft/networks/tiny/config', JSON.stringify(config));
  f.begins();
  await cluster.attach('h1', 'tiny', 'c3');
  const second = await cluster.attach('h2', 'tiny', 'c4');
  await cluster.startAgents(['h3']);
  const third = await cluster.weft('h3', 'attach', 'tiny', cluster.ns('c5'), '-o', 'json');
  f.check(
    third.code === 1 && third.stdout.includes('RESOURCE_EXHAUSTED') && third.stderr.includes('tiny'),
    'no subnet: refused, with the network’s name',
  );
  const names = ['x1', 'x2', 'x3', 'x4', 'x5', 'x6'];
  await cluster.addContainers(...names);
  const outcomes = [];
  for (const name of names)
    outcomes.push(await cluster.weft('h1', 'attach', 'tiny', cluster.ns(name), '-o', 'json'));
  const last = outcomes.at(-1);
  f.check(
    last?.code === 1 && last.stdout.includes('RESOURCE_EXHAUSTED') && /10\.106\.0\.\d+\/29/.test(last.stderr),
    'no address: refused, with the subnet',
  );
  f.check(await cluster.reaches('c3', bare(second.ip)), 'the running ones go on');
  await f.lossless();
  await cluster.process('agent-h3').stop();
  await cluster.json('h1', 'network', 'rm', 'tiny', '--force');
  for (const name of names) await cluster.removeContainer(name);
});

fault('two nodes of one name', async (f) => {
  const { cluster } = f;
  const { runDir, stateDir } = cluster.lab.host(3);
  f.begins();
  const twin = cluster.spawn('twin', 'h3', [
    ...[WEFT, 'agent', ...cluster.agentFlags('h1'), '--run-dir', runDir, '--state-dir', stateDir],
  ]);
  await cluster.until('its log reports it', () => twin.log().includes('name is taken'));
  const { problems } = JSON.parse(
    await cluster.sh('h3', `${WEFT} status --agent ${runDir}/agent.sock -o json`),
  ) as { problems: { why: string }[] };
  f.check(
    problems.some(({ why }) => why.includes(cluster.ipOf('h1')) && why.includes(cluster.ipOf('h3'))),
    'reported, with both addresses',
  );
  const ready = await cluster.sh('h3', "curl -s -w '%{http_code}' http://127.0.0.1:7402/readyz");
  f.check(ready.includes('another agent of that name') && ready.endsWith('503'), '/readyz says so, too');
  await twin.stop();
  await cluster.process('agent-h1').kill();
  await cluster.startAgents(['h1']);
  const log = cluster.process('agent-h1').log();
  f.check(!log.includes('name is taken'), 'a restarted node is no duplicate');
  await f.lossless();
});

fault('two networks that overlap, written by hand', async (f) => {
  const { cluster } = f;
  const config = (network: string, vni: number): string =>
    JSON.stringify({ Network: network, Backend: { Type: 'vxlan', VNI: vni } });
  f.begins();
  await cluster.etcdctl('put', '/weft/networks/clash/config', config('10.100.0.0/17', 4900));
  const refused = await cluster.weft('h1', 'attach', 'clash', cluster.ns('c3'));
  f.check(
    refused.code === 1 && refused.stderr.includes('clash') && refused.stderr.includes('blue'),
    'refused with both names',
  );
  const { stdout: status } = await cluster.try(
    'infra',
    `${WEFT} status -o json --agent /nonexistent --controller 192.0.2.2:7400`,
  );
  f.check(
    /clash[^{}]*overlaps[^{}]*blue|blue[^{}]*overlaps[^{}]*clash/.test(status),
    'reported by the controller, with both names',
  );
  await cluster.etcdctl('put', '/weft/networks/twin/config', config('10.107.0.0/16', 4901));
  await f.lossless();
  await cluster.etcdctl('del', '--prefix', '/weft/networks/clash/');
  await cluster.etcdctl('del', '--prefix', '/weft/networks/twin/');
});

fault('the state directory lost', async (f) => {
  const { cluster } = f;
  f.begins();
  await cluster.process('agent-h1').kill();
  await cluster.sh('h1', `rm -rf ${stateOf(f)}`);
  await cluster.startAgents(['h1']);
  f.ends();
  await f.within(5, 'the endpoint is known again', async () => {
    const { code, stdout } = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c1'), '-o', 'json');
    return code === 0 && (JSON.parse(stdout) as { id: string }).id === f.site.a.id;
  });
  await f.flowsWithin(5);
  const other = await cluster.attach('h1', 'blue', 'c6');
  f.check(bare(other.ip) !== bare(f.site.a.ip), 'its address is not free');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c6'));
  f.check((await keysBelow(cluster, '/weft/networks/blue/subnets/')).length === 2, 'no second subnet');
  await f.streamLives();
});
