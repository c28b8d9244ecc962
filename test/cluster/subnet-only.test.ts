// --subnet-only: tunnel, routes, firewall and NETWORK.env are weft's, the bridge is another program's.
//
// The other program is a shell here; test/docker/subnet-only.test.ts has real engines.
import test from 'ava';

import { Cluster } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';

const HOSTS = ['h1', 'h2'];
const PREFIX = '/weft/networks/plain';

let lab: Cluster;

/** A network with flannel's own VNI, and on each host a bridge `docker0` with the subnet and a container on it. */
async function setUp(): Promise<void> {
  lab = await Cluster.create(HOSTS.length);
  await lab.startController();
  await lab.json('h1', ...'network create plain --subnet 10.5.0.0/16 --vni 1'.split(' '));
  await lab.startAgents(HOSTS, ['--subnet-only', 'plain']);
  for (const host of HOSTS) {
    const env = await lab.until('the env file is there', async () => {
      const { code, stdout } = await lab.try(host, `cat ${lab.folder}/${host}/run/subnets/plain.env`);
      return code === 0 && stdout;
    });
    const value = (name: string): string => new RegExp(`${name}=(.*)`).exec(env)?.[1] ?? '';
    const gateway = value('FLANNEL_SUBNET');
    const container = `c-${host}`;
    await lab.addContainers(container);
    const end = `ve-${host}`;
    await lab.sh(
      host,
      `ip link add docker0 mtu ${value('FLANNEL_MTU')} type bridge && ip addr add ${gateway} dev docker0 &&
       ip link set docker0 up && ip link add ${end} mtu ${value('FLANNEL_MTU')} type veth peer name eth0 netns ${lab.ns(container)} &&
       ip link set ${end} master docker0 up && iptables -P FORWARD DROP && iptables -A FORWARD -i docker0 -j ACCEPT &&
       iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT`,
    );
    await lab.sh(
      container,
      `ip link set lo up; ip link set eth0 up; ip addr add ${addressOn(gateway)}/24 dev eth0; ip route add default via ${gateway.split('/')[0]}`,
    );
    addresses.set(host, addressOn(gateway));
  }
  await lab.until('the path is there', () => lab.reaches('c-h1', addressOf('h2')));
}

const addresses = new Map<string, string>();
const addressOn = (gateway: string): string => gateway.replace(/\.1\/24$/, '.9');
const addressOf = (host: string): string => addresses.get(host) ?? '';

shareAmongTests(test, setUp, async () => lab?.lab.down());

test.serial(
  'containers of other programs reach each other under their own addresses, and the outside',
  async (t) => {
    await lab.until('the path is there', () => lab.reaches('c-h1', addressOf('h2')));
    t.true(await lab.reaches('c-h2', addressOf('h1')));
    // Masqueraded: the outside knows no way to the network.
    t.true(await lab.reaches('c-h1', lab.ipOf('h2')));
    const links = await lab.sh('h1', 'ip link');
    t.regex(links, /wfvx1:/);
    t.notRegex(links, /wfbr/);
    t.regex(
      await lab.sh('h1', 'ip -o addr show dev docker0'),
      new RegExp(`${addressOf('h1').replace(/9$/, '1')}/24`),
    );
    const seen = lab.spawn('seen', 'c-h2', [
      'timeout',
      '20',
      'tcpdump',
      '-lnc',
      '1',
      '-i',
      'eth0',
      'icmp[0] == 8',
    ]);
    await lab.says(seen, 'listening on');
    t.true(await lab.reaches('c-h1', addressOf('h2')));
    await lab.says(seen, `${addressOf('h1')} > ${addressOf('h2')}`);
  },
);

test.serial('its bridge is the network; the LAN and other bridges are outside', async (t) => {
  // Nothing but weft's rules is in the way.
  await lab.sh('h1', 'iptables -A FORWARD -j ACCEPT');
  await lab.addContainers('alien');
  await lab.sh(
    'h1',
    `ip link add docker1 type bridge && ip addr add 172.30.0.1/24 dev docker1 && ip link set docker1 up &&
     ip link add ve-alien type veth peer name eth0 netns ${lab.ns('alien')} && ip link set ve-alien master docker1 up`,
  );
  await lab.sh(
    'alien',
    'ip link set eth0 up; ip addr add 172.30.0.2/24 dev eth0; ip route add default via 172.30.0.1',
  );
  await lab.sh('outside', `ip route replace 10.5.0.0/16 via ${lab.ipOf('h1')}`);
  await lab.until('the bridge is up', () => lab.reaches('alien', '172.30.0.1'));
  for (const from of ['outside', 'alien'])
    for (const to of HOSTS) t.false(await lab.reaches(from, addressOf(to)), `${from} to ${to}`);
  t.true(await lab.reaches('c-h1', addressOf('h2')));
  t.true(await lab.reaches('c-h2', addressOf('h1')));
  const direct = (word: string): Promise<unknown> =>
    lab.json('h1', 'network', 'update', 'plain', '--direct-access', word);
  await direct('on');
  for (const from of ['outside', 'alien'])
    await lab.until(`${from} is let in`, () => lab.reaches(from, addressOf('h1')));
  await direct('off');
  await lab.until('it is closed again', async () => !(await lab.reaches('outside', addressOf('h1'))));
  await lab.sh('h1', 'iptables -D FORWARD -j ACCEPT; ip link del docker1');
  await lab.sh('outside', 'ip route del 10.5.0.0/16');
  await lab.removeContainer('alien');
});

test.serial('attaching there is refused with the reason; the network is no problem', async (t) => {
  await lab.addContainers('other');
  const { code, stderr } = await lab.weft('h1', 'attach', 'plain', lab.ns('other'));
  t.is(code, 1);
  t.regex(stderr, /--subnet-only plain, so its bridge is another program's/);
  const { problems } = await lab.json<{ problems: unknown[] }>('h1', 'status');
  t.deepEqual(problems, []);
  await lab.removeContainer('other');
});

test.serial('a restart of the agent costs no packet, and leaves the other program’s bridge', async (t) => {
  const before = await lab.sh('h2', 'ip -o link show docker0');
  await lab.process('agent-h2').stop();
  t.true(await lab.reaches('c-h1', addressOf('h2')));
  await lab.startAgents(['h2'], ['--subnet-only', 'plain']);
  t.true(await lab.reaches('c-h1', addressOf('h2')));
  t.is(await lab.sh('h2', 'ip -o link show docker0'), before);
});

test.serial(
  'a host moves from a flanneld in place: the same subnet, and at most 3 s without traffic',
  async (t) => {
    // h2 becomes what a flanneld leaves: its lease, and its device with the network's VNI.
    await lab.process('agent-h2').stop();
    const subnet = addressOf('h2').replace(/9$/, '0');
    await lab.sh('h2', `ip link del wfvx1; nft delete table inet weft; rm -rf ${lab.folder}/h2/state/*`);
    const mac = '02:00:00:00:02:02';
    const peer = JSON.parse(
      await lab.etcdctl(
        'get',
        '--print-value-only',
        `${PREFIX}/subnets/${addressOf('h1').replace(/9$/, '0')}-24`,
      ),
    );
    await lab.sh(
      'h2',
      `ip link add flannel.1 address ${mac} mtu 1450 type vxlan id 1 local ${lab.ipOf('h2')} dstport 8472 nolearning &&
     ip addr add ${subnet}/32 dev flannel.1 && ip link set flannel.1 up &&
     bridge fdb append ${peer.BackendData.VtepMAC} dev flannel.1 dst ${lab.ipOf('h1')} &&
     ip neigh add ${addressOf('h1').replace(/9$/, '0')} lladdr ${peer.BackendData.VtepMAC} dev flannel.1 nud permanent &&
     ip route add ${addressOf('h1').replace(/9$/, '0')}/24 via ${addressOf('h1').replace(/9$/, '0')} dev flannel.1 onlink &&
     iptables -I FORWARD -i flannel.1 -j ACCEPT && iptables -I FORWARD -o flannel.1 -j ACCEPT`,
    );
    const lease = {
      PublicIP: lab.ipOf('h2'),
      BackendType: 'vxlan',
      BackendData: { VNI: 1, VtepMAC: mac },
    };
    await lab.etcdctl('put', `${PREFIX}/subnets/${subnet}-24`, JSON.stringify(lease));
    await lab.until('flannel’s host is reached', () => lab.reaches('c-h1', addressOf('h2')));

    const pings = lab.spawn('pings', 'c-h1', ['ping', '-n', '-i', '0.1', '-w', '60', addressOf('h2')]);
    await lab.says(pings, 'icmp_seq=3 ');
    await lab.startAgents(['h2'], ['--subnet-only', 'plain']);
    await lab.until('the device is refused', async () => {
      const { problems } = await lab.json<{ problems: { what: string }[] }>('h2', 'status');
      return problems.some(({ what }) => what.includes('wfvx1'));
    });
    await lab.sh('h2', 'ip link del flannel.1');
    await lab.until('traffic flows', () => lab.reaches('c-h1', addressOf('h2')));
    await pings.stop();
    const seen = [...pings.log().matchAll(/icmp_seq=(\d+) ttl/g)].map((match) => Number(match[1]));
    const longest = Math.max(...seen.slice(1).map((seq, i) => (seq - (seen[i] ?? 0)) * 0.1));
    t.true(longest <= 3, `${longest} s`);
    const { leases } = await lab.json<{ leases: { node: string | null; subnet: string }[] }>(
      'h1',
      ...['network', 'inspect', 'plain'],
    );
    t.deepEqual(
      leases.filter((one) => one.subnet === `${subnet}/24`).map(({ node }) => node),
      ['h2'],
    );
  },
);
