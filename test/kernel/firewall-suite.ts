// What every firewall driver must do, in a world with real traffic. The same tests run for nftables, for iptables-nft and
// for iptables-legacy, each in a process (and so a namespace) of its own.
import { createHook } from 'node:async_hooks';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { openFirewall, type NodeFirewall } from '../../agent/kernel/firewall/index.js';
import { RulesetGeneration } from '../../agent/kernel/firewall/generation.js';
import {
  ADDRESSES,
  NETWORKS,
  network,
  openWorld,
  sh,
  type Container,
  type Place,
  type World,
} from './firewall-world.js';

export type Driver = 'nftables' | 'iptables-nft' | 'iptables-legacy';

const FAMILIES = [4, 6] as const;
const NOTHING_DONE = { repaired: [], applied: [], problems: [] };
const FOREIGN = `table inet others {
  set blocked { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 }; }
  chain input { type filter hook input priority 10; policy accept; ip saddr @blocked drop comment "theirs"; }
  chain prerouting { type nat hook prerouting priority dstnat; policy accept; tcp dport 8081 dnat ip to 203.0.113.9; }
}`;

/** Everything that is not weft's, as it is printed; counters move by themselves. */
const foreignState = async (): Promise<string> =>
  (
    await sh(
      'nft list table inet others; iptables-nft-save -t mangle; iptables-nft-save -t filter; ip6tables-nft-save -t filter',
    )
  )
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .replaceAll(/\[\d+:\d+\]/g, '');

export function firewallSuite(driver: Driver): void {
  const choice = driver === 'nftables' ? 'nftables' : 'iptables';
  const variant = driver === 'iptables-legacy' ? 'legacy' : 'nft';
  const generation = new RulesetGeneration();
  let world: World;
  let firewall: NodeFirewall;
  let commands: string | undefined;

  test.before(async () => {
    if (choice === 'iptables') {
      // The plain names decide which kind is the host's own.
      commands = mkdtempSync(join(tmpdir(), 'weft-iptables-'));
      for (const base of ['iptables', 'ip6tables']) {
        for (const tail of ['', '-save', '-restore']) {
          symlinkSync(`/usr/sbin/${base}-${variant}${tail}`, join(commands, `${base}${tail}`));
        }
      }
      process.env['PATH'] = `${commands}:${process.env['PATH']}`;
    }
    world = await openWorld();
    firewall = await openFirewall(choice);
  });

  test.after.always(async () => {
    firewall?.close();
    generation.close();
    await world?.end();
    if (commands !== undefined) rmSync(commands, { recursive: true });
  });

  /** The state of everything in the kernel's tables, for "nothing was written". */
  const state = async (): Promise<string> =>
    `${generation.read()} ${await sh('nft -s list ruleset; iptables-legacy-save -t filter | grep -v "^[#:]" || true')}`;

  const reaches = async (
    t: ExecutionContext,
    from: Container | 'host',
    to: Place,
    seenAs?: Place,
  ): Promise<void> => {
    for (const family of FAMILIES) {
      const seen = await world.connect(from, to, family);
      const expected = seenAs ?? from;
      t.is(seen, ADDRESSES[expected][family === 4 ? 0 : 1], `IPv${family} from ${from} to ${to}`);
    }
  };
  const isKept = async (t: ExecutionContext, from: Container | 'host', to: Place): Promise<void> => {
    const seen = await Promise.all(
      FAMILIES.map((family) => world.connect(from, to, family, { patient: false })),
    );
    t.deepEqual(seen, [undefined, undefined], `from ${from} to ${to}`);
  };
  /** The whole meaning of the rules, in traffic. */
  const traffic = async (t: ExecutionContext): Promise<void> => {
    await reaches(t, 'a1', 'b1');
    await reaches(t, 'a1', 'remote1');
    await reaches(t, 'remote1', 'a1');
    await reaches(t, 'a1', 'outside', 'host');
    await reaches(t, 'remote1', 'outside', 'host');
    await reaches(t, 'a1', 'gateway1');
    await reaches(t, 'a1', 'host');
    await reaches(t, 'host', 'a1', 'gateway1');
    await reaches(t, 'outside', 'a1');
    await reaches(t, 'a3', 'b3');
    await reaches(t, 'a3', 'remote3');
    await reaches(t, 'a3', 'gateway3');
    await reaches(t, 'host', 'a3', 'gateway3');
    await Promise.all(
      (
        [
          ['a1', 'a2'],
          ['a1', 'gateway2'],
          ['a1', 'a3'],
          ['a1', 'gateway3'],
          ['remote1', 'a2'],
          ['a3', 'a1'],
          ['a3', 'gateway1'],
          ['a3', 'host'],
          ['a3', 'outside'],
          ['remote3', 'outside'],
          ['remote3', 'host'],
          ['outside', 'a3'],
          ['outside', 'remote3'],
        ] as const
      ).map(([from, to]) => isKept(t, from, to)),
    );
    // Neighbour discovery and link-local addresses of the host, from an internal network too.
    for (const from of ['a1', 'a3'] as const)
      t.true(await world.ping(from, 'ff02::1%eth0'), `multicast from ${from}`);
  };

  test.serial(
    'without rules everything reaches everything, so that what follows proves something',
    async (t) => {
      await reaches(t, 'a1', 'a2');
      await reaches(t, 'a3', 'outside');
      await reaches(t, 'a1', 'gateway2');
    },
  );

  test.serial('no networks, no rules', async (t) => {
    const before = await sh('nft list ruleset');
    const report = await firewall.ensure({ networks: [] });
    t.deepEqual(report, NOTHING_DONE);
    t.is(await sh('nft list ruleset'), before);
  });

  test.serial('networks are kept apart, internal ones inside, and what leaves is masqueraded', async (t) => {
    await sh(
      `nft -f - <<'END'\n${FOREIGN}\nEND\niptables-nft -t mangle -A FORWARD -d 203.0.113.1 -j MARK --set-mark 7`,
    );
    const before = await foreignState();
    const report = await firewall.ensure({ networks: NETWORKS });
    t.deepEqual(report.repaired, []);
    t.true(report.applied.length > 0);
    t.deepEqual(report.problems, []);
    await traffic(t);
    if (driver !== 'iptables-nft') t.is(await foreignState(), before);
  });

  test.serial('a second time nothing is written', async (t) => {
    // Looking at iptables-legacy's tables would bring them into use, so this is counted before they are looked at.
    let processes = 0;
    const hook = createHook({
      init: (_, type) => void (processes += type === 'PROCESSWRAP' ? 1 : 0),
    }).enable();
    for (let i = 0; i < 3; i++) {
      t.deepEqual(await firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
    }
    hook.disable();
    if (driver === 'nftables') t.is(processes, 0);
    const before = await state();
    for (let i = 0; i < 3; i++) {
      t.deepEqual(await firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
    }
    t.is(await state(), before);
  });

  test.serial('an agent that starts again finds everything in its place', async (t) => {
    const before = await state();
    const second = await openFirewall(choice);
    t.deepEqual(await second.ensure({ networks: NETWORKS }), NOTHING_DONE);
    second.close();
    t.is(await state(), before);
  });

  for (const [what, command, words] of damages(driver)) {
    test.serial(`put right: ${what}`, async (t) => {
      await firewall.ensure({ networks: NETWORKS });
      const before = await ours();
      await sh(command);
      t.not(await ours(), before, 'the damage did no damage');
      const report = await firewall.ensure({ networks: NETWORKS });
      t.regex(report.repaired.join('\n'), words);
      t.deepEqual(report.applied, []);
      t.is(await ours(), before);
      t.deepEqual(await firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
    });
  }

  /** weft's rules without what changes when they are written again. */
  const ours = async (): Promise<string> => {
    const command =
      driver === 'nftables'
        ? 'nft list table inet weft'
        : ['iptables', 'ip6tables'].map((base) => `${base}-save | grep -e WEFT | sort`).join('; ');
    return (await sh(`(${command}) 2>/dev/null || true`)).replaceAll(/\[\d+:\d+\]/g, '');
  };

  test.serial('a network more or less is a change and no repair', async (t) => {
    await firewall.ensure({ networks: NETWORKS });
    const before = await ours();
    const more = await firewall.ensure({ networks: [...NETWORKS, network(4)] });
    t.deepEqual(more.repaired, []);
    t.regex(more.applied.join('\n'), /10\.4\.0\.0\/16/);
    const less = await firewall.ensure({ networks: NETWORKS });
    t.deepEqual(less.repaired, []);
    t.true(less.applied.length > 0);
    t.is(await ours(), before);
    await traffic(t);
  });

  test.serial('networks that somebody made overlap do not stop the rest', async (t) => {
    const wide = network(9, {}, ['10.0.0.0/12', '10.9.0.0/16', 'fd00:1::/48']);
    await t.notThrowsAsync(firewall.ensure({ networks: [...NETWORKS, wide] }));
    await reaches(t, 'a1', 'b1');
    await firewall.ensure({ networks: NETWORKS });
  });

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
            await isKept(t, 'a1', 'outside');
            const report = await firewall.ensure({ networks: NETWORKS });
            // Docker's rules came before ours, where ours are in the same chain.
            const displaced = docker && choice === 'iptables' && variant === closing;
            t.is(report.repaired.length, displaced ? 2 : 0);
            t.deepEqual(report.problems, []);
            t.true(report.applied.length >= 2);
            await traffic(t);
            t.deepEqual(await firewall.ensure({ networks: NETWORKS }), {
              repaired: [],
              applied: [],
              problems: [],
            });
            const before = await state();
            await firewall.ensure({ networks: NETWORKS });
            t.is(await state(), before);

            // Docker's restart: its rules are in front again, and its chain may be empty.
            const front = docker
              ? ['-F DOCKER-USER', '-A DOCKER-USER -j DROP']
              : ['-I FORWARD 1 -i wf+ -j DROP'];
            await each(front);
            const again = await firewall.ensure({ networks: NETWORKS });
            t.true(again.repaired.length >= (docker && variant === closing && choice === 'iptables' ? 0 : 1));
            if (docker) await reaches(t, 'a1', 'outside', 'host');
          } finally {
            await each([
              '-P FORWARD ACCEPT',
              ...(docker
                ? ['-D FORWARD -j DOCKER-USER', '-D FORWARD -i docker0 -j DROP', '-F DOCKER-USER']
                : []),
              ...(docker ? [] : ['-D FORWARD -i wf+ -j DROP']),
            ]).catch(() => undefined);
          }
          await firewall.ensure({ networks: NETWORKS });
          if (docker) await each(['-X DOCKER-USER']);
          t.notRegex(
            await sh(commandsOf.map((command) => `${command}-save`).join('; ')),
            /WEFT-ACCEPT|-i wf\+/,
          );
          await reaches(t, 'a1', 'outside', 'host');
        },
      );
    }
  }

  test.serial('with br_netfilter, what is bridged passes the rules too, and goes on', async (t) => {
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
    await firewall.ensure({ networks: NETWORKS });
    for (const from of ['a1', 'b1', 'a3', 'b3'] as const) await world.run(from, 'ip neigh flush dev eth0');
    await traffic(t);
    await sh('iptables-nft -P FORWARD ACCEPT; ip6tables-nft -P FORWARD ACCEPT');
    await set(0);
    await firewall.ensure({ networks: NETWORKS });
  });

  test.serial("somebody else's nftables chain that drops is named, with the rule to add", async (t) => {
    await sh(
      `nft 'table inet strict { chain theirs { type filter hook forward priority 5; policy drop; }; }'`,
    );
    const { problems } = await firewall.ensure({ networks: NETWORKS });
    t.is(problems.length, 1);
    t.regex(problems[0]?.what ?? '', /inet strict.*theirs/);
    const { problems: again } = await firewall.ensure({ networks: NETWORKS });
    t.deepEqual(again, problems);
    // What it says helps.
    const [, command = ''] = /(nft '.*')/.exec(problems[0]?.fix ?? '') ?? [];
    await sh(command);
    t.deepEqual((await firewall.ensure({ networks: NETWORKS })).problems, []);
    await reaches(t, 'a1', 'outside', 'host');
    await sh('nft delete table inet strict');
  });

  test.serial('the rules of the other driver are cleared away', async (t) => {
    const other = await openFirewall(choice === 'nftables' ? 'iptables' : 'nftables');
    await other.ensure({ networks: NETWORKS });
    other.close();
    const mine = await openFirewall(choice);
    const { applied } = await mine.ensure({ networks: NETWORKS });
    mine.close();
    t.true(applied.length > 0);
    const rules = await sh('nft list ruleset; iptables-legacy-save');
    if (driver === 'nftables') t.notRegex(rules, /WEFT-/);
    else t.notRegex(rules, /table inet weft/);
    if (driver === 'iptables-legacy') t.notRegex(await sh('nft list ruleset'), /WEFT-/);
    await traffic(t);
  });

  test.serial('from any state to any other, whatever overlaps, and then nothing differs', async (t) => {
    const prefix = fc
      .record({ length: fc.integer({ min: 8, max: 28 }), offset: fc.nat(0xff_ffff), six: fc.boolean() })
      .map(({ length, offset, six }) => {
        const ip = six
          ? IpAddress.parse('fd00::').plus(BigInt(offset) << 96n)
          : IpAddress.parse('10.0.0.0').plus(offset);
        return IpNetwork.of(ip, six ? length + 8 : length).toString();
      });
    const state = fc
      .uniqueArray(fc.integer({ min: 5, max: 12 }), { maxLength: 6 })
      .chain((numbers) =>
        fc.tuple(
          ...numbers.map((number) =>
            fc
              .tuple(fc.array(prefix, { minLength: 1, maxLength: 2 }), fc.boolean(), fc.boolean())
              .map(([prefixes, internal, masquerade]) => network(number, { internal, masquerade }, prefixes)),
          ),
        ),
      );
    await fc.assert(
      fc.asyncProperty(state, async (networks) => {
        t.deepEqual((await firewall.ensure({ networks })).repaired, []);
        t.deepEqual(await firewall.ensure({ networks }), NOTHING_DONE);
      }),
      { numRuns: driver === 'nftables' ? 60 : 15 },
    );
    await firewall.ensure({ networks: NETWORKS });
    await reaches(t, 'a1', 'b1');
  });

  test.serial('five hundred networks', async (t) => {
    const many = Array.from({ length: 500 }, (_, i) =>
      network(i, {}, [`10.${i >> 4}.${(i & 15) << 4}.0/20`, `fd01:${i}::/48`]),
    );
    const timed = async (networks: typeof many): Promise<number> => {
      const start = performance.now();
      await firewall.ensure({ networks });
      return performance.now() - start;
    };
    const all = await timed(many);
    const idle = [await timed(many), await timed(many)];
    const less = await timed(many.slice(1));
    const more = await timed(many);
    t.log(
      `${driver}: 500 networks ${all.toFixed(0)} ms; compared ${idle.map((ms) => ms.toFixed(1)).join(' and ')} ms; ` +
        `one less ${less.toFixed(1)} ms; one more ${more.toFixed(1)} ms`,
    );
    t.deepEqual(await firewall.ensure({ networks: many }), NOTHING_DONE);
    await firewall.ensure({ networks: NETWORKS });
    await reaches(t, 'a1', 'b1');
  });

  test.serial('removing leaves nothing of ours and everything of others', async (t) => {
    await firewall.remove();
    await firewall.remove();
    const rules = await sh(
      'nft list ruleset; iptables-legacy-save; ip6tables-legacy-save; iptables-nft-save; ip6tables-nft-save',
    );
    t.notRegex(rules, /weft|wf/i);
    t.regex(rules, /203\.0\.113\.9/);
    t.regex(rules, /203\.0\.113\.1\b/);
    await reaches(t, 'a1', 'a2');
  });
}

/** What goes wrong by hand: what it is, the command, and what the report must say. */
function damages(driver: Driver): [string, string, RegExp][] {
  if (driver === 'nftables') {
    const first = `$(nft -a list chain inet weft forward | sed -n 's/.*# handle //p' | sed -n 2p)`;
    return [
      [
        'the whole ruleset is flushed',
        "nft flush ruleset; nft -f /dev/stdin <<< '" +
          FOREIGN +
          "'; iptables-nft -t mangle -A FORWARD -d 203.0.113.1 -j MARK --set-mark 7",
        /table inet weft was missing/,
      ],
      ['the table is deleted', 'nft delete table inet weft', /table inet weft was missing/],
      [
        'a rule is deleted',
        `nft delete rule inet weft forward handle ${first}`,
        /chain forward: rule "networks do not reach/,
      ],
      ['a chain is flushed', 'nft flush chain inet weft postrouting', /chain postrouting: rule/],
      [
        'a rule is added',
        'nft insert rule inet weft forward accept',
        /chain forward: rules that weft did not put there/,
      ],
      [
        'a policy is changed',
        "nft 'chain inet weft forward { policy drop; }'",
        /chain forward: hook or policy/,
      ],
      [
        'a rule is changed and keeps its comment',
        `c=$(nft list chain inet weft forward | sed -n 's/.*comment //p' | head -1); nft "replace rule inet weft forward handle ${first} accept comment $c"`,
        /was changed/,
      ],
      [
        'elements are deleted',
        'nft delete element inet weft masq4 { 10.1.0.0/16 }',
        /set masq4: 10\.1\.0\.0\/16 missing/,
      ],
      [
        'elements are added',
        'nft add element inet weft own4 { "wfbr1" . 10.2.0.0/16 }',
        /set own4: wfbr1 \. 10\.2\.0\.0\/16 not wanted/,
      ],
      [
        'a range is added',
        'nft add element inet weft masq4 { 203.0.113.5-203.0.113.77 }',
        /set masq4: 203.* not wanted/,
      ],
      ['a set is added', "nft add set inet weft more '{ type ipv4_addr; }'", /set more is not wanted/],
      ['the table sleeps', "nft 'table inet weft { flags dormant; }'", /flags/],
    ];
  }
  return [
    [
      'the tables are flushed',
      'for i in iptables ip6tables; do for t in filter nat; do $i -t $t -F; $i -t $t -X; done; done',
      /was missing/,
    ],
    ['a chain is flushed', 'iptables -F WEFT-ISOLATION', /chain WEFT-ISOLATION of table filter/],
    ['a jump is deleted', 'ip6tables -D FORWARD -j WEFT-FORWARD', /ip6tables.*jump to WEFT-FORWARD missing/],
    [
      'a rule is put before',
      'iptables -I FORWARD 1 -j RETURN; trap "iptables -D FORWARD -j RETURN" EXIT; iptables -D FORWARD -j WEFT-FORWARD; iptables -A FORWARD -j WEFT-FORWARD; iptables -A FORWARD -j WEFT-FORWARD',
      /jump to WEFT-FORWARD not in its place/,
    ],
    ['a rule is deleted', 'iptables -t nat -D WEFT-MASQUERADE 1', /chain WEFT-MASQUERADE of table nat/],
    ['a rule is added', 'iptables -I WEFT-FORWARD 1 -j ACCEPT', /not wanted/],
    [
      'a rule is changed and keeps its comment',
      `r=$(iptables-save -t filter | grep -m1 -e '-A WEFT-OVERLAYS' | sed 's/-A WEFT-OVERLAYS/-R WEFT-OVERLAYS 1/; s/DROP/ACCEPT/'); eval iptables $r`,
      /was changed/,
    ],
    ['a chain of our prefix is added', 'iptables -N WEFT-OLD; iptables -A INPUT -j WEFT-OLD', /WEFT-OLD/],
  ];
}
