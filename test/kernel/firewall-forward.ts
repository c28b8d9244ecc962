// Hosts that drop forwarded packets: weft's links are accepted, and isolation holds.
//
// By whatever program the chains were closed, and however often.
import test from 'ava';

import { NOTHING_DONE, type Subject } from './firewall-subject.js';
import { NETWORKS, sh } from './firewall-world.js';

export function forwardSuite(subject: Subject): void {
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
            // Docker's rules were there first, and weft's are before them in a shared chain.
            const displaced = docker && subject.choice === 'iptables' && subject.variant === closing;
            t.is(report.repaired.length, displaced ? 2 : 0);
            t.deepEqual(report.problems, []);
            t.true(report.applied.length >= 2);
            await subject.traffic(t);
            t.deepEqual(await subject.firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
            const before = await subject.state();
            await subject.firewall.ensure({ networks: NETWORKS });
            t.is(await subject.state(), before);

            // Docker's restart: its rules are in front again, and its chain may be empty.
            const front = docker
              ? ['-F DOCKER-USER', '-A DOCKER-USER -j DROP']
              : ['-I FORWARD 1 -i wf+ -j DROP'];
            await each(front);
            const again = await subject.firewall.ensure({ networks: NETWORKS });
            t.true(
              again.repaired.length >=
                (docker && subject.variant === closing && subject.choice === 'iptables' ? 0 : 1),
            );
            if (docker) await subject.reaches(t, 'a1', 'outside', 'host');
          } finally {
            await each([
              '-P FORWARD ACCEPT',
              ...(docker
                ? ['-D FORWARD -j DOCKER-USER', '-D FORWARD -i docker0 -j DROP', '-F DOCKER-USER']
                : []),
              ...(docker ? [] : ['-D FORWARD -i wf+ -j DROP']),
            ]).catch(() => undefined);
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
      await subject.firewall.ensure(both);
      t.regex(await sh('iptables-legacy-save'), /-A FORWARD -j WEFT-[^]*-A FORWARD -i wf\+ -j DROP/);
      await subject.firewall.ensure({ networks: [], bridged: [4] });
      t.is((await saved()).match(/-i wf\+ .*-j ACCEPT/g)?.length, 2);
      // Routed networks added and removed again.
      await subject.firewall.ensure({ networks: NETWORKS, bridged: [4, 6] });
      await subject.traffic(t);
      await subject.firewall.ensure({ networks: [], bridged: [4, 6] });
      t.is((await saved()).match(/-i wf\+ .*-j ACCEPT/g)?.length, 4);
    } finally {
      await sh('iptables-legacy -w 5 -D FORWARD -i wf+ -j DROP').catch(() => undefined);
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
    const [, command = ''] = /(nft '.*')/.exec(problems[0]?.fix ?? '') ?? [];
    await sh(command);
    t.deepEqual((await subject.firewall.ensure({ networks: NETWORKS })).problems, []);
    await subject.reaches(t, 'a1', 'outside', 'host');
    await sh('nft delete table inet strict');
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
