// Networks beside routes that the hosts have for other purposes: LANs of a second NIC, VPNs, a company's 10/8.
import test from 'ava';

import { bare, Cluster, INFRA, INFRA_IP } from '../lab/cluster.js';

let lab: Cluster;

interface Report {
  what: string;
  why: string;
  fix: string;
}

interface StatusJson {
  health: string;
  networks: { name: string; subnet: string }[];
  problems: Report[];
  warnings: Report[];
}

/** Without the warnings of plain text, which the lab speaks. */
async function status(host: string): Promise<StatusJson> {
  const now = await lab.json<StatusJson>(host, 'status');
  return { ...now, warnings: now.warnings.filter(({ why }) => !why.includes('plain text')) };
}

test.before(async () => {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2', 'k1');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  await lab.attach('h1', 'blue', 'c1');
});
test.after.always(() => lab?.lab.down());

test.serial(
  'a network at the addresses of a VPN is not joined, and the VPN is reached as before',
  async (t) => {
    await lab.sh(INFRA, 'ip addr add 10.103.9.9/32 dev lo');
    await lab.sh('h1', `ip route add 10.103.0.0/16 via ${INFRA_IP}`);
    t.true(await lab.reaches('c1', '10.103.9.9'));
    await lab.json('h1', 'network', 'create', 'corp', '--subnet', '10.103.0.0/16');
    const { code, stderr } = await lab.weft('h1', 'attach', 'corp', lab.ns('k1'));
    t.is(code, 1);
    t.regex(stderr, new RegExp(`route of this host: 10\\.103\\.0\\.0/16 via ${INFRA_IP} dev .*--force`, 's'));
    await lab.until('the containers of this host reach the VPN', () => lab.reaches('c1', '10.103.9.9'));
    t.is((await status('h1')).health, 'ok');
    t.regex((await lab.attach('h2', 'corp', 'k1')).ip, /^10\.103\./, 'a host without the route joins');
    await lab.weft('h2', 'detach', 'corp', lab.ns('k1'));
    await lab.sh('h1', 'ip route del 10.103.0.0/16');
    await lab.json('h1', 'network', 'rm', 'corp');
  },
);

test.serial('an address on the loopback and a VPN with a table of its own keep a network away', async (t) => {
  for (const [subnet, make, unmake, text] of [
    [
      '10.105.0.0/16',
      'ip addr add 10.105.7.7/32 dev lo',
      'ip addr del 10.105.7.7/32 dev lo',
      'dev lo table local',
    ],
    [
      '10.106.0.0/16',
      `ip rule add lookup 52 priority 5270 && ip route add 10.106.0.0/17 via ${INFRA_IP} table 52`,
      'ip rule del lookup 52 && ip route flush table 52',
      'table 52',
    ],
  ] as const) {
    await lab.json('h1', 'network', 'create', 'corp', '--subnet', subnet);
    await lab.sh('h1', make);
    const { code, stderr } = await lab.weft('h1', 'attach', 'corp', lab.ns('k1'));
    t.is(code, 1);
    t.true(stderr.includes(text), stderr);
    await lab.sh('h1', unmake);
    t.is((await lab.attach('h1', 'corp', 'k1')).network, 'corp');
    await lab.weft('h1', 'detach', 'corp', lab.ns('k1'));
    await lab.json('h1', 'network', 'rm', 'corp');
  }
});

test.serial('with --force every host joins, in a subnet beside the LAN of its other NIC', async (t) => {
  await lab.sh(
    'h1',
    'ip link add lan0 type bridge && ip addr add 10.70.1.5/24 dev lan0 && ip link set lan0 up',
  );
  await lab.sh('h1', `ip route add 10.70.2.0/25 via ${INFRA_IP} metric 50`);
  const create = ['network', 'create', 'lab', '--subnet', '10.70.0.0/22', '--host-prefix', '24'];
  await lab.json('h1', ...create);
  t.is((await lab.weft('h1', 'attach', 'lab', lab.ns('k1'))).code, 1);
  await lab.json('h1', 'network', 'rm', 'lab');
  await lab.json('h1', ...create, '--force');
  t.regex((await lab.attach('h1', 'lab', 'k1')).ip, /^10\.70\.3\./);
  const { health, warnings } = await lab.until('status warns of the routes', async () => {
    const now = await status('h1');
    return now.warnings.length > 0 && now;
  });
  t.is(health, 'ok');
  t.regex(
    warnings[0]?.why ?? '',
    /10\.70\.1\.0\/24 dev lan0.*10\.70\.2\.0\/25|10\.70\.2\.0\/25.*10\.70\.1\.0\/24 dev lan0/,
  );
  t.regex((await lab.weft('h1', 'status')).stdout, /^Warnings:$/m);
  await lab.weft('h1', 'detach', 'lab', lab.ns('k1'));
  await lab.json('h1', 'network', 'rm', 'lab');
  await lab.sh('h1', 'ip link del lan0; ip route del 10.70.2.0/25 metric 50');
});

const AROUND = {
  'a route': [`ip route add 10.0.0.0/8 via ${INFRA_IP}`, 'ip route del 10.0.0.0/8', /10\.0\.0\.0\/8 via/],
  'a LAN': [
    'ip link add lan0 type bridge && ip addr add 10.9.9.9/8 dev lan0 && ip link set lan0 up',
    'ip link del lan0',
    /10\.0\.0\.0\/8 dev lan0/,
  ],
} as const;

for (const [what, [make, unmake, text]] of Object.entries(AROUND))
  test.serial(`${what} that contains the network is a warning, a default route is not`, async (t) => {
    await lab.sh('h1', `ip route add 0.0.0.0/1 via ${INFRA_IP}; ${make}`);
    const { health, warnings } = await lab.until('status warns of it', async () => {
      const now = await status('h1');
      return now.warnings.length > 0 && now;
    });
    t.is(health, 'ok');
    t.is(warnings.length, 1);
    t.regex(warnings[0]?.why ?? '', text);
    await lab.json('h1', 'network', 'create', 'green', '--subnet', '10.104.0.0/16');
    t.regex((await lab.attach('h1', 'green', 'k1')).ip, /^10\.104\./, 'it refuses nothing');
    await lab.weft('h1', 'detach', 'green', lab.ns('k1'));
    await lab.json('h1', 'network', 'rm', 'green');
    await lab.sh('h1', `ip route del 0.0.0.0/1; ${unmake}`);
    await lab.until('the warning goes', async () => (await status('h1')).warnings.length === 0);
  });

test.serial(
  'a route that swallows a peer’s subnet is named as the cause, and the data path is back with its end',
  async (t) => {
    const { ip } = await lab.attach('h2', 'blue', 'c2');
    await lab.until('the containers reach each other', () => lab.reaches('c1', bare(ip)));
    const part = `${bare(ip).replace(/\d+$/, '0')}/25`;
    await lab.sh('h1', `ip route add ${part} via ${INFRA_IP}`);
    const named = await lab.until('the path and the network name the route', async () => {
      const now = await status('h1');
      return now.problems.length >= 2 && now;
    });
    t.is(named.health, 'degraded');
    for (const { why } of named.problems) t.true(why.includes(part), why);
    t.false(JSON.stringify(named.problems).includes('UDP'));
    t.is((await lab.attach('h1', 'blue', 'c1')).network, 'blue', 'the node is still on the network');
    await lab.sh('h1', `ip route del ${part}`);
    await lab.until('the containers reach each other again', () => lab.reaches('c1', bare(ip)));
    await lab.until('status is ok', async () => (await status('h1')).health === 'ok');
  },
);
