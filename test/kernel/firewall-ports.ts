// Published ports, routed networks and remote prefixes, for every firewall driver.
//
// With real connections, damaged by hand, changed one by one, and while the records are still arriving.
import test, { type ExecutionContext } from 'ava';

import { firewallPortKey, type Firewall, type FirewallPort } from '../../core/firewall.js';
import { IpNetwork } from '../../core/address.js';
import type { Problem } from '../../agent/kernel/firewall/types.js';
import { commandIn } from './firewall-forward.js';
import { NOTHING_DONE, type Subject } from './firewall-subject.js';
import { ADDRESSES, NETWORKS, PORT, sh, type Container, type Place } from './firewall-world.js';

type Target = Exclude<Container, 'outside'>;

/** A port on every address of the host, in both families. */
const portTo = (to: Target, hostPort: number, more: Partial<FirewallPort> = {}): FirewallPort[] =>
  ADDRESSES[to].map((ip) => ({ hostPort, protocol: 'tcp', ip, port: PORT, clients: 'themselves', ...more }));

const byKey = (ports: readonly FirewallPort[]): Map<string, FirewallPort> =>
  new Map(ports.map((port) => [firewallPortKey(port), port]));

const PORTS: FirewallPort[] = [
  ...portTo('a1', 7100),
  ...portTo('a1', 7101).map((port) => ({
    ...port,
    hostIp: port.ip.includes(':') ? ADDRESSES.host[1] : ADDRESSES.host[0],
  })),
  ...portTo('remote1', 7102),
  ...portTo('b1', 7103, { clients: 'gateway' }),
  { ...(portTo('a1', 7104)[0] as FirewallPort), hostIp: '127.0.0.1' },
];

export function portSuite(subject: Subject): void {
  const desired = (ports: readonly FirewallPort[], more: Partial<Firewall> = {}): Firewall => ({
    networks: NETWORKS,
    ports: byKey(ports),
    ...more,
  });
  const asks = (
    from: Container | 'host',
    to: Place,
    port: number,
    patient = true,
  ): Promise<(string | undefined)[]> =>
    Promise.all(
      ([4, 6] as const).map((family) => subject.world.connect(from, to, family, { port, patient })),
    );
  const reaches = async (
    t: ExecutionContext,
    from: Container | 'host',
    to: Place,
    port: number,
    seenAs: Place,
  ): Promise<void> => {
    t.deepEqual(await asks(from, to, port), [...ADDRESSES[seenAs]], `${from} to ${to}:${port}`);
  };
  const isKept = async (
    t: ExecutionContext,
    from: Container | 'host',
    to: Place,
    port: number,
  ): Promise<void> => {
    t.deepEqual(await asks(from, to, port, false), [undefined, undefined], `${from} to ${to}:${port}`);
  };
  const traffic = async (t: ExecutionContext): Promise<void> => {
    await reaches(t, 'outside', 'host', 7100, 'outside');
    await reaches(t, 'outside', 'host', 7101, 'outside');
    await reaches(t, 'host', 'host', 7100, 'host');
    await reaches(t, 'a2', 'host', 7100, 'a2');
    await reaches(t, 'a2', 'gateway2', 7100, 'a2');
    await reaches(t, 'b1', 'host', 7100, 'gateway1');
    await reaches(t, 'outside', 'host', 7103, 'gateway1');
    // To another node's container: masqueraded to this node's tunnel address, except from its own network.
    t.deepEqual(await asks('outside', 'host', 7102), ['10.1.8.1', 'fd00:1:0:8::1']);
    await reaches(t, 'a1', 'host', 7102, 'a1');
    t.deepEqual(await asks('host', 'host', 7102), ['10.1.8.1', 'fd00:1:0:8::1']);
    await isKept(t, 'a3', 'host', 7100);
    await isKept(t, 'a3', 'gateway3', 7100);
    await isKept(t, 'a2', 'a1', PORT);
    await isKept(t, 'a2', 'gateway2', 7101);
    await isKept(t, 'outside', 'host', 7104);
  };
  const loopback = (port: number): Promise<string> =>
    sh(`timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/${port}; cat <&3'`).then(
      (text) => text.trim().replace(/^::ffff:/, ''),
      () => '',
    );

  test.serial('ports lead to their containers, over every address of the host', async (t) => {
    await sh('for i in wfbr1 wfvx1; do echo 1 > /proc/sys/net/ipv4/conf/$i/route_localnet; done');
    const { repaired, problems } = await subject.firewall.ensure(desired(PORTS));
    t.deepEqual([repaired, problems], [[], []]);
    t.deepEqual(await subject.firewall.ensure(desired(PORTS)), NOTHING_DONE);
    await traffic(t);
    t.is(await loopback(7100), ADDRESSES.gateway1[0]);
    t.is(await loopback(7104), ADDRESSES.gateway1[0]);
    t.is(await loopback(7102), '10.1.8.1');
    await subject.traffic(t);
  });

  test.serial('ports are added, removed and redirected one by one', async (t) => {
    await subject.firewall.ensure(desired(PORTS));
    const before = await subject.ours();
    const more = portTo('a2', 7105, { clients: 'gateway' });
    await subject.firewall.changeItems(desired([...PORTS, ...more]), more, []);
    await reaches(t, 'outside', 'host', 7105, 'gateway2');
    t.deepEqual(await subject.firewall.ensure(desired([...PORTS, ...more])), NOTHING_DONE);
    const [first, ...others] = PORTS;
    const moved = portTo('a2', 7100);
    const after = [...others.filter(({ hostPort }) => hostPort !== 7100), ...moved];
    const gone = [...portTo('a1', 7100), ...more];
    t.truthy(first);
    await subject.firewall.changeItems(desired(after), moved, gone);
    await reaches(t, 'outside', 'host', 7100, 'outside');
    await isKept(t, 'outside', 'host', 7105);
    t.deepEqual(await subject.firewall.ensure(desired(after)), NOTHING_DONE);
    await subject.firewall.changeItems(desired(PORTS), portTo('a1', 7100), moved);
    t.deepEqual(await subject.firewall.ensure(desired(PORTS)), NOTHING_DONE);
    const lines = (text: string): string[] =>
      text
        .split('\n')
        .map((line) => line.trim())
        .toSorted();
    if (subject.choice === 'iptables') t.deepEqual(lines(await subject.ours()), lines(before));
  });

  test.serial('an element that two ports need stays as long as one of them does', async (t) => {
    await subject.firewall.ensure(desired(PORTS));
    const second = portTo('b1', 7106, { clients: 'gateway' });
    await subject.firewall.changeItems(desired([...PORTS, ...second]), second, []);
    await subject.firewall.changeItems(desired(PORTS), [], second);
    await reaches(t, 'outside', 'host', 7103, 'gateway1');
    t.deepEqual(await subject.firewall.ensure(desired(PORTS)), NOTHING_DONE);
  });

  test.serial('ports damaged by hand are repaired and reported', async (t) => {
    const damages: [string, RegExp][] =
      subject.driver === 'nftables'
        ? [
            ['nft flush map inet weft port4', /set port4: .*tcp \. 7100 : 10\.1\.0\.2 \. 7000/],
            ["nft add element inet weft port4 '{ tcp . 99 : 192.0.2.9 . 99 }'", /tcp \. 99 .* not wanted/],
            ['nft flush chain inet weft prerouting', /chain prerouting: rule/],
            ['nft flush chain inet weft output', /chain output: rule/],
          ]
        : [
            ['iptables -t nat -F WEFT-PORTS', /chain WEFT-PORTS of table nat.*--dport 7101.* missing/],
            [
              'iptables -t nat -D PREROUTING -j WEFT-PREROUTING',
              /PREROUTING: jump to WEFT-PREROUTING missing/,
            ],
          ];
    for (const [command, words] of damages) {
      await subject.firewall.ensure(desired(PORTS));
      await sh(command);
      const { repaired } = await subject.firewall.ensure(desired(PORTS));
      t.regex(repaired.join('\n'), words, command);
      t.deepEqual(await subject.firewall.ensure(desired(PORTS)), NOTHING_DONE);
    }
    // Also where the next change only adds a port.
    await sh(
      subject.driver === 'nftables' ? 'nft flush map inet weft port4' : 'iptables -t nat -F WEFT-PORTS',
    );
    const more = portTo('a2', 7107);
    const { repaired } = await subject.firewall.changeItems(desired([...PORTS, ...more]), more, []);
    t.true(repaired.length > 0);
    await reaches(t, 'outside', 'host', 7100, 'outside');
    await reaches(t, 'outside', 'host', 7107, 'outside');
    await subject.firewall.ensure(desired(PORTS));
  });

  test.serial('while records are arriving, open ports stay open', async (t) => {
    await subject.firewall.ensure(desired(PORTS));
    const before = await subject.ours();
    const { openFirewall } = await import('../../agent/kernel/firewall/index.js');
    const second = await openFirewall(subject.choice);
    // The agent restarts, and knows of one port only.
    const known = portTo('a1', 7100);
    t.deepEqual((await second.ensure(desired(known, { keepItems: true }))).repaired, []);
    await reaches(t, 'outside', 'host', 7101, 'outside');
    t.deepEqual((await second.ensure(desired(PORTS, { keepItems: true }))).repaired, []);
    await traffic(t);
    t.deepEqual((await second.ensure(desired(PORTS))).repaired, []);
    t.is((await subject.ours()).length, before.length);
    // Then unwanted ports are closed.
    await second.ensure(desired(known));
    await isKept(t, 'outside', 'host', 7101);
    await reaches(t, 'outside', 'host', 7100, 'outside');
    second.close();
    await subject.firewall.ensure({ networks: NETWORKS });
    await isKept(t, 'outside', 'host', 7100);
  });

  test.serial('networks that are routed reach each other, and no third one', async (t) => {
    const [one, two, three] = NETWORKS;
    if (one === undefined || two === undefined || three === undefined) throw new Error('three networks');
    const routed = [{ ...one, reaches: two.prefixes }, { ...two, reaches: one.prefixes }, three];
    const { repaired } = await subject.firewall.ensure({ networks: routed });
    t.deepEqual(repaired, []);
    // With their own addresses, in both directions, tunnels included.
    await subject.reaches(t, 'a1', 'a2');
    await subject.reaches(t, 'a2', 'a1');
    await subject.reaches(t, 'remote1', 'a2');
    await subject.reaches(t, 'a2', 'remote1');
    await subject.reaches(t, 'a1', 'outside', 'host');
    for (const to of ['a3', 'gateway3'] as const) await subject.isKept(t, 'a1', to);
    await subject.isKept(t, 'a3', 'a1');
    await subject.firewall.ensure({ networks: NETWORKS });
    await subject.isKept(t, 'a1', 'a2');
    await subject.traffic(t);
  });

  test.serial('traffic to a network of other nodes does not leave by the default route', async (t) => {
    const outside = ADDRESSES.outside.map((ip) => IpNetwork.parse(`${ip}/${ip.includes(':') ? 128 : 32}`));
    await subject.reaches(t, 'a1', 'outside', 'host');
    await subject.firewall.ensure({ networks: NETWORKS, others: outside });
    await subject.isKept(t, 'a1', 'outside');
    await subject.isKept(t, 'remote1', 'outside');
    t.deepEqual(await subject.firewall.ensure({ networks: NETWORKS, others: outside }), NOTHING_DONE);
    await subject.firewall.ensure({ networks: NETWORKS });
    await subject.reaches(t, 'a1', 'outside', 'host');
  });

  test.serial('a host that drops incoming tunnel packets is reported, with the next step', async (t) => {
    const asked = { networks: NETWORKS, tunnelPorts: [8472] };
    const reported = async (): Promise<string[]> =>
      (await subject.firewall.ensure(asked)).problems.map(({ what, why, fix }) => `${what}: ${why}. ${fix}`);
    t.deepEqual(await reported(), []);
    for (const variant of ['nft', 'legacy']) {
      const run = (line: string): Promise<string> => sh(`iptables-${variant} -w 5 ${line}`);
      await run('-A INPUT -i lo -j ACCEPT');
      await run('-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT');
      await run('-A INPUT -p tcp --dport 22 -j ACCEPT');
      await run('-A INPUT -p icmp -j ACCEPT');
      await run('-P INPUT DROP');
      try {
        const problems = await reported();
        t.is(problems.length, 1, variant);
        t.regex(
          problems[0] ?? '',
          /chain INPUT: it drops .* UDP port 8472.*iptables(-nft|-legacy)? -I INPUT -p udp --dport 8472/,
        );
        t.deepEqual(await reported(), problems, 'again the same');
        await run('-A INPUT -p udp -m multiport --dports 53,8000:9000 -j ACCEPT');
        t.deepEqual(await reported(), []);
      } finally {
        await run('-P INPUT ACCEPT');
        await run('-F INPUT');
      }
    }
    await sh(
      "nft 'table inet closed { chain in { type filter hook input priority 0; policy drop; tcp dport 22 accept; meta l4proto { icmp, ipv6-icmp } accept; ct state established accept; }; }'",
    );
    t.regex((await reported()).join(), /table inet closed, chain in: .*udp dport 8472 accept/);
    await sh("nft 'insert rule inet closed in udp dport 8472 accept'");
    t.deepEqual(await reported(), []);
    await sh('nft delete table inet closed');
    await subject.firewall.ensure({ networks: NETWORKS });
  });

  test.serial('a host that drops ICMP on arrival, or what it sends: the commands open weft’s', async (t) => {
    const asked = { networks: NETWORKS, tunnelPorts: [8472], underlay: 'up0' };
    const problems = async (): Promise<Problem[]> => (await subject.firewall.ensure(asked)).problems;
    // Permanent neighbours, as weft's tunnels have: neighbour discovery is opened on bridges alone.
    const macIn = (link: string): string => /link\/ether (\S+)/.exec(link)?.[1] ?? '';
    const near = macIn(await sh('ip -o link show wfvx1'));
    const far = macIn(await subject.world.run('remote1', 'ip -o link show eth0'));
    await sh(`ip neigh replace ${ADDRESSES.remote1[1]} lladdr ${far} dev wfvx1 nud permanent`);
    await subject.world.run(
      'remote1',
      `ip neigh replace fd00:1:0:8::1 lladdr ${near} dev eth0 nud permanent`,
    );
    /** Echo from another node and to it, a container's way by its gateway, and a tunnel's packet. */
    const works = async (): Promise<boolean[]> => {
      await sh('ip -6 neigh flush dev wfbr1');
      await subject.world.run('a1', 'ip -6 neigh flush dev eth0');
      return Promise.all([
        subject.world.ping('remote1', '10.1.8.1'),
        subject.world.ping('host', ADDRESSES.remote1[0]),
        subject.world.ping('host', ADDRESSES.remote1[1]),
        subject.world.run('a1', `ping -c 1 -W 1 ${ADDRESSES.remote1[1]}`).then(
          () => true,
          () => false,
        ),
        sh(`echo > /dev/udp/${ADDRESSES.outside[0]}/8472`).then(
          () => true,
          () => false,
        ),
      ]);
    };
    const all = [true, true, true, true, true];
    const closings: [string, string, RegExp, number[]][] = [];
    for (const variant of ['nft', 'legacy']) {
      const each = (line: string): string =>
        ['iptables', 'ip6tables'].map((command) => `${command}-${variant} -w 5 ${line}`).join('; ');
      const established = '-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT';
      for (const [chain, words, closed] of [
        ['INPUT', /neighbour discovery of containers .*probes/s, [0, 3]],
        ['OUTPUT', /to which tunnels send/, [1, 2, 3, 4]],
      ] as [string, RegExp, number[]][])
        closings.push([
          `${each(`-A ${chain} ${established}`)}; ${each(`-P ${chain} DROP`)}`,
          `${each(`-P ${chain} ACCEPT`)}; ${each(`-F ${chain}`)}`,
          words,
          closed,
        ]);
    }
    closings.push([
      "nft 'table inet closed { chain out { type filter hook output priority 0; policy drop; ct state established accept; }; chain in { type filter hook input priority 0; policy drop; ct state established accept; }; }'",
      'nft delete table inet closed',
      /to which tunnels send/,
      [0, 1, 2, 3, 4],
    ]);
    for (const [close, open, words, closed] of closings) {
      t.deepEqual(await problems(), []);
      await sh(close);
      try {
        t.deepEqual(
          await works(),
          all.map((_, i) => !closed.includes(i)),
          close,
        );
        const found = await problems();
        t.regex(found.map(({ why }) => why).join('\n'), words, close);
        t.deepEqual(await problems(), found, 'again the same');
        for (const { fix } of found) await sh(commandIn(fix));
        t.deepEqual(await problems(), [], close);
        t.deepEqual(await works(), all, close);
      } finally {
        await sh(open);
      }
    }
    await subject.firewall.ensure({ networks: NETWORKS });
  });

  test.serial('all UDP to the containers is closed by a rule: it is named', async (t) => {
    for (const variant of ['nft', 'legacy']) {
      const rule = 'FORWARD -o wfbr+ -p udp -j DROP';
      await sh(`iptables-${variant} -w 5 -I ${rule}`);
      try {
        const [problem, ...others] = (await subject.firewall.ensure({ networks: NETWORKS })).problems;
        t.deepEqual(others, []);
        t.true(problem?.why.includes(`\`-A ${rule}\``), problem?.why);
      } finally {
        await sh(`iptables-${variant} -w 5 -D ${rule}`);
      }
    }
    t.deepEqual((await subject.firewall.ensure({ networks: NETWORKS })).problems, []);
  });

  test.serial('adding a port to a thousand is fast', async (t) => {
    const many = Array.from({ length: 1000 }, (_, i) => portTo('a1', 20_000 + i)).flat();
    const timed = async (ports: readonly FirewallPort[], added: readonly FirewallPort[]): Promise<number> => {
      const start = performance.now();
      await subject.firewall.changeItems(desired(ports), added, []);
      return performance.now() - start;
    };
    await subject.firewall.ensure(desired([]));
    const one = await timed(portTo('a2', 7300), portTo('a2', 7300));
    const all = [...portTo('a2', 7300), ...many];
    const bulk = await timed(all, many);
    const more = portTo('a2', 7301);
    const last = await timed([...all, ...more], more);
    await subject.firewall.ensure(desired([...all, ...more]));
    t.log(
      `${subject.driver}: the first ${one.toFixed(1)} ms, 1000 ${bulk.toFixed(0)} ms, one more ${last.toFixed(1)} ms`,
    );
    t.deepEqual(await subject.firewall.ensure(desired([...all, ...more])), NOTHING_DONE);
    await reaches(t, 'outside', 'host', 20_999, 'outside');
    await reaches(t, 'outside', 'host', 7301, 'outside');
    await subject.firewall.ensure({ networks: NETWORKS });
  });
}
