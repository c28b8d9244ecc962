// moby's network integration tests, ported to weft's driver, on a real engine.
//
// Titles are the names of those tests (integration-cli/docker_cli_network_unix_test.go); docs/docker.md lists them, and which
// cannot hold.
import test from 'ava';

import type { DockerHost } from '../lab/docker.js';
import { shareAmongTests } from '../lab/fresh.js';
import { connection, CREATE, DockerCluster, pings, pingsNot, refused, start } from './cluster.js';

let lab: DockerCluster;
let host: DockerHost;

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  host = lab.h1;
  await host.ask(...CREATE, '--subnet', '10.9.0.0/16', 'net1');
  await host.ask(...CREATE, '--subnet', '10.10.0.0/16', '--ipv6', '--subnet', 'fd00:10::/48', 'net2');
}

shareAmongTests(test, setUp, async () => lab?.down());

const remove = (...names: string[]): Promise<string> => host.ask('rm', '-f', ...names);

test.serial('TestDockerNetworkConnectDisconnect, TestDockerInspectNetworkWithContainerName', async (t) => {
  const containers = async (): Promise<{ Name: string; IPv4Address: string }[]> =>
    Object.values(
      (
        await host.inspect<{ Containers: Record<string, { Name: string; IPv4Address: string }> }>(
          'network',
          'inspect',
          'net1',
        )
      ).Containers,
    );
  await start(host, 'inspected');
  t.deepEqual(await containers(), []);
  await host.ask('network', 'connect', 'net1', 'inspected');
  const { IPAddress, IPPrefixLen } = await connection(host, 'inspected', 'net1');
  t.like(await containers(), [{ Name: 'inspected', IPv4Address: `${IPAddress}/${IPPrefixLen}` }]);
  await host.ask('rename', 'inspected', 'renamed');
  t.is((await containers())[0]?.Name, 'renamed');
  await host.ask('network', 'disconnect', '-f', 'net1', 'renamed');
  t.deepEqual(await containers(), []);
  await remove('renamed');
});

test.serial(
  'TestDockerNetworkCustomIPAM: weft’s IPAM under another driver starts no container, with the reason',
  async (t) => {
    await host.ask('network', 'create', '--ipam-driver', 'weft', '--subnet', '10.20.0.0/16', 'bridged');
    t.like(await host.inspect('network', 'inspect', 'bridged'), {
      Driver: 'bridge',
      IPAM: { Driver: 'weft' },
    });
    await refused(
      t,
      host,
      ['run', '--rm', '--network', 'bridged', 'busybox', 'true'],
      /only its addresses are weft's.*-d weft --ipam-driver weft/,
    );
    await host.ask('network', 'rm', 'bridged');
    t.deepEqual(
      await lab.cluster
        .json('h1', 'network', 'ls')
        .then((all) => (all as { name: string }[]).map(({ name }) => name).toSorted()),
      ['net1', 'net2'],
    );
  },
);

test.serial('TestDockerNetworkIPAMInvalidCombinations', async (t) => {
  const subnet = ['--subnet', '10.21.0.0/16'];
  await refused(
    t,
    host,
    [...CREATE, ...subnet, '--ip-range', '10.22.0.0/24', 'n'],
    /no matching subnet|not inside/,
  );
  await refused(
    t,
    host,
    [...CREATE, ...subnet, '--gateway', '10.21.0.1', '--gateway', '10.21.0.2', 'n'],
    /multiple gateways|gateway/,
  );
  await refused(
    t,
    host,
    [...CREATE, ...subnet, '--subnet', '10.21.1.0/24', 'n'],
    /multiple overlapping subnet|one subnet/,
  );
  await refused(t, host, [...CREATE, '--subnet', '10.9.128.0/17', 'n'], /overlaps network net1/);
});

test.serial('TestDockerNetworkAnonymousEndpoint, TestUserDefinedNetworkConnectivity', async (t) => {
  const anonymous = await host.ask(
    'run',
    '-d',
    '--init',
    '--network',
    'net1',
    'busybox',
    'sleep',
    'infinity',
  );
  await start(host, 'c1.net1', '--network', 'net1');
  await pings(t, host, anonymous, 'c1.net1');
  await pings(t, host, anonymous, 'c1.net1.net1');
  await host.ask('stop', '-t', '0', 'c1.net1');
  t.not((await host.in(anonymous, 'ping -c 1 -w 2 -W 2 c1.net1')).code, 0);
  await remove(anonymous, 'c1.net1');
});

test.serial(
  'TestUserDefinedNetworkConnectDisconnectLink, TestUserDefinedNetworkConnectDisconnectAlias',
  async (t) => {
    await start(host, 'first', '--network', 'net1', '--network-alias', 'foo');
    await start(host, 'second', '--network', 'net1', '--link', 'first:linked');
    const id = (await host.ask('inspect', '-f', '{{.Id}}', 'first')).slice(0, 12);
    for (const name of ['first', 'foo', 'linked', id]) await pings(t, host, 'second', name);
    await host.ask('network', 'connect', '--alias', 'bar', 'net2', 'first');
    await host.ask('network', 'connect', 'net2', 'second');
    await pings(t, host, 'second', 'bar');
    await host.ask('network', 'disconnect', 'net1', 'first');
    await pingsNot(t, host, 'second', 'foo');
    await pings(t, host, 'second', 'bar');
    await remove('first', 'second');
  },
);

test.serial('TestDockerNetworkOverlayPortMapping, TestDockerNetworkConnectWithPortMapping', async (t) => {
  await start(host, 'exposing', '--network', 'net1', '--expose', '80', '--expose', '443');
  const shown = await host.ask('inspect', '-f', '{{json .Config.ExposedPorts}}', 'exposing');
  t.deepEqual(JSON.parse(shown), { '443/tcp': {}, '80/tcp': {} });
  await start(host, 'mapped', '-p', '5000:5000');
  await host.ask('network', 'connect', 'net1', 'mapped');
  await host.ask('network', 'connect', 'net2', 'mapped');
  await remove('exposing', 'mapped');
});

test.serial(
  'TestDockerNetworkConnectWithMac, TestInspectAPIMultipleNetworks, TestDockerNetworkRestartWithMultipleNetworks',
  async (t) => {
    await start(host, 'multi', '--network', 'net1', '--mac-address', '02:42:ac:11:00:02');
    await host.ask('network', 'connect', 'net2', 'multi');
    t.is((await connection(host, 'multi', 'net1')).MacAddress, '02:42:ac:11:00:02');
    t.not((await connection(host, 'multi', 'net2')).MacAddress, '02:42:ac:11:00:02');
    await host.ask('restart', '-t', '0', 'multi');
    t.regex((await connection(host, 'multi', 'net1')).IPAddress, /^10\.9\./);
    t.regex((await connection(host, 'multi', 'net2')).IPAddress, /^10\.10\./);
    await refused(t, host, ['network', 'connect', 'net1', 'multi'], /already exists/);
    t.regex(
      (await connection(host, 'multi', 'net1')).IPAddress,
      /^10\.9\./,
      'TestDockerNetworkConnectFailsNoInspectChange',
    );
    await remove('multi');
  },
);

test.serial(
  'TestDockerNetworkDisconnectDefault, TestDockerNetworkDisconnectContainerNonexistingNetwork',
  async (t) => {
    await host.ask(...CREATE, '--subnet', '10.23.0.0/16', 'gone');
    await host.ask('create', '--name', 'foo', 'busybox', 'sleep', 'infinity');
    for (const network of ['net1', 'gone']) await host.ask('network', 'connect', network, 'foo');
    await host.ask('network', 'disconnect', 'bridge', 'foo');
    await host.ask('start', 'foo');
    const networks = async (): Promise<string[]> =>
      Object.keys(
        JSON.parse(await host.ask('inspect', '-f', '{{json .NetworkSettings.Networks}}', 'foo')) as object,
      ).toSorted();
    t.deepEqual(await networks(), ['gone', 'net1']);
    await host.ask('stop', '-t', '0', 'foo');
    await host.ask('network', 'rm', 'gone');
    await host.ask('network', 'disconnect', '-f', 'gone', 'foo');
    t.deepEqual(await networks(), ['net1']);
    await remove('foo');
  },
);

test.serial(
  'TestDockerNetworkConnectPreferredIP, TestDockerNetworkConnectPreferredIPStoppedContainer',
  async (t) => {
    const [four, six] = ['10.10.99.44', 'fd00:10:0:abcd::5544'];
    await host.ask('create', '--name', 'preferred', 'busybox', 'sleep', 'infinity');
    await host.ask('network', 'connect', '--ip', four, '--ip6', six, 'net2', 'preferred');
    for (let times = 0; times < 2; times++) {
      await host.ask('start', 'preferred');
      t.like(await connection(host, 'preferred', 'net2'), { IPAddress: four, GlobalIPv6Address: six });
      await host.ask('stop', '-t', '0', 'preferred');
    }
    await remove('preferred');
  },
);

test.serial('TestDockerNetworkUnsupportedRequiredIP', async (t) => {
  await host.ask(...CREATE, '--ipam-opt', 'weft.network=chosen', 'chosen');
  await refused(
    t,
    host,
    ['run', '--rm', '--network', 'chosen', '--ip', '10.9.9.9', 'busybox', 'true'],
    /user configured subnets/,
  );
  await host.ask('network', 'rm', 'chosen');
});

test.serial('TestDockerNetworkConnectLinkLocalIP', async (t) => {
  await start(host, 'll1', '--network', 'net1', '--link-local-ip', '169.254.7.7');
  await start(host, 'll2', '--network', 'net1', '--link-local-ip', '169.254.8.8');
  await pings(t, host, 'll1', '169.254.8.8');
  await host.ask('restart', '-t', '0', 'll2');
  // Its own address has changed, and with it the MAC address derived from it. A neighbour that resolved it before keeps the
  // old one for as long as Linux does (arp(7): base_reachable_time_ms); a new neighbour is answered.
  await start(host, 'll3', '--network', 'net1', '--link-local-ip', '169.254.9.9');
  await pings(t, host, 'll3', '169.254.8.8');
  await remove('ll1', 'll2', 'll3');
});
