// The table of backends where neither the networks nor the underlay have IPv4; and what etcd and the env file say of them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import type { EndpointJson } from '../lab/cluster.js';
import { backendSuite } from './backend-suite.js';

const { lab } = backendSuite({ ipv4: false });

interface NetworkJson {
  subnet: string | null;
  subnet6: string;
  hostPrefix: number | null;
  leases: { node: string; subnet: string | null; subnet6: string; publicIp: string }[];
}

test.serial('config and leases are flannel’s; what has no IPv4 is null', async (t) => {
  const config = JSON.parse(await lab().etcdctl('get', '--print-value-only', '/weft/networks/gw/config'));
  t.like(config, { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd42:122::/48', IPv6SubnetLen: 64 });
  t.is(config.Network, undefined);
  const network = await lab().json<NetworkJson>('h1', 'network', 'inspect', 'vx');
  t.like(network, { subnet: null, subnet6: 'fd42:120::/48', hostPrefix: null });
  const own = network.leases.find(({ node }) => node === 'h1');
  t.like(own, { subnet: null, publicIp: lab().ipOf('h1') });
  const key = `/weft/networks/vx/subnets/0.0.0.0-0&${own?.subnet6.replace('/', '-') ?? ''}`;
  const lease = JSON.parse(await lab().etcdctl('get', '--print-value-only', key));
  t.like(lease, { PublicIP: '192.0.0.8', PublicIPv6: lab().ipOf('h1'), BackendType: 'vxlan' });
  t.is(lease.BackendData, undefined);
  t.truthy(lease.BackendV6Data);
  const env = readFileSync(join(lab().lab.host(1).runDir, 'subnets/vx.env'), 'utf8');
  t.is(
    env,
    `FLANNEL_IPV6_NETWORK=fd42:120::/48\nFLANNEL_IPV6_SUBNET=${own?.subnet6.replace('/', '1/') ?? ''}\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n`,
  );
  const { networks } = await lab().json<{ networks: { name: string; subnet: string | null }[] }>(
    'h1',
    'status',
  );
  t.is(networks.find(({ name }) => name === 'vx')?.subnet, null);
  const { stdout } = await lab().weft('h1', 'status');
  t.regex(stdout, /vx +fd42:120:/);
});

test.serial('a config by hand is a network; IPv4 has no place in it, nor on this node', async (t) => {
  const config = {
    EnableIPv4: false,
    EnableIPv6: true,
    IPv6Network: 'fd42:150::/48',
    Backend: { Type: 'host-gw' },
  };
  await lab().etcdctl('put', '/weft/networks/hand/config', JSON.stringify(config));
  await lab().addContainers('hand1', 'hand2');
  const four = await lab().weft('h1', 'attach', 'hand', lab().ns('hand1'), '--ip', '10.1.2.3');
  t.is(four.code, 1);
  t.regex(four.stderr, /ip: network hand has no IPv4 subnet/);
  const one = await lab().attach('h1', 'hand', 'hand1');
  const two = await lab().attach('h2', 'hand', 'hand2');
  t.like(one, { ip: null as unknown as string, mtu: 1500 } satisfies Partial<EndpointJson>);
  await lab().until('they reach each other', () =>
    lab().reaches('hand1', (two.ip6 ?? '').split('/')[0] ?? ''),
  );
  await lab().json('h1', 'network', 'create', 'four', '--subnet', '10.60.0.0/16');
  await lab().addContainers('four1');
  const { code, stderr } = await lab().weft('h1', 'attach', 'four', lab().ns('four1'));
  t.is(code, 1);
  t.regex(stderr, /network four is of IPv4, and this node has no IPv4 address on the underlay/);
  for (const name of ['hand', 'four']) await lab().json('h1', 'network', 'rm', name, '--force');
  for (const name of ['hand1', 'hand2', 'four1']) await lab().removeContainer(name);
});

test.serial('the outside is reached under the host’s address', async (t) => {
  t.true(await lab().reaches('vx-a', '2001:db8:ffff::1'));
});
