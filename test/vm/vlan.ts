// The vlan driver where the kernel has VLANs.
//
// Reachability and isolation, tags on the cable, two hosts on one trunk, and the route out through a gateway. What was done with
// pipework and Open vSwitch.
import { join } from 'node:path';

import type { ExecutionContext, TestFn } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { dhcpAnswer, tagged } from '../lab/frames.js';
import { CHECKOUT, OUTSIDE } from '../lab/lab.js';
import type { Machines } from './machines.js';

/** eth1 of every machine. */
const TRUNK = 1;

export function vlanTests(test: TestFn, machines: () => Machines): void {
  const network = async (
    t: ExecutionContext,
    name: string,
    vlan: number,
    ...options: string[]
  ): Promise<void> => {
    await machines().json('network', 'create', name, '--driver', 'vlan', '--vlan', `${vlan}`, ...options);
    // The test may have removed it already.
    t.teardown(async () => void (await machines().weft('network', 'rm', name, '--force')));
  };
  const remove = (...names: string[]): Promise<unknown> =>
    Promise.all(names.map((name) => machines().json('network', 'rm', name, '--force')));
  const inVlan = (frames: readonly string[], vlan: number): string[] =>
    frames.filter((frame) => frame.includes(`vlan ${vlan},`));

  test.serial('vlan: c1 and c2 on 100, c3 and c4 on 200, on one host, in the same subnet', async (t) => {
    const host = machines().host(1);
    await Promise.all([
      network(t, 'v100', 100, '--subnet', '10.1.1.0/24'),
      network(t, 'v200', 200, '--subnet', '10.1.1.0/24'),
      host.containers('c1', 'c2', 'c3', 'c4'),
    ]);
    for (const [name, container, ip] of [
      ['v100', 'c1', '10.1.1.1'],
      ['v100', 'c2', '10.1.1.2'],
      ['v200', 'c3', '10.1.1.3'],
      ['v200', 'c4', '10.1.1.4'],
    ] as const) {
      const made = await host.json<EndpointJson & { vlan: number }>('attach', name, container, '--ip', ip);
      t.like(made, { ip: `${ip}/24`, vlan: Number(name.slice(1)) });
    }
    const found = await Promise.all([
      host.reaches('c1', '10.1.1.2'),
      host.reaches('c3', '10.1.1.4'),
      host.isApart('c1', '10.1.1.3'),
      host.isApart('c4', '10.1.1.2'),
    ]);
    t.deepEqual(found, [true, true, true, true]);
    const ports = await host.sh('bridge vlan show');
    t.regex(ports, /wfep\S+\s+100 PVID Egress Untagged/);
    t.regex(ports, /wfep\S+\s+200 PVID Egress Untagged/);
    const known = await host.sh('bridge fdb show br wfvlan');
    for (const vlan of [100, 200])
      t.is(known.match(new RegExp(` dev wfep\\S+ vlan ${vlan} .*sticky.* static$`, 'gm'))?.length, 2, known);
    await remove('v100', 'v200');
  });

  test.serial('vlan: two hosts on one trunk, with tags on the cable', async (t) => {
    const [one, two] = [machines().host(1), machines().host(2)];
    await Promise.all([one.sh('ip link set eth1 up'), two.sh('ip link set eth1 up')]);
    await Promise.all([
      network(t, 't100', 100, '--parent', 'eth1', '--subnet', '10.2.1.0/24'),
      network(t, 't200', 200, '--parent', 'eth1', '--subnet', '10.2.1.0/24', '--allow-vlan', '300-310'),
      one.containers('c1', 'c3', 'c5'),
      two.containers('c2', 'c4', 'c6'),
    ]);
    const capture = await machines().capture(one, TRUNK);
    const a = await one.json<EndpointJson>('attach', 't100', 'c1');
    const b = await two.json<EndpointJson>('attach', 't100', 'c2');
    t.not(a.ip, b.ip, 'no two hosts give out the same address');
    // Each host has in VLAN 200 what the other has in VLAN 100: the IP address, and so the MAC address.
    const c = await one.json<EndpointJson>('attach', 't200', 'c3', '--ip', bare(b.ip));
    const d = await two.json<EndpointJson>('attach', 't200', 'c4', '--ip', bare(a.ip));
    t.deepEqual([c.mac, d.mac], [b.mac, a.mac]);
    t.true(await one.reaches('c1', bare(b.ip)));
    t.true(await one.reaches('c3', bare(d.ip)));

    // One container in another VLAN of the same bridge.
    const e = await one.json<EndpointJson>('attach', 't200', 'c5', '--vlan', '305');
    const f = await two.json<EndpointJson>('attach', 't200', 'c6', '--vlan', '305');
    t.true(await one.reaches('c5', bare(f.ip)));
    t.true(await one.isApart('c1', bare(f.ip)));
    t.true(await one.isApart('c3', bare(f.ip)));
    // Port security holds inside of a VLAN, and no container speaks into another one. The addresses are of no node's block.
    const octets = [a, b].map(({ ip }) => Number(bare(ip).split('.')[3]));
    const block = [240, 224, 208].find((first) => octets.every((it) => it >> 4 !== first >> 4));
    const [given, forged] = [`10.2.1.${block}`, `10.2.1.${(block ?? 0) + 1}`];
    await one.sh(`ip -n c1 address add ${forged}/24 dev eth0
      ip -n c1 link add link eth0 name v200 type vlan id 200 && ip -n c1 link set v200 up
      ip -n c1 address add 10.2.2.1/24 dev v200; ip -n c3 address add 10.2.2.2/24 dev eth0`);
    const pings = async (source: string, to: string): Promise<boolean> =>
      (await one.try(`ip netns exec c1 ping -c 2 -W 3 -I ${source} ${to}`)).code === 0;
    t.false(await pings(forged, bare(b.ip)));
    t.true(await one.isApart('c1', '10.2.2.2'));
    const lost = (
      await one.json<{ drops: { reason: string; packets: number }[] }>('endpoint', 'inspect', a.id)
    ).drops;
    t.true(
      lost.some(({ reason, packets }) => reason === 'address' && packets > 0),
      JSON.stringify(lost),
    );
    // A DHCP server of the VLAN gives it another address.
    const server = await machines().neighbour('trunk', 'dhcp');
    t.teardown(async () => void (await server.must(['ip', 'link', 'del', 'eth0'])));
    const ends = { from: '02:bb:00:00:00:01', to: a.mac };
    const answer = tagged(dhcpAnswer(ends, '10.2.1.1', { mac: a.mac, ip: given }), 100);
    const forge = join(CHECKOUT, 'build/test/lab/forge.js');
    // Its port of the cable forwards a moment after its link is up.
    await machines().lab.until('the node has heard the server', async () => {
      await server.must([process.execPath, forge, 'eth0', answer.toString('hex')]);
      return (await one.sh('nft list set bridge weft leased')).includes(`. 0xa0201${block?.toString(16)}`);
    });
    await one.sh(`ip -n c1 address add ${given}/24 dev eth0`);
    await machines().lab.until('it may send from what it was given', () => pings(given, bare(b.ip)));
    const refused = await two.weft('attach', 't100', 'c6', '--vlan', '305');
    t.is(refused.code, 1);
    t.regex(refused.stderr, /does not allow VLAN 305/);

    const frames = await capture.stop();
    t.regex(inVlan(frames, 100).join('\n'), new RegExp(`${bare(a.ip)} > ${bare(b.ip)}: ICMP echo request`));
    t.regex(inVlan(frames, 200).join('\n'), new RegExp(`${bare(c.ip)} > ${bare(d.ip)}: ICMP echo request`));
    t.regex(inVlan(frames, 305).join('\n'), new RegExp(`${bare(e.ip)} > ${bare(f.ip)}: ICMP echo request`));
    t.deepEqual(
      frames.filter((frame) => frame.includes('10.2.1.') && !frame.includes('802.1Q')),
      [],
      'nothing of it is on the cable without a tag',
    );
    await remove('t100', 't200');
    await machines().lab.until(
      'the NICs are restored',
      async () => {
        const links = await Promise.all([one, two].map((host) => host.sh('ip -o link')));
        return links.every((text) => !text.includes('wfp-') && !/eth1.*master/.test(text));
      },
      { context: () => machines().logs() },
    );
  });

  test.serial('vlan: out through the gateway of a VLAN, masqueraded', async (t) => {
    const host = machines().host(1);
    await Promise.all([
      network(t, 'out', 400, '--subnet', '10.4.0.0/24', '--gateway', '10.4.0.1'),
      host.containers('c1'),
    ]);
    const a = await host.json<EndpointJson>('attach', 'out', 'c1');
    t.is(a.gateway, '10.4.0.1');
    t.true(await host.reaches('c1', '10.4.0.1'));
    const capture = await machines().capture(host, 0, 'icmp');
    t.true(await host.reaches('c1', OUTSIDE.ip));
    await capture.sees(new RegExp(`${host.ip} > ${OUTSIDE.ip}: ICMP echo request`));
    const frames = await capture.stop();
    t.notRegex(frames.join('\n'), /10\.4\.0\./);
    await remove('out');
  });

  test.serial('vlan: an impossible request is refused with the reason and leaves nothing', async (t) => {
    const host = machines().host(1);
    for (const [vlan, words] of [
      ['0', /1 to 4094/],
      ['4095', /1 to 4094/],
    ] as const) {
      const { code, stderr } = await machines().weft(
        ...['network', 'create', 'no', '--driver', 'vlan', '--vlan', vlan, '--subnet', '10.5.0.0/24'],
      );
      t.is(code, 2);
      t.regex(stderr, words);
    }
    await host.sh('ip link set eth1 down; ip link add other type bridge; ip link set other up');
    await host.containers('c1');
    for (const [parent, words] of [
      ['eth1', /eth1 is down/],
      ['other', /does not tell VLANs apart/],
      ['eth0', /carries the underlay/],
      ['eth9', /no interface eth9/],
    ] as const) {
      await network(t, 'no', 100, '--parent', parent, '--subnet', '10.5.0.0/24');
      const { code, stderr } = await host.weft('attach', 'no', 'c1');
      t.is(code, 1);
      t.regex(stderr, words);
      await remove('no');
    }
    t.notRegex(await host.sh('ip -o link; ip -n c1 -o link'), /wfp-|wfep|wfvlan/);
    t.regex(await host.sh('ip -d link show other'), /vlan_filtering 0/);
    await host.sh('ip link del other; ip link set eth1 up');
  });
}
