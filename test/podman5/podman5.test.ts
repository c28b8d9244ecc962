// podman 5 with netavark on two hosts: what its users do, on a network of weft's.
import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { podman5Hosts, type Podman5Host } from '../lab/podman5.js';

let lab: Cluster;
let h1: Podman5Host;
let h2: Podman5Host;

interface Endpoint extends EndpointJson {
  manager: string;
  aliases: string[];
  labels: Record<string, string>;
}

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    const [hosts] = await Promise.all([podman5Hosts(lab, ['h1', 'h2']), lab.startController()]);
    [h1, h2] = hosts as [Podman5Host, Podman5Host];
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'red', '--subnet', '10.101.0.0/16');
    for (const host of [h1, h2]) {
      await host.install(lab);
      await host.ask('network', 'create', '-d', 'weft', '--subnet', '10.100.0.0/16', 'blue');
      await host.ask('network', 'create', '-d', 'weft', 'red');
    }
  },
  async () => {
    for (const host of [h1, h2]) await host?.podman('rm', '-f', '-a', '-t', '0');
    await lab?.lab.down();
  },
  async (t) => {
    for (const host of [h1, h2]) await host.ask('rm', '-f', '-a', '-t', '0');
    t.deepEqual(await listed(0), []);
    for (const host of ['h1', 'h2']) t.notRegex(await lab.sh(host, 'ip -br link'), /wfep/, host);
  },
);

/** Waits until the cluster has heard of so many. */
const listed = (count: number): Promise<Endpoint[]> =>
  lab.until(`${count} endpoints are listed`, async () => {
    const all = await lab.json<Endpoint[]>('h1', 'endpoint', 'ls');
    return all.length === count && all.toSorted((a, b) => a.name.localeCompare(b.name));
  });

test.serial('containers of two hosts: addresses, names, aliases, ports', async (t) => {
  await h1.start('web', '--network', 'blue', '--network-alias', 'www', '-p', '8080:80');
  await h2.start('db', '--network', 'blue');
  const [db, web] = await listed(2);
  t.is(await h1.addressOf('web', 'blue'), bare(web?.ip ?? ''));
  t.is(await h2.addressOf('db', 'blue'), bare(db?.ip ?? ''));
  t.like(web, { name: 'web', node: 'h1', manager: 'netavark' });
  t.true(web?.aliases.includes('www'));
  t.is(web?.labels['netavark.network'], 'blue');
  await lab.until(
    'web reaches db',
    async () => (await h1.in('web', `ping -c 1 -W 1 ${bare(db?.ip ?? '')}`)).code === 0,
  );
  for (const name of ['web', 'www', 'web.blue.weft']) {
    const { stdout } = await h2.in('db', `nslookup ${name}`);
    t.true(stdout.includes(bare(web?.ip ?? '')), `${name}: ${stdout}`);
  }
  t.is((await h1.in('web', 'echo hello >/index.html && httpd -p 80 -h /')).code, 0);
  t.is(await lab.sh('h2', 'curl -sf --max-time 5 http://192.0.2.11:8080/'), 'hello\n');
  await h1.ask('network', 'reload', 'web');
  t.is((await listed(2)).length, 2);
  t.is((await h1.in('web', `ping -c 1 -w 5 ${bare(db?.ip ?? '')}`)).code, 0);
});

test.serial('an address of the user’s choice, two networks, connect and disconnect', async (t) => {
  await h1.start('one', '--network', 'blue');
  const wanted = (await h1.addressOf('one', 'blue')).replace(/\d+$/, '77');
  await h1.start('two', '--network', `blue:ip=${wanted},mac=02:00:00:00:00:2a`, '--network', 'red');
  t.is(await h1.addressOf('two', 'blue'), wanted);
  // Which of them is eth0 podman leaves to chance.
  t.regex((await h1.in('two', 'cat /sys/class/net/eth*/address')).stdout, /^02:00:00:00:00:2a$/m);
  t.is((await h1.in('two', 'ip route | grep -c ^default')).stdout, '1\n');
  await h1.ask('network', 'disconnect', 'red', 'two');
  await listed(2);
  await h1.ask('network', 'connect', 'red', 'two');
  await listed(3);
  const { code, stderr } = await h1.podman(
    ...['run', '--rm', '--cgroup-parent', `/${h1.namespace}`, '--network', `blue:ip=${wanted}`],
    ...['localhost/busybox', 'true'],
  );
  t.not(code, 0);
  t.regex(stderr, /is in use by two/);
  t.is((await listed(3)).length, 3);
});

test.serial('restart, kill -9, and a stop that the agent does not hear of', async (t) => {
  await h1.start('again', '--network', 'blue');
  await h1.ask('restart', '-t', '0', 'again');
  const [again] = await listed(1);
  t.is(await h1.addressOf('again', 'blue'), bare(again?.ip ?? ''));
  await h1.ask('kill', '-s', 'KILL', 'again');
  await listed(0);
  await h1.ask('start', 'again');
  await listed(1);
  await lab.process('agent-h1').kill();
  await h1.podman('stop', '-t', '0', 'again');
  await lab.startAgents(['h1']);
  await listed(0);
});
