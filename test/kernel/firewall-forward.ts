// Hosts that drop forwarded packets: weft's links are accepted, and isolation holds.
//
// By whatever program the chains were closed, and however often.
import test, { type ExecutionContext } from 'ava';

import { NOTHING_DONE, type Subject } from './firewall-subject.js';
import { NETWORKS, PORT, sh } from './firewall-world.js';

/** The commands in a problem's next step. */
export const commandIn = (fix: string): string => /^Run: (.*?)(?:, and add .*)?$/.exec(fix)?.[1] ?? 'false';

export function forwardSuite(subject: Subject): void {
  /** On a host whose FORWARD leads to DOCKER-USER, with a policy of DROP. */
  async function behindDocker(
    t: ExecutionContext,
    each: (lines: string[]) => Promise<string>,
    forward: () => Promise<string>,
  ): Promise<void> {
    const behind = /^-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j WEFT-ACCEPT\n/;
    t.regex(await forward(), behind, 'directly behind DOCKER-USER');

    // Docker's restart: its rules are in front again.
    await each(['-D FORWARD -j DOCKER-USER', '-I FORWARD 1 -j DOCKER-USER', '-I FORWARD 2 -i wf+ -j DROP']);
    await subject.isKept(t, 'a1', 'outside');
    t.true((await subject.firewall.ensure({ networks: NETWORKS })).repaired.length >= 1);
    t.regex(await forward(), behind, 'put back');
    await subject.reaches(t, 'a1', 'outside', 'host');
    // The operator's rules come first.
    await each([`-I DOCKER-USER -o wfbr1 -p tcp --dport ${PORT} -j DROP`]);
    t.deepEqual((await subject.firewall.ensure({ networks: NETWORKS })).problems, []);
    await subject.isKept(t, 'outside', 'a1');
    await subject.reaches(t, 'a1', 'outside', 'host');
    // One that drops everything is also reported, with the command that lets weft's links through.
    await each(['-F DOCKER-USER', '-A DOCKER-USER -j DROP']);
    const { problems } = await subject.firewall.ensure({ networks: NETWORKS });
    t.is(problems.length, 2, 'one of each family');
    t.true(problems.every(({ why }) => why.includes('`-A DOCKER-USER -j DROP`')));
    await subject.isKept(t, 'a1', 'outside');
    for (const { fix } of problems) await sh(commandIn(fix));
    t.deepEqual((await subject.firewall.ensure({ networks: NETWORKS })).problems, []);
    await subject.traffic(t);
  }

  for (const closing of ['nft', 'legacy'] as const) {
    for (const docker of [false, true]) {
      test.serial(
        `FORWARD is DROP in iptables-${closing}${docker ? ', with DOCKER-USER' : ''}`,
        async (t) => {
          const commandsOf = [`iptables-${closing}`, `ip6tables-${closing}`];
          const each = (lines: string[]): Promise<string> =>
            sh(commandsOf.flatMap((command) => lines.map((line) => `${command} -w 5 ${line}`)).join(' && '));
          const dockerRules = ['-I FORWARD 1 -j DOCKER-USER', '-I FORWARD 2 -i docker0 -j DROP'];
          try {
            await each([
              '-P FORWARD DROP',
              ...(docker ? ['-N DOCKER-USER', '-A DOCKER-USER -j RETURN', ...dockerRules] : []),
            ]);
            await subject.isKept(t, 'a1', 'outside');
            const report = await subject.firewall.ensure({ networks: NETWORKS });
            t.deepEqual(report.problems, []);
            t.true(report.applied.length + report.repaired.length >= 2);
            await subject.traffic(t);
            t.deepEqual(await subject.firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
            const before = await subject.state();
            await subject.firewall.ensure({ networks: NETWORKS });
            t.is(await subject.state(), before);
            const forward = async (): Promise<string> =>
              (await sh(`iptables-${closing} -S FORWARD`)).replace('-A FORWARD -j WEFT-FORWARD\n', '');
            if (docker) await behindDocker(t, each, forward);
            else {
              t.regex(await forward(), /-A FORWARD -j WEFT-ACCEPT\n$/, 'the last');
              await each(['-A FORWARD -i wf+ -p tcp --dport 1 -j DROP']);
              t.true((await subject.firewall.ensure({ networks: NETWORKS })).repaired.length >= 1);
              t.regex(await forward(), /-j DROP\n-A FORWARD -j WEFT-ACCEPT\n$/, 'the last again');
            }
          } finally {
            await each([
              '-P FORWARD ACCEPT',
              ...(docker
                ? ['-D FORWARD -j DOCKER-USER', '-D FORWARD -i docker0 -j DROP', '-F DOCKER-USER']
                : ['-D FORWARD -i wf+ -p tcp --dport 1 -j DROP']),
            ]).catch(() => undefined);
            await each(['-D FORWARD -i wf+ -j DROP']).catch(() => undefined);
          }
          await subject.firewall.ensure({ networks: NETWORKS });
          if (docker) await each(['-X DOCKER-USER']);
          t.notRegex(
            await sh(commandsOf.map((command) => `${command}-save`).join('; ')),
            /WEFT-ACCEPT|-i wf\+/,
          );
          await subject.reaches(t, 'a1', 'outside', 'host');
        },
      );
    }
  }

  test.serial('FORWARD is DROP, and weft only bridges: accepted only where the chains see it', async (t) => {
    const commandsOf = ['iptables-nft', 'ip6tables-nft', 'iptables-legacy', 'ip6tables-legacy'];
    const saved = (): Promise<string> => sh(commandsOf.map((command) => `${command}-save`).join('; '));
    try {
      await sh(commandsOf.map((command) => `${command} -w 5 -P FORWARD DROP`).join(' && '));
      await subject.firewall.ensure({ networks: [], bridged: [] });
      t.notRegex(await saved(), /-i wf\+/);
      const both = { networks: [], bridged: [4, 6] as const };
      await subject.firewall.ensure(both);
      t.is((await saved()).match(/-i wf\+ .*-j ACCEPT/g)?.length, 4);
      t.deepEqual(await subject.firewall.ensure(both), NOTHING_DONE);
      await sh('iptables-legacy -w 5 -I FORWARD 1 -i wf+ -j DROP');
      const [problem, ...others] = (await subject.firewall.ensure(both)).problems;
      t.deepEqual(others, []);
      t.regex(problem?.why ?? '', /its rule `-A FORWARD -i wf\+ -j DROP`/);
      t.regex(problem?.fix ?? '', /iptables(-nft|-legacy)? -I FORWARD 1 -i wfp-\+ -o wfp-\+ -j ACCEPT/);
      await sh('iptables-legacy -w 5 -D FORWARD -i wf+ -j DROP');
      await subject.firewall.ensure({ networks: [], bridged: [4] });
      t.is((await saved()).match(/-i wf\+ .*-j ACCEPT/g)?.length, 2);
      // Routed networks added and removed again.
      await subject.firewall.ensure({ networks: NETWORKS, bridged: [4, 6] });
      await subject.traffic(t);
      await subject.firewall.ensure({ networks: [], bridged: [4, 6] });
      t.is((await saved()).match(/-i wf\+ .*-j ACCEPT/g)?.length, 4);
    } finally {
      await sh(commandsOf.map((command) => `${command} -w 5 -P FORWARD ACCEPT`).join(' && '));
    }
    await subject.firewall.ensure({ networks: NETWORKS, bridged: [] });
    t.notRegex(await saved(), /WEFT-ACCEPT|-i wf\+/);
  });

  test.serial('with br_netfilter, bridged packets pass the rules too, and are accepted', async (t) => {
    const settings = ['bridge-nf-call-iptables', 'bridge-nf-call-ip6tables'].map(
      (name) => `/proc/sys/net/bridge/${name}`,
    );
    const set = (value: number): Promise<string> =>
      sh(settings.map((path) => `echo ${value} > ${path}`).join('; '));
    try {
      await set(1);
    } catch {
      t.log('not on this kernel: it has no br_netfilter');
      t.pass();
      return;
    }
    await sh('iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP');
    await subject.firewall.ensure({ networks: NETWORKS });
    for (const from of ['a1', 'b1', 'a3', 'b3'] as const)
      await subject.world.run(from, 'ip neigh flush dev eth0');
    await subject.traffic(t);
    await sh('iptables-nft -P FORWARD ACCEPT; ip6tables-nft -P FORWARD ACCEPT');
    await set(0);
    await subject.firewall.ensure({ networks: NETWORKS });
  });

  test.serial('an unowned nftables chain that drops is reported, with the rule to add', async (t) => {
    await sh(
      `nft 'table inet strict { chain theirs { type filter hook forward priority 5; policy drop; }; }'`,
    );
    const { problems } = await subject.firewall.ensure({ networks: NETWORKS });
    t.is(problems.length, 1);
    t.regex(problems[0]?.what ?? '', /inet strict.*theirs/);
    const { problems: again } = await subject.firewall.ensure({ networks: NETWORKS });
    t.deepEqual(again, problems);
    // The suggested command solves it.
    await sh(commandIn(problems[0]?.fix ?? ''));
    t.deepEqual((await subject.firewall.ensure({ networks: NETWORKS })).problems, []);
    await subject.reaches(t, 'a1', 'outside', 'host');
    await sh('nft delete table inet strict');
  });

  test.serial("a host whose rules end with REJECT, as RHEL's do: the rule and the commands", async (t) => {
    const rules = [
      '-A INPUT -i lo -j ACCEPT',
      ...['INPUT', 'FORWARD'].flatMap((chain) => [
        `-A ${chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
        `-A ${chain} -p icmp -j ACCEPT`,
        `-A ${chain} -p tcp -m conntrack --ctstate NEW --dport 22 -j ACCEPT`,
        `-A ${chain} -i lan0 -j ACCEPT`,
        `-A ${chain} -j REJECT --reject-with icmp-host-prohibited`,
      ]),
    ];
    const asked = { networks: NETWORKS, tunnelPorts: [8472], names: true, underlay: 'up0' };
    for (const variant of ['nft', 'legacy']) {
      await sh(rules.map((rule) => `iptables-${variant} -w 5 ${rule}`).join(' && '));
      try {
        const { problems } = await subject.firewall.ensure(asked);
        t.is(problems.length, 1, variant);
        const [{ what, why, fix } = { what: '', why: '', fix: '' }] = problems;
        t.regex(what, new RegExp(`iptables \\(${variant}\\), chains FORWARD and INPUT`));
        t.regex(why, /`-A FORWARD -j REJECT .*forward.*`-A INPUT -j REJECT .*port 53\), nor UDP port 8472/);
        t.deepEqual((await subject.firewall.ensure(asked)).problems, problems, 'again the same');
        await sh(commandIn(fix));
        t.deepEqual((await subject.firewall.ensure(asked)).problems, []);
        await subject.reaches(t, 'a1', 'remote1');
        await subject.reaches(t, 'remote1', 'a1');
        await subject.reaches(t, 'a1', 'outside', 'host');
      } finally {
        await sh(`iptables-${variant} -w 5 -F INPUT; iptables-${variant} -w 5 -F FORWARD`);
      }
    }
    await subject.firewall.ensure({ networks: NETWORKS });
  });

  // libnftables before 1.1.0 reads freed memory where it prints such a table.
  test.serial('an unowned table with a flag does not disturb a comparison', async (t) => {
    await sh(
      `nft 'table inet asleep { flags dormant; chain theirs { type filter hook forward priority 5; policy drop; }; chain in { type filter hook input priority 5; policy drop; }; }'`,
    );
    const ensured = [];
    for (let n = 0; n < 20; n++) {
      await sh('nft add rule inet asleep theirs accept');
      ensured.push(await subject.firewall.ensure({ networks: NETWORKS, tunnelPorts: [8472] }));
    }
    t.deepEqual(
      ensured.flatMap(({ repaired }) => repaired),
      [],
    );
    await sh('nft delete table inet asleep');
  });
}
