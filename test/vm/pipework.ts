// pipework's classic examples, by its own command line, with VLANs.
//
// What needs no VLANs is in test/cluster/pipework.test.ts.
import type { ExecutionContext, TestFn } from 'ava';

import type { Machine } from './machine.js';
import type { Machines } from './machines.js';

export function pipeworkTests(test: TestFn, machines: () => Machines): void {
  async function pipework(t: ExecutionContext, host: Machine, words: string): Promise<void> {
    const { code, stderr } = await host.weft('pipework', ...words.split(' '));
    t.is(code, 0, stderr);
  }

  test.serial('pipework: c1 and c2 on @100, c3 and c4 on @200 of ovs0', async (t) => {
    const host = machines().host(1);
    await host.containers('c1', 'c2', 'c3', 'c4');
    await pipework(t, host, 'ovs0 c1 10.1.1.1/24 @100');
    await pipework(t, host, 'ovs0 c2 10.1.1.2/24 @100');
    await pipework(t, host, 'ovs0 c3 10.1.1.3/24 @200');
    await pipework(t, host, 'ovs0 c4 10.1.1.4/24 @200');
    const found = await Promise.all([
      host.reaches('c1', '10.1.1.2'),
      host.reaches('c3', '10.1.1.4'),
      host.isApart('c1', '10.1.1.3'),
      host.isApart('c4', '10.1.1.2'),
    ]);
    t.deepEqual(found, [true, true, true, true]);
    t.regex(await host.sh('ip -d link show ovs0'), /vlan_filtering 1/);
    const links = await host.sh('ip -o link');
    await pipework(t, host, 'ovs0 c1 10.1.1.1/24 @100');
    t.is(await host.sh('ip -o link'), links, 'the same again changes nothing');
    for (const name of ['c1', 'c2', 'c3', 'c4']) await pipework(t, host, `--detach ovs0 ${name}`);
    t.notRegex(await host.sh('ip -o link'), /ovs0/);
  });

  test.serial('pipework: across two hosts, on a VLAN of a NIC, with tags on the cable', async (t) => {
    const [one, two] = [machines().host(1), machines().host(2)];
    await Promise.all([one, two].map((host) => host.sh('ip link set eth1 up')));
    await Promise.all([one.containers('c1', 'c3'), two.containers('c2')]);
    const capture = await machines().capture(one, 1);
    await pipework(t, one, 'eth1 c1 10.7.0.1/24 @700');
    await pipework(t, two, 'eth1 c2 10.7.0.2/24 U:c2@700');
    await pipework(t, one, 'eth1 c3 10.7.0.3/24');
    t.true(await one.reaches('c1', '10.7.0.2'));
    t.true(await one.isApart('c3', '10.7.0.2'), 'who has no tag is not in it');
    await capture.sees(/vlan 700,.*10\.7\.0\.1 > 10\.7\.0\.2: ICMP echo request/);
    // On the cable, without one.
    await capture.sees(/^(?!.*802\.1Q).*tell 10\.7\.0\.3/);
    await capture.stop();
    await pipework(t, one, '--detach eth1 c1');
    await pipework(t, one, '--detach eth1 c3');
    await pipework(t, two, '--detach eth1 c2');
    t.notRegex(await one.sh('ip -o link'), /wfp-/);
  });

  test.serial('pipework: a bridge to the LAN that the administrator made, with its gateway', async (t) => {
    const host = machines().host(2);
    const router = await machines().neighbour('lan', 'gateway', '10.8.0.1/24');
    await router.must(['ip', 'addr', 'add', '10.98.0.1/32', 'dev', 'lo']);
    await host.containers('c1');
    await host.sh('ip link add br0 type bridge; ip link set br0 up; ip link set eth2 up master br0');
    await pipework(t, host, 'br0 c1 10.8.0.50/24@10.8.0.1');
    t.true(await host.reaches('c1', '10.98.0.1'));
    const refused = await host.weft('pipework', 'br0', '-i', 'eth2', 'c1', '10.8.0.51/24', '@100');
    t.is(refused.code, 1);
    t.regex(refused.stderr, /br0 does not tell VLANs apart/);
    await pipework(t, host, '--detach br0 c1');
    t.regex(await host.sh('ip -o link show br0'), /br0/, 'what weft did not make stays');
    await host.sh('ip link del br0; ip link set eth2 down');
  });
}
