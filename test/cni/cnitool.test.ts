// CNI's own client, cnitool, on two hosts: `weft` alone, before CNI's own plugins, and as their IPAM.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import type { CniResult } from '../lab/cni.js';
import { CniHost, cniHosts, PLUGINS } from '../lab/cni-host.js';
import type { Outcome } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';

const CNITOOL = join(CHECKOUT, 'node_modules/.cache/weft-cni/v1.3.0/cnitool');

let lab: Cluster;
let h1: CniHost;
let h2: CniHost;

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    const [hosts] = await Promise.all([cniHosts(lab, ['h1', 'h2'], CniHost), lab.startController()]);
    [h1, h2] = hosts as [CniHost, CniHost];
    await lab.startAgents(['h1', 'h2'], ['--subnet-only', 'green']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await lab.json('h1', 'network', 'create', 'green', '--subnet', '10.102.0.0/16');
    for (const host of [h1, h2]) {
      await host.install(lab, 'blue');
      await host.must(['sh', '-c', 'for c in a b; do ip netns add $c; done']);
    }
  },
  async () => lab?.lab.down(),
  async (t) => {
    for (const host of [h1, h2]) {
      t.notRegex(await host.must(['ip', '-br', 'link']), /wfep/);
      t.regex(await host.must(['ip', 'netns', 'exec', 'a', 'ip', '-br', 'link']), /^lo .*\n$/);
    }
    await lab.until('etcd has no endpoint', async () => (await listed()).length === 0);
  },
);

const listed = (): Promise<EndpointJson[]> => lab.json('h1', 'endpoint', 'ls');

const cnitool = (
  host: CniHost,
  words: readonly string[],
  environment: Record<string, string> = {},
): Promise<Outcome> =>
  host.exec([CNITOOL, ...words], {
    env: { NETCONFPATH: host.confDir, CNI_PATH: `${host.binDir}:${PLUGINS}`, ...environment },
  });

async function done(host: CniHost, words: string, environment: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr } = await cnitool(host, words.split(' '), environment);
  if (code !== 0) throw new Error(`cnitool ${words}: exit ${code}\n${stdout}${stderr}`);
  return stdout;
}

const add = async (
  host: CniHost,
  network: string,
  environment?: Record<string, string>,
  container = 'a',
): Promise<CniResult> =>
  JSON.parse(await done(host, `add ${network} /run/netns/${container}`, environment)) as CniResult;

const within = (host: CniHost, command: string): Promise<Outcome> =>
  host.exec(['ip', 'netns', 'exec', 'a', 'sh', '-c', command]);

/** Another plugin's configuration does not name the socket. */
const environment = (host: CniHost): Record<string, string> => ({ WEFT_CNI_SOCKET: host.socket });

const conflist = (host: CniHost, name: string, ...plugins: object[]): void =>
  writeFileSync(
    join(host.confDir, `${name}.conflist`),
    JSON.stringify({ cniVersion: '1.0.0', name, plugins }),
  );

test.serial('add, check, status, gc and del, in the newest version that both know', async (t) => {
  const one = await add(h1, 'blue', {
    CAP_ARGS: JSON.stringify({ portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }),
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=one',
  });
  t.is(one.cniVersion, '1.1.0');
  const two = await add(h2, 'blue', { CNI_IFNAME: 'net0' });
  const ip = bare(two.ips[0]?.address ?? '');
  await lab.until(
    'a of h1 reaches a of h2',
    async () => (await within(h1, `ping -c 1 -W 1 ${ip}`)).code === 0,
  );
  t.is((await lab.until('both are listed', async () => (await listed()).length === 2 && listed())).length, 2);
  await done(h1, 'check blue /run/netns/a');
  await done(h1, 'status blue /run/netns/a');
  // A second one in the same place is refused, and the first stays.
  const { code, stdout, stderr } = await cnitool(h1, ['add', 'blue', '/run/netns/a'], {
    CNI_ARGS: 'IP=10.100.9.9',
  });
  t.not(code, 0, stdout);
  t.regex(stdout + stderr, /otherwise than asked/);
  await done(h1, 'check blue /run/netns/a');
  // cnitool lists no attachment as valid: libcni releases what it remembers.
  await done(h1, 'gc blue /run/netns/a');
  await lab.until('one is listed', async () => (await listed()).length === 1);
  await done(h1, 'del blue /run/netns/a');
  await done(h1, 'del blue /run/netns/a');
  await done(h2, 'del blue /run/netns/a', { CNI_IFNAME: 'net0' });
});

test.serial('chained: CNI’s bandwidth, tuning, portmap and firewall come after weft', async (t) => {
  conflist(
    h1,
    'chain',
    { type: 'weft', network: 'blue', socket: h1.socket },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
    { type: 'tuning', capabilities: { mac: true }, sysctl: { 'net.ipv4.conf.all.log_martians': '1' } },
    { type: 'portmap', capabilities: { portMappings: true }, snat: true },
    { type: 'firewall', backend: 'iptables' },
  );
  const bandwidth = {
    ingressRate: 1_000_000,
    ingressBurst: 80_000,
    // Less, or the answers would come at a rate that passes.
    egressRate: 500_000,
    egressBurst: 80_000,
  };
  const asked = {
    CAP_ARGS: JSON.stringify({
      bandwidth,
      mac: '02:00:00:00:00:55',
      portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }],
    }),
  };
  const made = await add(h1, 'chain', asked);
  // The last is of the bandwidth plugin, for what the container sends.
  t.is(made.interfaces.length, 4);
  t.is((await within(h1, 'cat /sys/class/net/eth0/address')).stdout, '02:00:00:00:00:55\n');
  t.is((await within(h1, 'cat /proc/sys/net/ipv4/conf/all/log_martians')).stdout, '1\n');
  t.regex(await h1.must(['iptables', '-t', 'nat', '-S']), /8081/);
  const gateway = `ping -c 1 -W 2 ${made.ips[0]?.gateway ?? ''}`;
  t.is((await within(h1, gateway)).code, 0);
  // Only the plugin's address counts, and none that the container gives itself.
  await within(h1, 'ip link set dev eth0 address 02:00:00:00:00:56');
  t.not((await within(h1, gateway)).code, 0);
  await within(h1, 'ip link set dev eth0 address 02:00:00:00:00:55');
  const limits = (): Promise<string> => h1.must(['tc', '-s', 'qdisc']);
  t.regex(await limits(), new RegExp(`qdisc tbf .* dev ${made.interfaces[1]?.name ?? 'none'} .* rate 1Mbit`));
  // More than the burst: both directions hold some of it back.
  await h1.must(['ping', '-f', '-c', '100', '-s', '1400', bare(made.ips[0]?.address ?? '')]);
  const held = (await limits()).split(/^qdisc /m).filter((one) => /^tbf[^]* overlimits [1-9]/.test(one));
  t.is(held.length, 2, await limits());
  // (portmap of Debian 12 looks for an IPv6 rule of ports that it has, and finds none; bandwidth without its limits crashes.)
  await done(h1, 'check chain /run/netns/a', { CAP_ARGS: JSON.stringify({ bandwidth }) });
  await done(h1, 'del chain /run/netns/a', asked);
  t.notRegex(await h1.must(['iptables', '-t', 'nat', '-S']), /8081/);
  t.notRegex(await limits(), /tbf/);
});

test.serial('as the IPAM of CNI’s bridge, whose containers of two hosts reach each other', async (t) => {
  for (const host of [h1, h2])
    conflist(host, 'green', {
      ...{ type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: false },
      ipam: { type: 'weft', network: 'green' },
    });
  const one = await add(h1, 'green', environment(h1));
  const two = await add(h2, 'green', environment(h2));
  t.regex(await h1.must(['ip', '-br', 'addr', 'show', 'cni0']), new RegExp(one.ips[0]?.gateway ?? 'none'));
  const ip = bare(two.ips[0]?.address ?? '');
  await lab.until('over weft’s tunnel', async () => (await within(h1, `ping -c 1 -W 1 ${ip}`)).code === 0);
  await done(h1, 'check green /run/netns/a', environment(h1));
  for (const host of [h1, h2]) await done(host, 'del green /run/netns/a', environment(host));
  t.deepEqual(await listed(), []);
});

test.serial('as the IPAM of CNI’s macvlan', async (t) => {
  const ipam = { type: 'weft', network: 'blue' };
  conflist(h1, 'lan', { type: 'macvlan', master: 'eth0', mode: 'bridge', ipam });
  const one = await add(h1, 'lan', environment(h1));
  const two = await add(h1, 'lan', environment(h1), 'b');
  t.not(one.ips[0]?.address, two.ips[0]?.address);
  t.regex((await within(h1, 'ip -d link show eth0')).stdout, /macvlan/);
  t.is((await within(h1, `ping -c 1 -w 5 ${bare(two.ips[0]?.address ?? '')}`)).code, 0);
  for (const container of ['a', 'b']) await done(h1, `del lan /run/netns/${container}`, environment(h1));
});
