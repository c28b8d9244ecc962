// A firewall driver under test, on a host with real traffic.
//
// With the assertions that the tests share for all drivers.
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { RulesetProbe } from '../../agent/kernel/firewall/ruleset-probe.js';
import { openFirewall, type NodeFirewallDriver } from '../../agent/kernel/firewall/index.js';
import { ADDRESSES, openWorld, sh, type Container, type Place, type World } from './firewall-world.js';

export type Driver = 'nftables' | 'iptables-nft' | 'iptables-legacy';

/** The report of a comparison without differences. */
export const NOTHING_DONE = { repaired: [], applied: [], problems: [] };

const FAMILIES = [4, 6] as const;

const KEPT_APART: readonly (readonly [Container, Place])[] = [
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
];

export class Subject {
  readonly choice: 'nftables' | 'iptables';
  /** The iptables variant of the plain commands. */
  readonly variant: 'nft' | 'legacy';
  readonly #probe = new RulesetProbe();
  #commands: string | undefined;
  #locks: string | undefined;
  #world: World | undefined;
  #firewall: NodeFirewallDriver | undefined;

  constructor(readonly driver: Driver) {
    this.choice = driver === 'nftables' ? 'nftables' : 'iptables';
    this.variant = driver === 'iptables-legacy' ? 'legacy' : 'nft';
  }

  async open(): Promise<void> {
    // The lock of iptables is a file of the whole machine, and another test process may hold it (iptables(8)).
    this.#locks = mkdtempSync(join(tmpdir(), 'weft-xtables-'));
    process.env['XTABLES_LOCKFILE'] = join(this.#locks, 'lock');
    if (this.choice === 'iptables') {
      // The plain names decide which variant is the host's own.
      this.#commands = mkdtempSync(join(tmpdir(), 'weft-iptables-'));
      for (const base of ['iptables', 'ip6tables']) {
        for (const tail of ['', '-save', '-restore']) {
          symlinkSync(`/usr/sbin/${base}-${this.variant}${tail}`, join(this.#commands, `${base}${tail}`));
        }
      }
      process.env['PATH'] = `${this.#commands}:${process.env['PATH']}`;
    }
    this.#world = await openWorld();
    this.#firewall = await openFirewall(this.choice);
  }

  async close(): Promise<void> {
    this.#firewall?.close();
    this.#probe.close();
    await this.#world?.end();
    for (const folder of [this.#commands, this.#locks])
      if (folder !== undefined) rmSync(folder, { recursive: true });
  }

  get world(): World {
    if (this.#world === undefined) throw new Error('the world is not open');
    return this.#world;
  }

  get firewall(): NodeFirewallDriver {
    if (this.#firewall === undefined) throw new Error('the firewall is not open');
    return this.#firewall;
  }

  /** The kernel's whole tables and how often they were written, to assert that nothing was written. */
  async state(): Promise<string> {
    const rules = await sh(
      'nft -s list ruleset; for i in iptables ip6tables; do $i-legacy-save -t filter | grep -v "^[#:]" || true; done',
    );
    return `${this.#probe.generation()} ${rules}`;
  }

  /** weft's rules, without what changes when they are rewritten. */
  async ours(): Promise<string> {
    const command =
      this.driver === 'nftables'
        ? 'nft list table inet weft'
        : 'for i in iptables ip6tables; do $i-save | grep -e WEFT | sort; done';
    return (await sh(`(${command}) 2>/dev/null || true`)).replaceAll(/\[\d+:\d+\]/g, '');
  }

  /** Asserts that both families connect, and that the other side sees this address. */
  async reaches(t: ExecutionContext, from: Container | 'host', to: Place, seenAs?: Place): Promise<void> {
    const expected = ADDRESSES[seenAs ?? from];
    const seen = await Promise.all(FAMILIES.map((family) => this.world.connect(from, to, family)));
    t.deepEqual(seen, [...expected], `from ${from} to ${to}`);
  }

  async isKept(t: ExecutionContext, from: Container | 'host', to: Place): Promise<void> {
    const seen = await Promise.all(
      FAMILIES.map((family) => this.world.connect(from, to, family, { patient: false })),
    );
    t.deepEqual(seen, [undefined, undefined], `from ${from} to ${to}`);
  }

  /** Asserts the whole meaning of the rules. */
  async traffic(t: ExecutionContext): Promise<void> {
    await this.reaches(t, 'a1', 'b1');
    await this.reaches(t, 'a1', 'remote1');
    await this.reaches(t, 'remote1', 'a1');
    await this.reaches(t, 'a1', 'outside', 'host');
    await this.reaches(t, 'remote1', 'outside', 'host');
    await this.reaches(t, 'a1', 'gateway1');
    await this.reaches(t, 'a1', 'host');
    await this.reaches(t, 'host', 'a1', 'gateway1');
    await this.reaches(t, 'outside', 'a1');
    await this.reaches(t, 'a3', 'b3');
    await this.reaches(t, 'a3', 'remote3');
    await this.reaches(t, 'a3', 'gateway3');
    await this.reaches(t, 'host', 'a3', 'gateway3');
    await Promise.all(KEPT_APART.map(([from, to]) => this.isKept(t, from, to)));
    // Neighbour discovery and the host's link-local addresses, also from an internal network.
    for (const from of ['a1', 'a3'] as const) t.true(await this.world.ping(from, 'ff02::1%eth0'), from);
  }
}
