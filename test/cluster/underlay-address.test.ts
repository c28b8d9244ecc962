// Underlay addresses of nodes: which one a node takes, when it moves, NAT, and two nodes of one address.
import test from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import { addressesOf } from '../lab/names.js';

interface Status {
  health: string;
  node: { publicIp: string; publicIp6: string };
  problems: { what: string; why: string; fix: string }[];
}

let lab: Cluster;
let a: EndpointJson;

async function setUp(): Promise<void> {
  lab = await Cluster.create(3);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'c5', 'c6');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  await lab.startAgents(['h1', 'h2']);
  const subnets = ['--subnet', '10.100.0.0/16', '--subnet6', 'fd42:100::/48'];
  await lab.json('h1', 'network', 'create', 'blue', ...subnets);
  a = await lab.attach('h1', 'blue', 'c1');
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
  const duplicate = async (): Promise<boolean> =>
    (await status('h2')).problems.some(({ what }) => what === `address ${taken}/64 of eth0`);
  await lab.until('status says so', duplicate);
  await takenUp('h2', 1480);
  t.deepEqual(await standsOn('h2'), own);
  // The kernel drops what h1 says of its address; weft hears it.
  await lab.sh('h2', 'ip -6 neigh flush dev eth0');
  await lab.until('h1 by IPv6', () => lab.reaches('c2', bare(a.ip6 ?? '')));
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
  await lab.until('and then no more', async () => !(await duplicate()));
});

test.serial('a node whose address is gone moves, and its record with it', async (t) => {
  const b = await lab.attach('h2', 'blue', 'c2');
  await lab.until('traffic', () => lab.reaches('c1', bare(b.ip)));
  const { ip } = lab.lab.host(2);
  const fresh = '192.0.2.212';
  const record = async (): Promise<string> =>
    (await lab.json<{ publicIp: string }>('h1', 'node', 'inspect', 'h2')).publicIp;
  // A DHCP client has the new lease before it drops the old one, and makes the routes itself.
  const renumbered = '192.0.2.213';
  const dhcp = `
    echo 1 > /proc/sys/net/ipv4/conf/eth0/promote_secondaries
    ip addr add ${renumbered}/24 dev eth0 noprefixroute valid_lft 3600 preferred_lft 1800
    ip route add 192.0.2.0/24 dev eth0 proto dhcp src ${renumbered} metric 100
    ip route replace default via 192.0.2.1 dev eth0 proto dhcp src ${renumbered}; ip addr del ${fresh}/24 dev eth0`;
  const byHand = (from: string, to: string): string =>
    `ip addr del ${from}/24 dev eth0; ip addr add ${to}/24 dev eth0; ip route replace default via 192.0.2.1`;
  for (const [to, change] of [
    [fresh, byHand(ip, fresh)],
    [renumbered, dhcp],
    [ip, `ip route del 192.0.2.0/24 proto dhcp; ${byHand(renumbered, ip)}`],
  ] as const) {
    await lab.sh('h2', change);
    await lab.until('the record of the node has the new address', async () => (await record()) === to);
    t.is((await standsOn('h2'))[0], to);
    await lab.until('traffic goes on', () => lab.reaches('c1', bare(b.ip)));
  }
});

test.serial('behind one-to-one NAT: others are told the public address', async (t) => {
  const [inside, outside] = ['198.51.100.33', '192.0.2.133'];
  // The router, in the host itself: what arrives for the one address is the other's, and the other way round. It keeps no
  // flows: a router without its old address sends nothing from there.
  const nat = (outside: string): string => `
    nft -f - <<'END'
    table ip nat-of-the-site
    delete table ip nat-of-the-site
    table ip nat-of-the-site {
      chain in { type filter hook prerouting priority raw; ip daddr ${outside} ip daddr set ${inside}; }
      chain out { type filter hook postrouting priority srcnat; oif eth0 ip saddr ${inside} ip saddr set ${outside}; }
    }
END
    `;
  await lab.sh(
    'h3',
    `
    ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip link set lan0 up
    ip addr add ${inside}/24 dev lan0; ip addr add ${outside}/24 dev eth0; ${nat(outside)}`,
  );
  await lab.startAgents(['h3'], ['--underlay-ip', inside, '--public-ip', outside]);
  await lab.json('h1', 'network', 'create', 'v4', '--subnet', '10.101.0.0/16');
  const near = await lab.attach('h1', 'v4', 'c3');
  const far = await lab.attach('h3', 'v4', 'c4');
  await lab.until('there', () => lab.reaches('c3', bare(far.ip)));
  t.true(await lab.reaches('c4', bare(near.ip)));
  t.is((await standsOn('h3'))[0], outside);
  const leasedAt = async (): Promise<string | undefined> => {
    type Leases = { leases: { node: string; publicIp: string }[] };
    const { leases } = await lab.json<Leases>('h1', 'network', 'inspect', 'v4');
    return leases.find(({ node }) => node === 'h3')?.publicIp;
  };
  t.is(await leasedAt(), outside);
  t.is((await lab.json<{ publicIp: string }>('h1', 'node', 'inspect', 'h3')).publicIp, outside);
  t.regex(await lab.sh('h3', 'ip -d link show type vxlan'), new RegExp(` local ${inside} `));

  // The site gets another public address; the node has its network from the start.
  await lab.process('agent-h3').stop();
  const other = '192.0.2.134';
  await lab.sh('h3', `ip addr add ${other}/24 dev eth0; ${nat(other)}`);
  const flags = ['--underlay-ip', inside, '--public-ip', other, '--join', 'v4'];
  await lab.startAgents(['h3'], flags);
  await lab.until('there, at the new address', () => lab.reaches('c3', bare(far.ip)));
  t.true(await lab.reaches('c4', bare(near.ip)));
  t.is(await leasedAt(), other);
  t.is((await standsOn('h3'))[0], other);
  t.is((await lab.json<{ publicIp: string }>('h1', 'node', 'inspect', 'h3')).publicIp, other);
  await lab.process('agent-h3').stop();
  await lab.json('h1', 'node', 'rm', 'h3', '--force');
});

test.serial(
  'a machine installed anew under another name: the old names go, and status says what to do',
  async (t) => {
    await lab.startAgents(['h3']);
    const old = await lab.attach('h3', 'blue', 'c5', '--name', 'olddb');
    const named = (): Promise<string[]> => addressesOf(lab, 'c1', 'olddb.blue.weft', `@${a.gateway}`);
    await lab.until('it is named', async () => (await named()).includes(bare(old.ip)));
    await lab.process('agent-h3').kill();
    await lab.sh(
      'h3',
      `
    for l in $(ip -br link | grep -o '^wf[^ @]*'); do ip link del $l 2>/dev/null; done; nft flush ruleset
    rm -rf ${lab.folder}/h3/state ${lab.folder}/h3/run
    `,
    );
    await lab.removeContainer('c5');
    const anew = lab.spawn('agent-anew', 'h3', [WEFT, 'agent', ...lab.agentFlags('h3'), '--node', 'web7']);
    await lab.says(anew, 'the agent serves');
    const fresh = await lab.json<EndpointJson>('h3', 'attach', 'blue', lab.ns('c6'), '--name', 'newapp');
    await lab.until('the old name is gone', async () => (await named()).length === 0);
    await lab.until('the new one is there', async () =>
      (await addressesOf(lab, 'c1', 'newapp.blue.weft', `@${a.gateway}`)).includes(bare(fresh.ip)),
    );
    for (const args of [[], ['--agent', '/nonexistent/agent.sock']]) {
      // That h2 has not reached h3 at its address of before may be told for a moment.
      const only = await lab.until('status says one thing of h3', async () => {
        const { stdout } = await lab.weft('h1', 'status', ...args, '-o', 'json');
        const { problems } = JSON.parse(stdout) as Status;
        const [first, ...more] = problems.filter(({ what }) => what.includes('h3'));
        return more.length === 0 && first;
      });
      t.regex(`${only.why} ${only.fix}`, /node web7 has its (address|subnet) .*weft node rm h3/);
    }
    await lab.json('h1', 'node', 'rm', 'h3');
    await lab.until('nothing is left to do', async () => (await status('h1')).problems.length === 0);
    await anew.stop();
    await lab.json('h1', 'node', 'rm', 'web7', '--force');
  },
);

test.serial('two living nodes of one address are a problem', async (t) => {
  const there = lab.lab.host(2).ip;
  // Its agent is told the address of h2 as its own, as a machine that was copied has it.
  await lab.startAgents(['h3'], ['--public-ip', there]);
  await lab.until('status of a third says so', async () =>
    (await status('h1')).problems.some(({ what }) => what === 'nodes h2 and h3'),
  );
  await lab.process('agent-h3').stop();
  const { problems } = await status('h1');
  t.true(problems.every(({ what }) => what !== 'nodes h2 and h3'));
  await lab.json('h1', 'node', 'rm', 'h3', '--force');
});
