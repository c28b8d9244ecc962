// Underlay addresses of nodes: which one a node takes, when it moves, NAT, and two nodes of one address.
import test from 'ava';

import { bare, Cluster, ETCD } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';

interface Status {
  health: string;
  node: { publicIp: string; publicIp6: string };
  problems: { what: string; why: string; fix: string }[];
}

let lab: Cluster;

async function setUp(): Promise<void> {
  lab = await Cluster.create(3);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'c5', 'c6');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  await lab.startAgents(['h1', 'h2']);
  const subnets = ['--subnet', '10.100.0.0/16', '--subnet6', 'fd42:100::/48'];
  await lab.json('h1', 'network', 'create', 'blue', ...subnets);
  await lab.attach('h1', 'blue', 'c1');
}

shareAmongTests(test, setUp, () => lab?.lab.down());

const status = (host: string): Promise<Status> => lab.json<Status>(host, 'status');

async function standsOn(host: string): Promise<string[]> {
  const { node } = await status(host);
  return [node.publicIp, node.publicIp6];
}

/** A change of the MTU is taken up together with all before it. */
async function takenUp(host: string, mtu: number): Promise<void> {
  await lab.sh(host, `ip link set eth0 mtu ${mtu}`);
  await lab.says(lab.process(`agent-${host}`), ` mtu=${mtu}`);
}

test.serial('a node stays on its addresses while it has them, also over a restart', async (t) => {
  const b = await lab.attach('h2', 'blue', 'c2');
  const own = await standsOn('h2');
  const { ip, ip6 } = lab.lab.host(2);
  t.deepEqual(own, [ip, ip6]);
  await lab.sh(
    'h2',
    `
    ip addr add 192.0.2.99/32 dev eth0; ip addr add 2001:db8::99/128 dev eth0 nodad
    ip addr add 2001:db8::dead/64 dev eth0 nodad preferred_lft 0; ip addr add 2001:db8::5/64 dev eth0 nodad
    ip link add vpn0 type veth peer name vpn1; ip link set vpn1 up; ip link set vpn0 up
    ip addr add 198.18.7.2/24 dev vpn0; ip route del default; ip -6 route del default
    ip route add default via 198.18.7.1 dev vpn0 metric 5; ip route add default via 192.0.2.1 metric 50
    `,
  );
  // h1 has it, and duplicate address detection fails.
  const taken = lab.lab.host(1).ip6;
  await lab.sh('h2', `ip addr add ${taken}/64 dev eth0`);
  await lab.until('detection has failed', async () =>
    (await lab.sh('h2', 'ip -6 addr show dev eth0')).includes('dadfailed'),
  );
  await takenUp('h2', 1480);
  t.deepEqual(await standsOn('h2'), own);
  await lab.process('agent-h2').stop();
  await lab.startAgents(['h2']);
  t.deepEqual(await standsOn('h2'), own);
  for (const to of [b.ip, b.ip6 ?? '']) await lab.until(to, () => lab.reaches('c1', bare(to)));
  await lab.sh(
    'h2',
    `
    ip link del vpn0; ip route replace default via 192.0.2.1; ip -6 route replace default via 2001:db8::1
    for a in 192.0.2.99/32 2001:db8::99/128 2001:db8::dead/64 2001:db8::5/64 ${taken}/64; do ip addr del $a dev eth0; done
    `,
  );
});

test.serial('a node whose address is gone moves, and its record with it', async (t) => {
  const b = await lab.attach('h2', 'blue', 'c2');
  await lab.until('traffic', () => lab.reaches('c1', bare(b.ip)));
  const { ip } = lab.lab.host(2);
  const fresh = '192.0.2.212';
  const record = async (): Promise<string> =>
    (await lab.json<{ publicIp: string }>('h1', 'node', 'inspect', 'h2')).publicIp;
  for (const [from, to] of [
    [ip, fresh],
    [fresh, ip],
  ] as const) {
    await lab.sh(
      'h2',
      `ip addr del ${from}/24 dev eth0; ip addr add ${to}/24 dev eth0; ip route replace default via 192.0.2.1`,
    );
    await lab.until('the record of the node has the new address', async () => (await record()) === to);
    t.is((await standsOn('h2'))[0], to);
    await lab.until('traffic goes on', () => lab.reaches('c1', bare(b.ip)));
  }
});

test.serial('behind one-to-one NAT: others are told the public address', async (t) => {
  const [inside, outside] = ['198.51.100.33', '192.0.2.133'];
  // The router, in the host itself: what arrives for the one address is the other's, and the other way round.
  await lab.sh(
    'h3',
    `
    ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip link set lan0 up
    ip addr add ${inside}/24 dev lan0; ip addr add ${outside}/24 dev eth0
    nft -f - <<'END'
    table ip nat-of-the-site {
      chain in { type nat hook prerouting priority dstnat; ip daddr ${outside} dnat to ${inside}; }
      chain out { type nat hook postrouting priority srcnat; oif eth0 ip saddr ${inside} snat to ${outside}; }
    }
END
    `,
  );
  await lab.startAgents(['h3'], ['--underlay-ip', inside, '--public-ip', outside]);
  await lab.json('h1', 'network', 'create', 'v4', '--subnet', '10.101.0.0/16');
  const near = await lab.attach('h1', 'v4', 'c3');
  const far = await lab.attach('h3', 'v4', 'c4');
  await lab.until('there', () => lab.reaches('c3', bare(far.ip)));
  t.true(await lab.reaches('c4', bare(near.ip)));
  t.is((await standsOn('h3'))[0], outside);
  const { leases } = await lab.json<{ leases: { node: string; publicIp: string }[] }>(
    'h1',
    'network',
    'inspect',
    'v4',
  );
  t.is(leases.find(({ node }) => node === 'h3')?.publicIp, outside);
  t.is((await lab.json<{ publicIp: string }>('h1', 'node', 'inspect', 'h3')).publicIp, outside);
  t.regex(await lab.sh('h3', 'ip -d link show type vxlan'), new RegExp(` local ${inside} `));
  await lab.process('agent-h3').stop();
  await lab.json('h1', 'node', 'rm', 'h3', '--force');
});
