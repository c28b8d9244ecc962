// `docker network create` and `rm` with weft's drivers, on two real Docker hosts.
import test from 'ava';

import { shareAmongTests } from '../lab/fresh.js';
import { CREATE, DockerCluster, pings, pingsNot, refused, start, connection } from './cluster.js';

let lab: DockerCluster;

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  await lab.createOnBoth('--subnet', '10.9.0.0/16', 'blue');
}

shareAmongTests(test, setUp, async () => lab?.down());

test.serial('the same command on every host makes one network, under Docker’s name', async (t) => {
  const blue = await lab.until('both hosts are on blue', async () => {
    const found = await lab.network('blue');
    return found.leases.length === 2 && found;
  });
  t.like(blue, { subnet: '10.9.0.0/16', hostPrefix: 24, internal: false, masquerade: true });
  t.deepEqual(blue.leases.map(({ node }) => node ?? '').toSorted(), ['h1', 'h2']);
  for (const [host, node] of [[lab.h1, 'h1'] as const, [lab.h2, 'h2'] as const]) {
    const { IPAM, Driver } = await host.inspect<{
      Driver: string;
      IPAM: { Driver: string; Config: { Subnet: string }[] };
    }>('network', 'inspect', 'blue');
    t.is(Driver, 'weft');
    t.like(IPAM, { Driver: 'weft', Config: [{ Subnet: '10.9.0.0/16' }] });
    // The gateway was reported to Docker before the network existed, and it is the one in use.
    await start(host, 'first', '--network', 'blue');
    const { Gateway, IPPrefixLen } = await connection(host, 'first', 'blue');
    const subnet = blue.leases.find((lease) => lease.node === node)?.subnet ?? '';
    t.is(Gateway, subnet.replace(/0\/24$/, '1'));
    t.is(IPPrefixLen, 24);
    await host.ask('rm', '-f', 'first');
  }
});

test.serial(
  'the name is weft.network, else the network with this subnet, else derived from the subnet',
  async (t) => {
    await lab.h1.ask(...CREATE, '--subnet', '10.20.0.0/16', '-o', 'weft.network=green', 'anything');
    t.true(await lab.hasNetwork('green'));
    await lab.h2.ask(...CREATE, '--subnet', '10.20.0.0/16', 'other.name');
    await lab.until(
      'the second host joined by the subnet',
      async () => (await lab.network('green')).leases.length === 2,
    );
    await lab.h1.ask(...CREATE, '--subnet', '10.21.0.0/16', 'has.dots');
    await lab.until('the name is derived from the subnet', () => lab.hasNetwork('net-10-21-0-0-16'));
    await lab.h2.ask(...CREATE, '--subnet', '10.22.0.0/16', '--ipam-opt', 'weft.network=ipam', 'by-ipam-opt');
    t.true(await lab.hasNetwork('ipam'));
    await refused(
      t,
      lab.h1,
      [...CREATE, '--subnet', '10.22.0.0/16', '-o', 'weft.network=wrong', 'n'],
      /10\.22\.0\.0\/16 is network ipam, not wrong/,
    );
    await refused(
      t,
      lab.h1,
      [
        ...CREATE,
        '--subnet',
        '10.23.0.0/16',
        '-o',
        'weft.network=one',
        '--ipam-opt',
        'weft.network=two',
        'n',
      ],
      /-o and --ipam-opt name different networks/,
    );
    await lab.h1.ask('network', 'rm', 'anything', 'has.dots');
    await lab.h2.ask('network', 'rm', 'other.name', 'by-ipam-opt');
    for (const name of ['green', 'net-10-21-0-0-16', 'ipam'])
      await lab.until(`${name} is deleted with its last host`, async () => !(await lab.hasNetwork(name)));
  },
);

test.serial('another subnet for the same name is refused', async (t) => {
  for (const option of ['-o', '--ipam-opt'])
    await refused(
      t,
      lab.h2,
      [...CREATE, '--subnet', '10.24.0.0/16', option, 'weft.network=blue', 'n'],
      /network blue is 10\.9\.0\.0\/16, not 10\.24\.0\.0\/16.*--subnet 10\.9\.0\.0\/16/s,
    );
  // By Docker's name alone weft learns it only after the answer: nothing is created, and no container starts.
  await lab.h2.ask('network', 'rm', 'blue');
  await lab.h2.ask(...CREATE, '--subnet', '10.24.0.0/16', 'blue');
  await refused(
    t,
    lab.h2,
    ['run', '--rm', '--network', 'blue', 'busybox', 'true'],
    /network blue is 10\.9\.0\.0\/16, not 10\.24\.0\.0\/16/,
  );
  const { problems } = await lab.cluster.json<{ problems: { what: string; fix: string }[] }>('h2', 'status');
  t.true(problems.some(({ what, fix }) => what.includes('blue') && fix.includes('docker network rm blue')));
  await lab.h2.ask('network', 'rm', 'blue');
  await lab.h2.ask(...CREATE, '--subnet', '10.9.0.0/16', 'blue');
  t.is((await lab.network('blue')).subnet, '10.9.0.0/16');
});

test.serial('a host that has the addresses already refuses the network, unless it is forced', async (t) => {
  await lab.h2.ask('network', 'create', '--subnet', '172.28.0.0/16', 'shop');
  await start(lab.h2, 'till', '--network', 'shop', '--ip', '172.28.0.5');
  const create = [...CREATE, '--subnet', '172.28.0.0/16'];
  const words = /overlaps a route of this host: 172\.28\.0\.0\/16 dev br-.*weft\.force=true/s;
  await refused(t, lab.h2, [...create, 'ov'], words);
  await refused(t, lab.h2, [...create, '--ipam-opt', 'weft.network=ov', 'ov'], words);
  t.false(await lab.hasNetwork('ov'));
  await lab.h1.ask(...create, 'ov');
  await lab.until('the other host has it', () => lab.hasNetwork('ov'));
  await refused(t, lab.h2, [...create, 'ov'], words);
  await refused(
    t,
    lab.h2,
    [...create, '--ipam-opt', 'weft.force=true', 'ov'],
    /network ov was created without weft\.force/,
  );
  await pings(t, lab.h2, 'till', '172.28.0.1');
  await lab.h1.ask('network', 'rm', 'ov');
  await lab.until('it is deleted', async () => !(await lab.hasNetwork('ov')));
  await lab.h1.ask(...create, '--ipam-opt', 'weft.force=true', 'ov');
  await lab.until('it is there again', () => lab.hasNetwork('ov'));
  await lab.h2.ask('rm', '-f', 'till');
  await lab.h2.ask('network', 'rm', 'shop');
  // What is narrower than a host's subnet is avoided by it.
  await lab.cluster.sh('h2', 'ip route add blackhole 172.28.77.0/25');
  await lab.h2.ask(...create, 'ov');
  t.is((await lab.network('ov')).leases.length, 2, 'the network says it, not every host');
  await lab.cluster.sh('h2', 'ip route del blackhole 172.28.77.0/25');
  await lab.removeFromBoth('ov');
});

test.serial('an existing network is joined by name, and stays when Docker leaves', async (t) => {
  await lab.cluster.json('h1', 'network', 'create', 'made', '--subnet', '10.30.0.0/16', '--mtu', '1400');
  await lab.h1.ask(...CREATE, '--ipam-opt', 'weft.network=made', 'here');
  await lab.h2.ask(...CREATE, '--subnet', '10.30.0.0/16', '-o', 'weft.network=made', 'there');
  t.is((await lab.network('made')).leases.length, 2);
  await refused(
    t,
    lab.h1,
    [...CREATE, '--ipam-opt', 'weft.network=made', 'again'],
    /--ipam-opt weft\.network=made --subnet 10\.30\.0\.0\/16/,
  );
  await refused(
    t,
    lab.h1,
    [...CREATE, '--subnet', '10.30.0.0/16', 'again'],
    /another Docker network of this host/,
  );
  await start(lab.h1, 'm1', '--network', 'here');
  t.regex((await lab.h1.in('m1', 'cat /sys/class/net/eth0/mtu')).stdout, /^1400$/m);
  await lab.h1.ask('rm', '-f', 'm1');
  await lab.h1.ask('network', 'rm', 'here');
  await lab.h2.ask('network', 'rm', 'there');
  await lab.until('no host has a subnet', async () => (await lab.network('made')).leases.length === 0);
  await lab.cluster.json('h1', 'network', 'rm', 'made');
});

test.serial('options configure the network; a wrong one is refused with the list of options', async (t) => {
  await lab.h1.ask(
    ...CREATE,
    '--subnet',
    '10.31.0.0/16',
    '--ipam-opt',
    'weft.host-prefix=26',
    '-o',
    'weft.mtu=1300',
    '-o',
    'weft.vni=5555',
    '-o',
    'weft.masquerade=false',
    'shaped',
  );
  await lab.until('it exists', () => lab.hasNetwork('shaped'));
  const shaped = await lab.until('it is joined', async () => {
    const found = await lab.network('shaped');
    return found.leases.length === 1 && found;
  });
  t.like(shaped, { hostPrefix: 26, mtu: 1300, vni: 5555, masquerade: false });
  await refused(
    t,
    lab.h2,
    [...CREATE, '--subnet', '10.31.0.0/16', '-o', 'weft.mtu=1400', 'n'],
    /network shaped has mtu 1300, not 1400/,
  );
  await refused(
    t,
    lab.h2,
    [...CREATE, '--subnet', '10.31.0.0/16', '--ipam-opt', 'weft.host-prefix=24', 'n'],
    /host-prefix 26, not 24/,
  );
  await refused(
    t,
    lab.h2,
    [...CREATE, '--subnet', '10.32.0.0/16', '-o', 'weft.mut=1400', 'n'],
    /no option weft\.mut of -o.*Did you mean weft\.mtu\?.*weft\.network, weft\.mtu, weft\.vni/s,
  );
  await refused(
    t,
    lab.h2,
    [...CREATE, '--subnet', '10.32.0.0/16', '--ipam-opt', 'colour=red', 'n'],
    /no option colour of --ipam-opt.*weft\.network, weft\.host-prefix/s,
  );
  await refused(
    t,
    lab.h2,
    [...CREATE, '--subnet', '10.32.0.0/16', '-o', 'weft.host-prefix=26', 'n'],
    /belongs to --ipam-opt/,
  );
  await refused(
    t,
    lab.h2,
    [...CREATE, '--subnet', '10.32.0.0/16', '-o', 'weft.mtu=small', 'n'],
    /"small" is not a whole number/,
  );
  t.deepEqual((await lab.h2.ask('network', 'ls', '-f', 'driver=weft', '--format', '{{.Name}}')).split('\n'), [
    'blue',
  ]);
  await lab.h1.ask('network', 'rm', 'shaped');
  await lab.until('it is deleted', async () => !(await lab.hasNetwork('shaped')));
});

test.serial('another IPAM driver and a custom gateway are refused with the reason', async (t) => {
  await refused(
    t,
    lab.h1,
    ['network', 'create', '-d', 'weft', '--subnet', '10.40.0.0/16', 'n'],
    /docker network create -d weft --ipam-driver weft --subnet 10\.40\.0\.0\/16/,
  );
  await refused(
    t,
    lab.h1,
    ['network', 'create', '-d', 'weft', 'n'],
    // Not the subnet of 172.16.0.0/12 that Docker has chosen itself.
    /--ipam-driver weft --subnet 10\.\d+\.0\.0\/16 NAME; in a Compose file: networks: \{NAME: \{driver: weft, ipam: \{driver: weft, config: \[\{subnet: 10\./,
  );
  // One that Docker never chooses was typed.
  await refused(
    t,
    lab.h1,
    ['network', 'create', '-d', 'weft', '--subnet', '192.168.77.0/24', 'n'],
    /--ipam-driver weft --subnet 192\.168\.77\.0\/24 NAME; .*\[\{subnet: 192\.168\.77\.0\/24\}\]/,
  );
  await refused(
    t,
    lab.h1,
    ['network', 'create', '-d', 'weft', '--ipam-driver', 'null', 'n'],
    /--ipam-driver weft/,
  );
  await refused(
    t,
    lab.h1,
    [...CREATE, '--subnet', '10.40.0.0/16', '--gateway', '10.40.0.1', 'n'],
    /every host is the gateway of its own containers, and this one has 10\.40\.\d+\.1/,
  );
  await refused(
    t,
    lab.h1,
    [...CREATE, '--subnet', '192.0.2.0/24', 'n'],
    /192\.0\.2\.\d+, the underlay address of node/,
  );
  await refused(
    t,
    lab.h1,
    [...CREATE, '--subnet', '10.9.128.0/17', 'n'],
    /: 10\.9\.128\.0\/17 overlaps network blue \(10\.9\.0\.0\/16\)\. To join blue: docker network create .*--subnet 10\.9\.0\.0\/16 --ipam-opt weft\.network=blue blue/,
  );
  await refused(
    t,
    lab.h1,
    [...CREATE, '--subnet', '10.41.0.0/16', '--subnet', '10.42.0.0/16', 'n'],
    /one subnet of each family/,
  );
  t.false(await lab.hasNetwork('n'));
});

test.serial('what is said of node subnets has Docker’s words', async (t) => {
  await refused(
    t,
    lab.h1,
    [...CREATE, '--subnet', '10.43.0.0/24', '--ipam-opt', 'weft.host-prefix=24', 'n'],
    /weft\.host-prefix: 24 does not fit 10\.43\.0\.0\/24/,
  );
  await lab.h1.ask(...CREATE, '--subnet', '10.43.0.0/28', 'tiny');
  await start(lab.h1, 'only', '--network', 'tiny');
  await refused(
    t,
    lab.h1,
    ['run', '--rm', '--network', 'tiny', 'busybox', 'true'],
    /larger node subnets \(--ipam-opt weft\.host-prefix/,
  );
  await lab.h1.ask('rm', '-f', 'only');
  await lab.h1.ask('network', 'rm', 'tiny');
});

test.serial('a host whose command leaves out what the network has is refused', async (t) => {
  const cases: { subnet: string; has: string[]; asks: string[]; words: RegExp }[] = [
    { subnet: '10.44.0.0/16', has: ['--internal'], asks: [], words: /is internal.*Add --internal/s },
    {
      ...{ subnet: '10.45.0.0/16', has: [], asks: ['--internal'] },
      words: /exists without --internal, on h1\. .*docker network rm.*again with --internal/s,
    },
    {
      ...{ subnet: '10.46.0.0/16', has: ['-o', 'com.docker.network.driver.mtu=1400'], asks: [] },
      words: /has mtu 1400, and this host's command leaves it out\. Add -o weft\.mtu=1400/,
    },
    {
      ...{ subnet: '10.47.0.0/16', has: ['--ipv6', '--subnet', 'fd00:47::/48'], asks: [] },
      words: /has IPv6, fd00:47::\/48.*Add --ipv6 --subnet fd00:47::\/48/s,
    },
    {
      ...{ subnet: '10.48.0.0/16', has: ['-o', 'weft.masquerade=false'], asks: [] },
      words: /has masquerade false.*Add -o weft\.masquerade=false/s,
    },
  ];
  for (const { subnet, has, asks, words } of cases) {
    await lab.h1.ask(...CREATE, '--subnet', subnet, ...has, 'alike');
    await lab.until('it exists', () => lab.hasNetwork('alike'));
    await refused(t, lab.h2, [...CREATE, '--subnet', subnet, ...asks, 'alike'], words);
    await lab.h2.ask(...CREATE, '--subnet', subnet, ...has, 'alike');
    await lab.removeFromBoth('alike');
    await lab.until('it is deleted', async () => !(await lab.hasNetwork('alike')));
  }
});

test.serial('without --subnet an unused one is chosen', async (t) => {
  await lab.h1.must(['ip', 'route', 'add', '10.0.0.0/9', 'dev', 'eth0', 'metric', '50']);
  await lab.h1.ask(...CREATE, '--ipam-opt', 'weft.network=any', 'any');
  const { subnet } = await lab.network('any');
  t.regex(subnet, /^10\.(12[89]|1[3-9]\d|2\d\d)\.0\.0\/16$/);
  await lab.h2.ask(...CREATE, '--ipam-opt', 'weft.network=any', 'any');
  t.is((await lab.network('any')).leases.length, 2);
  await lab.removeFromBoth('any');
  await lab.h1.must(['ip', 'route', 'del', '10.0.0.0/9', 'dev', 'eth0', 'metric', '50']);
});

test.serial('--ip-range is this host’s subnet, a part of it, or a range around it', async (t) => {
  await lab.h1.ask(...CREATE, '--subnet', '10.50.0.0/16', '--ip-range', '10.50.7.0/24', 'ranged');
  await lab.h2.ask(...CREATE, '--subnet', '10.50.0.0/16', '--ip-range', '10.50.8.64/29', 'ranged');
  const subnetOf = async (node: string): Promise<string | undefined> =>
    (await lab.network('ranged')).leases.find((lease) => lease.node === node)?.subnet;
  await lab.until('both are on it', async () => (await lab.network('ranged')).leases.length === 2);
  t.is(await subnetOf('h1'), '10.50.7.0/24');
  t.is(await subnetOf('h2'), '10.50.8.0/24');
  await start(lab.h2, 'r1', '--network', 'ranged');
  t.regex((await connection(lab.h2, 'r1', 'ranged')).IPAddress, /^10\.50\.8\.(6[4-9]|7[01])$/);
  await lab.h2.ask('rm', '-f', 'r1');
  await lab.h2.ask('network', 'rm', 'ranged');
  await refused(
    t,
    lab.h2,
    [...CREATE, '--subnet', '10.50.0.0/16', '--ip-range', '10.50.7.0/24', 'ranged'],
    /no \/24 is free for this host in 10\.50\.7\.0\/24/,
  );
  await lab.h2.ask(...CREATE, '--subnet', '10.50.0.0/16', '--ip-range', '10.50.64.0/20', 'ranged');
  t.regex((await subnetOf('h2')) ?? '', /^10\.50\.(6[4-9]|7\d)\.0\/24$/);
  await lab.removeFromBoth('ranged');
});

test.serial('--internal: the containers of both hosts reach each other and nothing else', async (t) => {
  await lab.createOnBoth('--subnet', '10.60.0.0/16', '--internal', 'inside');
  t.true(
    (await lab.until('it exists', async () => (await lab.hasNetwork('inside')) && lab.network('inside')))
      .internal,
  );
  await start(lab.h1, 'i1', '--network', 'inside');
  await start(lab.h2, 'i2', '--network', 'inside');
  const two = await connection(lab.h2, 'i2', 'inside');
  t.is(two.Gateway, '');
  await pings(t, lab.h1, 'i1', two.IPAddress);
  await pingsNot(t, lab.h1, 'i1', '198.51.100.1');
  t.notRegex((await lab.h1.in('i1', 'ip route')).stdout, /default/);
  t.is((await lab.h1.in('i1', 'ls /sys/class/net')).stdout.trim().split(/\s+/).sort().join(' '), 'eth0 lo');
  await lab.h1.ask('rm', '-f', 'i1');
  await lab.h2.ask('rm', '-f', 'i2');
  await lab.removeFromBoth('inside');
  // The reverse: the network is not internal, and Docker asks for an internal one.
  await refused(
    t,
    lab.h1,
    [
      'network',
      'create',
      '-d',
      'weft',
      '--ipam-driver',
      'weft',
      '--internal',
      '--subnet',
      '10.9.0.0/16',
      '-o',
      'weft.network=blue',
      'n',
    ],
    /another Docker network|has internal false, not true/,
  );
});

test.serial('--ipv6 with a second subnet', async (t) => {
  await lab.createOnBoth('--subnet', '10.61.0.0/16', '--ipv6', '--subnet', 'fd00:61::/48', 'dual');
  await lab.until(
    'both are on it',
    async () => (await lab.hasNetwork('dual')) && (await lab.network('dual')).leases.length === 2,
  );
  t.is((await lab.network('dual')).subnet6, 'fd00:61::/48');
  await start(lab.h1, 'd1', '--network', 'dual');
  await start(lab.h2, 'd2', '--network', 'dual', '--ip6', 'fd00:61:0:ffff::77');
  const [one, two] = [await connection(lab.h1, 'd1', 'dual'), await connection(lab.h2, 'd2', 'dual')];
  t.is(two.GlobalIPv6Address, 'fd00:61:0:ffff::77');
  t.not(one.IPv6Gateway, '');
  await pings(t, lab.h1, 'd1', two.IPAddress);
  await pings(t, lab.h1, 'd1', two.GlobalIPv6Address);
  await pings(t, lab.h2, 'd2', one.GlobalIPv6Address);
  await pings(t, lab.h2, 'd2', '2001:db8:ffff::1');
  await refused(
    t,
    lab.h1,
    [
      ...CREATE,
      '--subnet',
      '10.9.0.0/16',
      '--ipv6',
      '--subnet',
      'fd00:9::/48',
      '-o',
      'weft.network=blue',
      'n',
    ],
    /no IPv6 subnet|another Docker network/,
  );
  await lab.h1.ask('rm', '-f', 'd1');
  await lab.h2.ask('rm', '-f', 'd2');
  await lab.removeFromBoth('dual');
});

test.serial('an --aux-address is not allocated on any host', async (t) => {
  await lab.h1.ask(
    ...CREATE,
    '--subnet',
    '10.62.0.0/16',
    '--ip-range',
    '10.62.5.0/24',
    '--aux-address',
    'router=10.62.6.9',
    '--aux-address',
    'mine=10.62.5.2',
    'aux',
  );
  await lab.h2.ask(
    ...CREATE,
    '--subnet',
    '10.62.0.0/16',
    '--ip-range',
    '10.62.6.0/24',
    '--aux-address',
    'router=10.62.6.9',
    'aux',
  );
  await lab.until('both are on it', async () => (await lab.network('aux')).leases.length === 2);
  for (const ip of ['10.62.6.9', '10.62.5.2'])
    for (const host of [lab.h1, lab.h2])
      await refused(
        t,
        host,
        ['run', '--rm', '--network', 'aux', '--ip', ip, 'busybox', 'true'],
        /in use|claimed/,
      );
  await start(lab.h1, 'a1', '--network', 'aux');
  t.is((await connection(lab.h1, 'a1', 'aux')).IPAddress, '10.62.5.3');
  const { IPAM } = await lab.h1.inspect<{
    IPAM: { Config: { AuxiliaryAddresses: Record<string, string> }[] };
  }>('network', 'inspect', 'aux');
  t.deepEqual(IPAM.Config[0]?.AuxiliaryAddresses, { router: '10.62.6.9', mine: '10.62.5.2' });
  // One host releases it; the other still needs it.
  await lab.h1.ask('rm', '-f', 'a1');
  await lab.h1.ask('network', 'rm', 'aux');
  await refused(
    t,
    lab.h2,
    ['run', '--rm', '--network', 'aux', '--ip', '10.62.6.9', 'busybox', 'true'],
    /in use|claimed/,
  );
  await lab.h2.ask('network', 'rm', 'aux');
  t.is(await lab.cluster.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/aux/'), '');
});

test.serial('docker network rm makes this host leave, and its subnet is free again', async (t) => {
  await lab.createOnBoth('--subnet', '10.63.0.0/16', 'going');
  await lab.until('both are on it', async () => (await lab.network('going')).leases.length === 2);
  await start(lab.h1, 'g1', '--network', 'going');
  await refused(t, lab.h1, ['network', 'rm', 'going'], /has active endpoints/);
  await lab.h1.ask('rm', '-f', 'g1');
  await lab.h1.ask('network', 'rm', 'going');
  t.deepEqual(
    (await lab.network('going')).leases.map(({ node }) => node),
    ['h2'],
  );
  const links = await lab.h1.must(['ip', '-d', 'link']);
  t.false(links.includes('weft network going'));
  await lab.h2.ask('network', 'rm', 'going');
  t.false(await lab.hasNetwork('going'));
});
