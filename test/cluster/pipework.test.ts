// pipework's command line on a host with an agent but neither etcd nor controller.
//
// What needs VLANs of the kernel is in test/vm/pipework.ts.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { Cluster } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';

let lab: Cluster;
let count = 0;

async function startAgent(): Promise<void> {
  const flags = lab.agentFlags('h1');
  const agent = lab.spawn('agent-h1', 'h1', [WEFT, 'agent', ...flags]);
  await lab.says(agent, 'the agent serves');
}

async function setUp(): Promise<void> {
  lab = await Cluster.create(1);
  await startAgent();
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** Containers for one test. */
async function containers(t: ExecutionContext, howMany: number): Promise<string[]> {
  const names = Array.from({ length: howMany }, () => `c${++count}`);
  await lab.addContainers(...names);
  t.teardown(() => Promise.all(names.map((name) => lab.removeContainer(name))));
  return names;
}

const pipework = (...words: string[]): ReturnType<Cluster['weft']> => lab.weft('h1', 'pipework', ...words);

async function done(t: ExecutionContext, ...words: string[]): Promise<void> {
  const { code, stdout, stderr } = await pipework(...words);
  t.is(code, 0, stderr);
  t.is(stdout, '', 'pipework was silent');
}

async function refused(t: ExecutionContext, reason: RegExp, ...words: string[]): Promise<void> {
  const { code, stderr } = await pipework(...words);
  t.is(code, 1, stderr);
  t.regex(stderr, reason);
}

test.serial('a bridge is created; its containers reach each other and the host', async (t) => {
  const [a = '', b = '', c = ''] = await containers(t, 3);
  await done(t, 'br1', lab.ns(a), '192.168.1.1/24');
  await done(t, 'br1', lab.ns(b), '192.168.1.2/24');
  // Two of one address would answer in turns.
  await refused(t, /192\.168\.1\.2 is the address of netns:.* on br1/, 'br1', lab.ns(c), '192.168.1.2/25');
  await done(t, '--force', 'br1', lab.ns(c), '192.168.1.2/25');
  await done(t, '--detach', 'br1', lab.ns(c));
  const { stdout: listed } = await pipework('--list');
  t.regex(listed, /^HOSTIF +TARGET .*\nbr1 +netns:.* eth1 +192\.168\.1\.1\/24 /);
  t.is(listed.trim().split('\n').length, 3);
  t.true(await lab.reaches(a, '192.168.1.2'));
  await lab.sh('h1', 'ip addr add 192.168.1.254/24 dev br1');
  t.true(await lab.reaches('h1', '192.168.1.1'));
  t.regex(await lab.sh(a, 'ip -o addr show dev eth1'), /192\.168\.1\.1\/24/);
  t.regex(await lab.sh('h1', 'ip -d link'), /alias weft pipework br1/);

  // Repeating the call changes nothing; a different one is refused and changes nothing.
  const before = await lab.sh('h1', 'ip -o link');
  await done(t, 'br1', lab.ns(a), '192.168.1.1/24');
  t.is(await lab.sh('h1', 'ip -o link'), before);
  await refused(
    t,
    /its address is 192\.168\.1\.1\/24, not 192\.168\.1\.9\/24/,
    'br1',
    lab.ns(a),
    '192.168.1.9/24',
  );
  await refused(
    t,
    /its gateway is none, not 192\.168\.1\.254/,
    'br1',
    lab.ns(a),
    '192.168.1.1/24@192.168.1.254',
  );
  t.is(await lab.sh('h1', 'ip -o link'), before);
});

test.serial('-i, -l, a MAC address, U: and 0/0', async (t) => {
  const [a = ''] = await containers(t, 1);
  await done(t, 'br1', '-i', 'data0', '-l', 'web0', lab.ns(a), '192.168.1.3/24', 'fa:de:b0:99:52:1c');
  t.regex(await lab.sh(a, 'ip -o link show data0'), /fa:de:b0:99:52:1c/);
  t.regex(await lab.sh('h1', 'ip -o link show web0'), /master br1/);
  await done(t, 'br1', '-i', 'eth2', lab.ns(a), '192.168.1.4/24', 'U:myhost.foo.com');
  t.regex(await lab.sh(a, 'ip -o link show eth2'), /02:72:6c:cd:9b:8d/);
  await done(t, 'br1', '-i', 'eth3', lab.ns(a), '0/0');
  t.regex(await lab.sh(a, 'ip -o link show eth3'), /,UP,/);
  t.notRegex(await lab.sh(a, 'ip -o addr show dev eth3'), /inet /);
  await done(t, 'br1', '-i', 'eth4', '-a', '6', lab.ns(a), '2001:db8:1::5/64');
  t.regex(await lab.sh(a, 'ip -o addr show dev eth4'), /2001:db8:1::5\/64/);

  await refused(t, /has an interface web0 already/, 'br1', '-i', 'x0', '-l', 'web0', lab.ns(a), '0/0');
  await lab.sh(a, 'ip link add mine type veth peer name other');
  await refused(t, /has an interface mine already/, 'br1', '-i', 'mine', lab.ns(a), '0/0');
});

test.serial('@GATEWAY replaces the default route, also with one beyond the subnet', async (t) => {
  const [a = '', b = '', c = ''] = await containers(t, 3);
  // What Docker would have given it.
  await lab.sh(
    a,
    'ip link add eth0 type veth peer name x; ip addr add 198.51.100.9/24 dev eth0; ip link set eth0 up; ip link set x up; ip route add default via 198.51.100.1',
  );
  await done(t, 'br1', lab.ns(a), '192.168.1.5/24@192.168.1.254');
  t.regex(await lab.sh(a, 'ip route'), /^default via 192\.168\.1\.254 dev eth1/m);
  t.notRegex(await lab.sh(a, 'ip route'), /default via 198\.51\.100\.1/);
  await done(t, 'br1', lab.ns(b), '192.168.1.6/32@192.168.1.254');
  t.regex(await lab.sh(b, 'ip route'), /^default via 192\.168\.1\.254 dev eth1 .*onlink/m);
  t.true(await lab.reaches(b, '192.168.1.254'));
  await done(t, 'br1', lab.ns(c), '192.168.1.7/24');
  t.is(await lab.sh(c, 'ip route show default'), '', 'none without @GATEWAY');
});

test.serial('a bridge that weft did not create, and a NIC', async (t) => {
  const [a = '', b = ''] = await containers(t, 2);
  await lab.sh('h1', 'ip link add lan type bridge; ip addr add 10.9.0.1/24 dev lan; ip link set lan up');
  await done(t, 'lan', lab.ns(a), '10.9.0.5/24@10.9.0.1');
  t.true(await lab.reaches(a, '10.9.0.1'));
  t.notRegex(await lab.sh('h1', 'ip -d link show lan'), /alias/);

  await lab.sh(
    'h1',
    'ip link add nic0 type veth peer name far0; ip link set nic0 up; ip link set far0 up; ip addr add 10.10.0.1/24 dev nic0',
  );
  const addresses = (): Promise<string> => lab.sh('h1', 'ip -o addr show dev nic0 | grep -v tentative');
  await lab.until('its IPv6 address has passed DAD', async () => (await addresses()).includes('inet6'));
  const before = await addresses();
  await done(t, 'nic0', lab.ns(b), '10.10.0.5/24');
  t.true(await lab.reaches('h1', '10.10.0.5'), 'the host is a neighbour on its own NIC');
  t.regex(await lab.sh('h1', 'ip -o link show nic0'), /master wfp-nic0/);
  await done(t, '--detach', 'nic0', lab.ns(b));
  t.is(await addresses(), before);
  t.notRegex(await lab.sh('h1', 'ip -o link'), /wfp-nic0/);
  await lab.sh('h1', 'ip link del nic0');
  await refused(t, /carries the underlay/, 'eth0', lab.ns(b), '192.0.2.99/24');
  await refused(t, /no interface nonsense/, 'nonsense', lab.ns(b), '192.0.2.99/24');
  t.is((await lab.sh(b, 'ip -o link')).trim().split('\n').length, 1, 'only lo');
});

test.serial('a wrong call has pipework’s exit status, and no service is called', async (t) => {
  const [a = ''] = await containers(t, 1);
  await refused(t, /maybe you meant 192\.168\.1\.1\/24\?/, 'br1', lab.ns(a), '192.168.1.1');
  await refused(t, /no DHCP client/, 'br1', lab.ns(a), 'dhcp');
  await refused(t, /no container none-such/, 'br1', 'none-such', '192.168.1.1/24');
  await refused(t, /the address is missing/, 'br1', lab.ns(a));
});

test.serial('--wait returns when the interface exists', async (t) => {
  const [a = ''] = await containers(t, 1);
  const waiting = lab.try(a, `${WEFT} pipework --wait -i late0`);
  await done(t, 'br1', '-i', 'late0', lab.ns(a), '0/0');
  t.is((await waiting).code, 0);
});

test.serial(
  'a restart keeps everything; damage is repaired; the bridge is deleted with its last attachment',
  async (t) => {
    const [a = '', b = ''] = await containers(t, 2);
    await done(t, 'br2', '-l', 'web1', lab.ns(a), '192.168.2.1/24');
    await done(t, 'br2', lab.ns(b), '192.168.2.2/24');
    await lab.process('agent-h1').kill();
    await lab.sh('h1', 'ip link del web1');
    await startAgent();
    await lab.until('it is repaired', () => lab.reaches(a, '192.168.2.2'));
    t.regex(await lab.sh('h1', 'ip -o link show web1'), /master br2/);

    const { target } = await lab.json<{ target: string }>('h1', 'pipework', '--detach', 'br2', lab.ns(a));
    t.is(target, `netns:/run/netns/${lab.ns(a)}`);
    t.is((await lab.sh(a, 'ip -o link')).trim().split('\n').length, 1, 'only lo');
    t.regex(await lab.sh('h1', 'ip -o link show br2'), /br2/);
    await lab.json('h1', 'pipework', '--detach', 'br2', lab.ns(b));
    t.is((await lab.try('h1', 'ip link show br2')).code, 1);
  },
);

test.serial('a container that ends loses its attachment, and the bridge stays', async (t) => {
  await lab.addContainers('gone');
  await done(t, 'br3', '-l', 'web3', lab.ns('gone'), '192.168.3.1/24');
  await lab.removeContainer('gone');
  await lab.until(
    'its host interface is deleted',
    async () => (await lab.try('h1', 'ip link show web3')).code === 1,
  );
  t.regex(await lab.sh('h1', 'ip -o link show br3'), /br3/);
  const { code } = await lab.weft('h1', 'pipework', '--detach', 'br3', join('/run/netns', lab.ns('gone')));
  t.is(code, 1);
});
