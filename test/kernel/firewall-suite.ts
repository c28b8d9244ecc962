// The contract of every firewall driver, in a world with real traffic.
//
// The same tests run for nftables, iptables-nft and iptables-legacy, each in a process (and so a namespace) of its own.
import { createHook } from 'node:async_hooks';

import test from 'ava';
import fc from 'fast-check';

import { openFirewall } from '../../agent/kernel/firewall/index.js';
import { IpAddress, IpNetwork } from '../../core/address.js';
import type { FirewallNetwork } from '../../core/firewall.js';
import { RESOLVER_IP } from '../../core/link-names.js';
import { closedSuite } from './firewall-closed.js';
import { damages, UNOWNED } from './firewall-damages.js';
import { forwardSuite } from './firewall-forward.js';
import { portSuite } from './firewall-ports.js';
import { NOTHING_DONE, Subject, type Driver } from './firewall-subject.js';
import { NETWORKS, network, sh } from './firewall-world.js';

/** Every unowned rule, as printed. */
const unownedRules = async (): Promise<string> =>
  (await sh('nft list table inet others; iptables-nft-save; ip6tables-nft-save'))
    .split('\n')
    .filter((line) => !/^[#*:]|^COMMIT|WEFT/.test(line))
    .join('\n');

export function firewallSuite(driver: Driver): void {
  const subject = new Subject(driver);
  test.before(() => subject.open());
  test.after.always(() => subject.close());

  test.serial(
    'without rules everything reaches everything, so that the other tests are meaningful',
    async (t) => {
      await subject.reaches(t, 'a1', 'a2');
      await subject.reaches(t, 'a3', 'outside');
      await subject.reaches(t, 'a1', 'gateway2');
    },
  );

  test.serial('no networks, no rules', async (t) => {
    const before = await sh('nft list ruleset');
    const report = await subject.firewall.ensure({ networks: [] });
    t.deepEqual(report, NOTHING_DONE);
    t.is(await sh('nft list ruleset'), before);
  });

  test.serial(
    'networks are isolated, internal ones have no way out, and outgoing traffic is masqueraded',
    async (t) => {
      await sh(
        `nft -f - <<'END'\n${UNOWNED}\nEND\niptables-nft -t mangle -A FORWARD -d 203.0.113.1 -j MARK --set-mark 7\niptables-nft -A FORWARD -d 203.0.113.2 -j DROP`,
      );
      const before = await unownedRules();
      const report = await subject.firewall.ensure({ networks: NETWORKS });
      t.deepEqual(report.repaired, []);
      t.true(report.applied.length > 0);
      t.deepEqual(report.problems, []);
      await subject.traffic(t);
      t.is(await unownedRules(), before);
    },
  );

  test.serial('the address for names is reached from every network, an internal one too', async (t) => {
    await subject.firewall.ensure({ networks: NETWORKS });
    for (const [from, bridge] of [
      ['a1', 'wfbr1'],
      ['a3', 'wfbr3'],
    ] as const) {
      await sh(`ip address add ${RESOLVER_IP}/32 dev ${bridge}`);
      await subject.world.run(from, `ip route add ${RESOLVER_IP} dev eth0`);
      t.true(await subject.world.ping(from, RESOLVER_IP), from);
      await sh(`ip address del ${RESOLVER_IP}/32 dev ${bridge}`);
    }
  });

  test.serial('a second ensure writes nothing', async (t) => {
    // Listing iptables-legacy's tables would create them, so this is counted before.
    let processes = 0;
    const hook = createHook({
      init: (_, type) => void (processes += type === 'PROCESSWRAP' ? 1 : 0),
    }).enable();
    for (let i = 0; i < 3; i++) {
      t.deepEqual(await subject.firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
    }
    hook.disable();
    if (driver === 'nftables') t.is(processes, 0);
    const before = await subject.state();
    for (let i = 0; i < 3; i++) {
      t.deepEqual(await subject.firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
    }
    t.is(await subject.state(), before);
  });

  test.serial('an agent that restarts finds no drift', async (t) => {
    const before = await subject.state();
    const second = await openFirewall(subject.choice);
    t.deepEqual(await second.ensure({ networks: NETWORKS }), NOTHING_DONE);
    second.close();
    t.is(await subject.state(), before);
  });

  for (const [what, command, words] of damages(driver)) {
    test.serial(`repaired: ${what}`, async (t) => {
      await subject.firewall.ensure({ networks: NETWORKS });
      const before = await subject.ours();
      await sh(command);
      t.not(await subject.ours(), before, 'the command changed nothing');
      const report = await subject.firewall.ensure({ networks: NETWORKS });
      t.regex(report.repaired.join('\n'), words);
      t.deepEqual(report.applied, []);
      t.is(await subject.ours(), before);
      t.deepEqual(await subject.firewall.ensure({ networks: NETWORKS }), NOTHING_DONE);
    });
  }

  test.serial('what another program changes right after a write is found', async (t) => {
    const [[, command, words] = []] = damages(driver);
    const wanted = { networks: [...NETWORKS, network(4)] };
    t.not((await subject.firewall.ensure(wanted)).applied.length, 0);
    await sh(command ?? '');
    t.regex((await subject.firewall.ensure(wanted)).repaired.join('\n'), words ?? /^$/);
    t.deepEqual(await subject.firewall.ensure(wanted), NOTHING_DONE);
    await subject.firewall.ensure({ networks: NETWORKS });
  });

  test.serial('an added or removed network is a change and no repair', async (t) => {
    await subject.firewall.ensure({ networks: NETWORKS });
    const before = await subject.ours();
    const more = await subject.firewall.ensure({ networks: [...NETWORKS, network(4)] });
    t.deepEqual(more.repaired, []);
    t.regex(more.applied.join('\n'), /10\.4\.0\.0\/16/);
    const less = await subject.firewall.ensure({ networks: NETWORKS });
    t.deepEqual(less.repaired, []);
    t.true(less.applied.length > 0);
    t.is(await subject.ours(), before);
    await subject.traffic(t);
  });

  test.serial('an encrypted network is left by its tunnel alone, whatever the routes say', async (t) => {
    // The outside stands for a node that the route of a subnet leads to in clear.
    const prefixes = ['10.1.0.0/16', '192.0.2.1/32', 'fd00:1::/48', '2001:db8::1/128'];
    const [, ...others] = NETWORKS;
    await subject.firewall.ensure({ networks: [network(1, {}, prefixes), ...others] });
    await subject.reaches(t, 'a1', 'outside');
    await subject.reaches(t, 'host', 'outside');
    await subject.firewall.ensure({ networks: [network(1, { sealed: true }, prefixes), ...others] });
    await subject.isKept(t, 'a1', 'outside');
    await subject.isKept(t, 'host', 'outside');
    await subject.reaches(t, 'a1', 'remote1');
    await subject.reaches(t, 'a1', 'gateway1');
    await subject.firewall.ensure({ networks: NETWORKS });
  });

  if (driver === 'nftables')
    test.serial(
      'packets inside one network are judged by one rule, and without encryption pass no seal',
      async (t) => {
        await subject.firewall.ensure({ networks: NETWORKS });
        t.notRegex(await sh('nft list table inet weft'), /chain leaving/);
        await sh('nft add rule inet weft forward counter comment last');
        const passed = async (): Promise<number> =>
          Number(/counter packets (\d+) .*"last"/.exec(await sh('nft list chain inet weft forward'))?.[1]);
        await subject.reaches(t, 'a1', 'remote1');
        await subject.reaches(t, 'a3', 'remote3');
        t.is(await passed(), 0);
        await subject.reaches(t, 'a1', 'outside', 'host');
        t.true((await passed()) > 0);
        await subject.firewall.ensure({ networks: NETWORKS });
      },
    );

  test.serial('a difference is reported without a write', async (t) => {
    // A process that has written nothing so far, as `weft agent --dry-run` is one.
    const second = await openFirewall(subject.choice);
    t.teardown(() => second.close());
    const tell = async (networks: readonly FirewallNetwork[]): Promise<string[]> => {
      const before = await subject.state();
      const [first, other] = [subject.firewall, second].map((driver) =>
        driver.difference({ networks: [...networks] }),
      );
      const words = await first;
      t.deepEqual(await other, words);
      t.is(await subject.state(), before);
      return words ?? [];
    };
    t.deepEqual(await tell(NETWORKS), []);
    const fewer = NETWORKS.slice(1);
    t.true((await tell(fewer)).length > 0);
    t.true((await tell([])).some((word) => word.endsWith('is not wanted')));
    await subject.firewall.ensure({ networks: fewer });
    const added = await tell(NETWORKS);
    t.deepEqual(
      (await subject.firewall.ensure({ networks: NETWORKS })).applied.toSorted(),
      added.toSorted(),
      'it is what is done then',
    );
    t.deepEqual(await tell(NETWORKS), []);
  });

  test.serial('networks that overlap by hand do not stop the rest', async (t) => {
    const wide = network(9, {}, ['10.0.0.0/12', '10.9.0.0/16', 'fd00:1::/48']);
    await t.notThrowsAsync(subject.firewall.ensure({ networks: [...NETWORKS, wide] }));
    await subject.reaches(t, 'a1', 'b1');
    await subject.firewall.ensure({ networks: NETWORKS });
  });

  closedSuite(subject);
  forwardSuite(subject);
  portSuite(subject);

  test.serial('the rules of the other driver are deleted', async (t) => {
    const other = await openFirewall(subject.choice === 'nftables' ? 'iptables' : 'nftables');
    await other.ensure({ networks: NETWORKS });
    other.close();
    const mine = await openFirewall(subject.choice);
    const { applied } = await mine.ensure({ networks: NETWORKS });
    mine.close();
    t.true(applied.length > 0);
    const rules = await sh('nft list ruleset; iptables-legacy-save');
    if (driver === 'nftables') t.notRegex(rules, /WEFT-/);
    else t.notRegex(rules, /table inet weft/);
    if (driver === 'iptables-legacy') t.notRegex(await sh('nft list ruleset'), /WEFT-/);
    await subject.traffic(t);
  });

  test.serial(
    'ensure converges from any state to any other, with overlaps, and then nothing differs',
    async (t) => {
      const prefix = fc
        .record({ length: fc.integer({ min: 8, max: 28 }), offset: fc.nat(0xff_ffff), six: fc.boolean() })
        .map(({ length, offset, six }) => {
          const ip = six
            ? IpAddress.parse('fd00::').plus(BigInt(offset) << 96n)
            : IpAddress.parse('10.0.0.0').plus(offset);
          return IpNetwork.of(ip, six ? length + 8 : length).toString();
        });
      const states = fc
        .uniqueArray(fc.integer({ min: 5, max: 12 }), { maxLength: 6 })
        .chain((numbers) =>
          fc.tuple(
            ...numbers.map((number) =>
              fc
                .tuple(fc.array(prefix, { minLength: 1, maxLength: 2 }), fc.boolean(), fc.boolean())
                .map(([prefixes, internal, masquerade]) =>
                  network(number, { internal, masquerade }, prefixes),
                ),
            ),
          ),
        );
      await fc.assert(
        fc.asyncProperty(states, async (networks) => {
          t.deepEqual((await subject.firewall.ensure({ networks })).repaired, []);
          t.deepEqual(await subject.firewall.ensure({ networks }), NOTHING_DONE);
        }),
        { numRuns: driver === 'nftables' ? 60 : 15 },
      );
      await subject.firewall.ensure({ networks: NETWORKS });
      await subject.reaches(t, 'a1', 'b1');
    },
  );

  test.serial('five hundred networks', async (t) => {
    const many = Array.from({ length: 500 }, (_, i) =>
      network(i, {}, [`10.${i >> 4}.${(i & 15) << 4}.0/20`, `fd01:${i}::/48`]),
    );
    const timed = async (networks: typeof many): Promise<number> => {
      const start = performance.now();
      await subject.firewall.ensure({ networks });
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
    t.deepEqual(await subject.firewall.ensure({ networks: many }), NOTHING_DONE);
    await subject.firewall.ensure({ networks: NETWORKS });
    await subject.reaches(t, 'a1', 'b1');
  });

  test.serial('removing deletes all of weft’s rules and no unowned one', async (t) => {
    await subject.firewall.remove();
    await subject.firewall.remove();
    const rules = await sh(
      'nft list ruleset; iptables-legacy-save; ip6tables-legacy-save; iptables-nft-save; ip6tables-nft-save',
    );
    t.notRegex(rules, /weft|wf/i);
    t.regex(rules, /203\.0\.113\.9/);
    t.regex(rules, /203\.0\.113\.1\b/);
    await subject.reaches(t, 'a1', 'a2');
  });
}
