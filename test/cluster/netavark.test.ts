// Containers attached by netavark's plugin on two hosts: the shim, started as podman's netavark starts it.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { exec, type Outcome } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';

interface StatusBlock {
  dns_server_ips: string[];
  dns_search_domains: string[];
  interfaces: Record<string, { mac_address: string; subnets: { ipnet: string; gateway?: string }[] }>;
}

interface PodmanNetwork {
  name: string;
  subnets: { subnet: string }[];
  ipam_options: Record<string, string>;
  internal: boolean;
}

let lab: Cluster;

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2');
    await lab.startController();
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  },
  async () => lab?.lab.down(),
  async (t) => {
    for (const host of ['h1', 'h2']) t.notRegex(await lab.sh(host, 'ip -br link'), /wfep/, host);
    await lab.until('etcd has no endpoint', async () => (await endpoints()).length === 0);
  },
);

const endpoints = (): Promise<EndpointJson[]> => lab.json<EndpointJson[]>('h1', 'endpoint', 'ls');

/** As podman hands it over. */
const network = (changes: object = {}): object => ({
  ...{ name: 'blue', id: 'a'.repeat(64), driver: 'weft', created: '2026-11-30T10:00:00Z' },
  ...{ ipv6_enabled: false, internal: false, dns_enabled: true, ...changes },
});

function plugin(host: string, argv: readonly string[], input: object): Promise<Outcome> {
  const shim = ['sh', join(CHECKOUT, 'bin/weft-netavark'), ...argv];
  return exec(lab.place(host).inside(shim), {
    env: { WEFT_CNI_SOCKET: join(lab.folder, host, 'run/cni.sock') },
    input: JSON.stringify(input),
  });
}

async function create(host: string, asked: object): Promise<PodmanNetwork> {
  const { code, stdout } = await plugin(host, ['create'], asked);
  if (code !== 0) throw new Error(stdout);
  return JSON.parse(stdout) as PodmanNetwork;
}

function call(
  host: string,
  command: string,
  container: string,
  options: object = {},
  rest: object = {},
): Promise<Outcome> {
  return plugin(host, [command, `/run/netns/${lab.ns(container)}`], {
    ...{ container_id: container.repeat(30), container_name: `${container}-name`, port_mappings: null },
    network: network(),
    network_options: { interface_name: 'eth0', aliases: [container.repeat(6)], static_ips: null, ...options },
    ...rest,
  });
}

async function setup(...args: Parameters<typeof call>): Promise<StatusBlock> {
  const { code, stdout } = await call(...args);
  if (code !== 0) throw new Error(stdout);
  return JSON.parse(stdout) as StatusBlock;
}

async function refused(t: ExecutionContext, outcome: Promise<Outcome>, words: RegExp): Promise<void> {
  const { code, stdout } = await outcome;
  t.not(code, 0, stdout);
  t.regex((JSON.parse(stdout) as { error: string }).error, words);
}

test.serial('create makes or joins a network, and takes addresses out of podman’s hands', async (t) => {
  const blue = await create('h1', network());
  t.like(blue, { name: 'blue', driver: 'weft', ipam_options: { driver: 'weft' }, internal: false });
  t.deepEqual(blue.subnets, [{ subnet: '10.100.0.0/16' }]);
  const own = network({ name: 'own', subnets: [{ subnet: '10.109.0.0/16' }], internal: true });
  for (const host of ['h1', 'h2', 'h1']) t.like(await create(host, own), { name: 'own', internal: true });
  t.like(await lab.json('h1', 'network', 'inspect', 'own'), { subnet: '10.109.0.0/16', internal: true });
  t.deepEqual((await create('h2', network({ name: 'other', options: { 'weft.network': 'own' } }))).subnets, [
    { subnet: '10.109.0.0/16' },
  ]);
  for (const [changes, words] of [
    [{ name: 'nowhere' }, /there is no network nowhere.*--subnet/],
    [{ subnets: [{ subnet: '10.99.0.0/16' }] }, /is 10\.100\.0\.0\/16/],
    [{ internal: true }, /without --internal/],
    [{ options: { isolate: 'true' } }, /isolate/],
    [{ subnets: [{ subnet: '10.100.0.0/16', lease_range: { start_ip: '10.100.0.9' } }] }, /ip-range/],
  ] as const)
    await refused(t, plugin('h1', ['create'], network(changes)), words);
  await lab.weft('h1', 'network', 'rm', 'own');
});

test.serial('setup and teardown: traffic, names, ports, chosen addresses', async (t) => {
  const one = await setup(
    'h1',
    'setup',
    'c1',
    {},
    {
      port_mappings: [{ container_port: 80, host_ip: '', host_port: 8080, protocol: 'tcp', range: 2 }],
    },
  );
  const two = await setup('h2', 'setup', 'c2', { static_mac: '02:00:00:00:00:2a' });
  t.deepEqual([one.dns_server_ips, one.dns_search_domains], [['169.254.53.53'], ['blue.weft']]);
  t.is(two.interfaces['eth0']?.mac_address, '02:00:00:00:00:2a');
  const ip = bare(two.interfaces['eth0']?.subnets[0]?.ipnet ?? '');
  await lab.until('c1 reaches c2', () => lab.reaches('c1', ip));
  const all = await lab.until('both are listed', async () => {
    const found = await endpoints();
    return found.length === 2 && found;
  });
  const web = all.find(({ node }) => node === 'h1');
  t.like(web, { name: 'c1-name', manager: 'netavark', aliases: ['c1c1c1c1c1c1'] } as never);
  t.deepEqual(
    web?.publish.map(({ hostPort, port }) => [hostPort, port]),
    [
      [8080, 80],
      [8081, 81],
    ],
  );
  const asked = await lab.sh('c1', 'dig +short +timeout=2 @169.254.53.53 c2-name.blue.weft');
  t.is(asked, `${ip}\n`);
  // network reload: down and up in the same namespace.
  t.is((await call('h1', 'teardown', 'c1')).stdout, '');
  const wanted = bare(one.interfaces['eth0']?.subnets[0]?.ipnet ?? '').replace(/\d+$/, '77');
  const again = await setup('h1', 'setup', 'c1', { static_ips: [wanted] });
  t.is(again.interfaces['eth0']?.subnets[0]?.ipnet, `${wanted}/24`);
  for (let times = 0; times < 2; times++) t.is((await call('h1', 'teardown', 'c1')).code, 0);
  await call('h2', 'teardown', 'c2');
});

test.serial('a setup that fails leaves nothing, and a container that vanished is noticed', async (t) => {
  await refused(t, call('h1', 'setup', 'c1', { static_ips: ['10.9.9.9'] }), /10\.9\.9\.9/);
  await refused(t, call('h1', 'setup', 'c1', { interface_name: '' }), /ifname/);
  await refused(t, call('h1', 'setup', 'c1', {}, { network: network({ name: 'nowhere' }) }), /nowhere/);
  await refused(t, plugin('h1', ['setup', '/run/netns/none'], {}), /container_id/);
  await refused(t, plugin('h1', ['jump'], {}), /create, setup, teardown/);
  t.regex(await lab.sh('c1', 'ip -br link'), /^lo .*\n$/);
  await lab.addContainers('gone');
  await setup('h1', 'setup', 'gone');
  await lab.removeContainer('gone');
  await lab.until('its endpoint goes', async () => (await endpoints()).length === 0);
  t.is((await plugin('h1', ['info'], {})).stdout.includes('api_version'), true);
});
