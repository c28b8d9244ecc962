// The policies that this node keeps: their items for the firewall, from the records and the node's own containers.
//
// Local containers count as soon as they are bound, before their links exist; others as etcd has them. Until etcd has been read,
// the policies of the last run are in force, and what they made in the kernel stays.
import type { IpAddress } from '../../core/address.js';
import { ownGateways, type Membership } from '../../core/compile.js';
import { areSame } from '../../core/differences.js';
import { driverOf } from '../../core/drivers/index.js';
import { messageOf } from '../../core/errors.js';
import {
  closingOf,
  digestOf,
  nodeSubjects,
  publishedBy,
  PolicyClasses,
  PolicyState,
  subjectOf,
  type Policy,
  type PolicyChange,
  type PolicyEntry,
  type PolicyRules,
  type Subject,
} from '../../core/policy/index.js';
import type { Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Change, Store } from '../../store/store.js';
import type { Kernel } from '../kernel/index.js';
import { FIREWALL, type Problem, type Problems } from '../health/index.js';

type FirewallDriver = Kernel['firewall'];

export interface PoliciesOptions {
  store: Pick<Store, 'view' | 'isSynced'>;
  memberships: { list(): Membership[]; get(network: string): Membership | undefined };
  reconciler: { changePolicy(): Promise<void> };
  firewall: Pick<FirewallDriver, 'noBridge' | 'denials'>;
  state: { savePolicies(policies: readonly Policy[]): void };
  problems: Problems;
  log: Logger;
  node: string;
  /** What the node reports has changed. */
  changed?: () => void;
}

/** Dropped packets. */
export interface Denial {
  /** The container's; absent: a host is the target. */
  endpoint?: string;
  network?: string;
  /** Absent: the isolation of the network. */
  policy?: string;
  packets: number;
}

/** What a node says of its policies. */
export interface PolicyReport {
  /** Of the policies that are in force. */
  digest: string;
  /** Of its networks, those that are isolated. */
  isolated: readonly string[];
  /** What is not enforced, and why. */
  gaps: readonly Problem[];
}

const LOOPBACK = ['127.0.0.1', '::1'];

/** A container of this node. */
function localEntry(endpoint: Endpoint, membership: Membership | undefined): PolicyEntry {
  const subject = subjectOf(endpoint);
  if (subject.host === true) return { subject };
  const gateway = membership && driverOf(membership.network).hostLink(membership)?.mac;
  return {
    subject,
    local: gateway === undefined ? {} : { port: { link: endpoint.hostIfname, gateway } },
  };
}

export class Policies {
  #policies: readonly Policy[] = [];
  #digest = digestOf([]);
  #state = new PolicyState(new PolicyClasses([], new Set()));
  /** By id: those that are being attached are in no list yet. */
  readonly #local = new Map<string, Endpoint>();
  #nodes: ReadonlyMap<string, Subject> = new Map();
  /** What the state was made for. */
  #madeFor = '';
  /** Keys of items that the firewall does not know yet. */
  readonly #news = new Set<string>();
  /** What is no item may have changed, too. */
  #isAnew = false;
  #report: PolicyReport = { digest: this.#digest, isolated: [], gaps: [] };

  constructor(private readonly options: PoliciesOptions) {}

  get report(): PolicyReport {
    return this.#report;
  }

  /** The policies of the last run. */
  restore(policies: readonly Policy[]): void {
    this.#keep(policies);
    this.#rebuild();
  }

  /** What the firewall does not know yet. */
  take(): { rules: PolicyRules | undefined; changes: PolicyChange[] } {
    const changes = [...this.#news].map((key): PolicyChange => [key, this.#state.items.get(key)]);
    this.#news.clear();
    this.#isAnew = false;
    return { rules: this.#isUsed ? this.#state.rules : undefined, changes };
  }

  /** For the firewall. */
  get hasNews(): boolean {
    return this.#isAnew || this.#news.size > 0;
  }

  /** A container of this node comes or changes; the firewall takes it with the next change. */
  bind(endpoint: Endpoint): void {
    this.#local.set(endpoint.id, endpoint);
    this.#setLocal(endpoint);
  }

  release({ id }: Endpoint): void {
    this.#local.delete(id);
    this.#set(`endpoint ${id}`, undefined);
  }

  /** Changes of the store, after the memberships have handled them. */
  async handle(changes: readonly Change[]): Promise<void> {
    if (changes.some(({ kind }) => kind === 'policy' || kind === 'network')) await this.refresh();
    if (!this.#isUsed) return;
    if (changes.some(({ kind }) => kind === 'lease' || kind === 'node')) this.#setNodes();
    for (const change of changes) {
      if (change.kind !== 'endpoint') continue;
      if (this.options.memberships.get(change.network) !== undefined)
        this.#setRemote(change.id, change.after);
      this.#setPublished(change.id, change.after);
    }
    if (this.hasNews) await this.#apply();
  }

  /** The records, or the networks of this node, may be others. */
  async refresh(): Promise<void> {
    const { store, state, log } = this.options;
    if (store.isSynced) {
      const now = [...store.view.policies.values()];
      if (this.#keep(now)) {
        try {
          state.savePolicies(now);
        } catch (error) {
          log.warn('the policies could not be saved for the next start', { error: messageOf(error) });
        }
      }
    }
    this.#rebuild();
    if (!this.hasNews) return this.#tell();
    await this.#apply();
  }

  /** Packets that no policy allowed to containers of this node, and what closes each of them. @throws WeftError */
  denials(): Denial[] {
    if (!this.#isUsed) return [];
    const { policies, isolated } = this.#state.classes;
    const targets = new Map<string, { subject: Subject; ip: IpAddress; endpoint?: Endpoint }>();
    for (const subject of this.#nodes.values())
      for (const ip of subject.ips) targets.set(ip.toString(), { subject, ip });
    for (const endpoint of this.#local.values()) {
      const subject = subjectOf(endpoint);
      for (const ip of subject.ips) targets.set(ip.toString(), { subject, ip, endpoint });
    }
    const here = this.#nodes.get(`node ${this.options.node}`);
    return this.options.firewall.denials().flatMap(({ ip: text, packets }): Denial[] => {
      const { subject = here, ip, endpoint } = targets.get(text) ?? {};
      const by = subject && closingOf({ policies, isolated }, subject, ip)?.by;
      const isOfHost = endpoint === undefined || subject?.host === true;
      // A container that is gone.
      if (isOfHost && by === undefined) return [];
      return [
        {
          ...(!isOfHost && { endpoint: endpoint.id, network: endpoint.network }),
          ...(by !== undefined && { policy: by }),
          packets,
        },
      ];
    });
  }

  /** @returns whether they say something else than those before */
  #keep(policies: readonly Policy[]): boolean {
    // Most calls are about networks.
    if (areSame(policies, this.#policies)) return false;
    const before = this.#digest;
    this.#policies = policies;
    this.#digest = digestOf(policies);
    return this.#digest !== before;
  }

  get #isUsed(): boolean {
    return this.#state.classes.isUsed;
  }

  #isolated(): string[] {
    return this.options.memberships
      .list()
      .filter(({ network }) => network.isolated === true)
      .map(({ network }) => network.name)
      .toSorted();
  }

  /** Everything anew, where policies or networks are others than before. */
  #rebuild(): void {
    const isolated = this.#isolated();
    const networks = this.options.memberships.list().map(({ network }) => network.name);
    const madeFor = JSON.stringify([this.#digest, isolated, networks]);
    if (madeFor === this.#madeFor) return this.#setNodes();
    const before = this.#state;
    this.#madeFor = madeFor;
    const classes = new PolicyClasses(
      this.#policies.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      new Set(isolated),
    );
    this.#state = new PolicyState(classes);
    this.#isAnew ||= before.classes.isUsed || classes.isUsed;
    for (const key of before.items.keys()) this.#news.add(key);
    this.#nodes = new Map();
    this.#setNodes();
    for (const endpoint of this.#local.values()) this.#setLocal(endpoint);
    for (const { network } of this.options.memberships.list())
      for (const endpoint of this.options.store.view.endpoints.get(network.name)?.values() ?? [])
        this.#setRemote(endpoint.id, endpoint);
  }

  #setLocal(endpoint: Endpoint): void {
    this.#set(
      `endpoint ${endpoint.id}`,
      localEntry(endpoint, this.options.memberships.get(endpoint.network)),
    );
  }

  /** The records of this node's own containers are behind them. */
  #setRemote(id: string, endpoint: Endpoint | undefined): void {
    if (this.#local.has(id) || endpoint?.node === this.options.node) return;
    this.#set(`endpoint ${id}`, endpoint && { subject: subjectOf(endpoint) });
  }

  /** At the addresses of nodes; of the networks whose containers the view has. */
  #setPublished(id: string, endpoint: Endpoint | undefined): void {
    if (!this.#state.classes.closesHosts) return;
    const { nodes, leases } = this.options.store.view;
    const ofNetwork = endpoint && leases.get(endpoint.network)?.values();
    const published = endpoint === undefined ? [] : publishedBy(endpoint, nodes, ofNetwork ?? []);
    this.#set(`published ${id}`, published.length === 0 ? undefined : { published });
  }

  #setNodes(): void {
    if (!this.#isUsed) return;
    const { store, memberships, node } = this.options;
    const mine = memberships.list();
    const ips = [...LOOPBACK, ...mine.flatMap((one) => ownGateways(one).map(String))];
    const now = nodeSubjects({
      nodes: store.view.nodes.values(),
      leases: mine.flatMap(({ network, lease }) => [
        lease,
        ...(store.view.leases.get(network.name)?.values() ?? []),
      ]),
      own: { node, ips },
    });
    const bridges = mine.flatMap((one) =>
      one.subnetOnly === true ? [] : (driverOf(one.network).hostLink(one)?.name ?? []),
    );
    for (const key of this.#nodes.keys()) if (!now.has(key)) this.#set(key, undefined);
    for (const [key, subject] of now) this.#set(key, { subject, ...(key === `node ${node}` && { bridges }) });
    this.#nodes = now;
    if (!this.#state.classes.closesHosts) return;
    for (const endpoints of store.view.endpoints.values())
      for (const endpoint of endpoints.values()) this.#setPublished(endpoint.id, endpoint);
  }

  #set(key: string, entry: PolicyEntry | undefined): void {
    if (!this.#isUsed) return;
    for (const [name] of this.#state.set(key, entry)) this.#news.add(name);
  }

  async #apply(): Promise<void> {
    try {
      await this.options.reconciler.changePolicy();
      this.#tell();
    } catch (error) {
      // The next comparison of the firewall writes it.
      this.options.log.warn('policies could not be written', { error: messageOf(error) });
    }
  }

  #tell(): void {
    const gaps = this.#gaps();
    const report = { digest: this.#digest, isolated: this.#isolated(), gaps };
    this.options.problems.replace(FIREWALL, 'policy', new Map(gaps.map((gap) => [gap.what, gap])));
    const isNews = JSON.stringify(report) !== JSON.stringify(this.#report);
    this.#report = report;
    if (isNews) this.options.changed?.();
  }

  /** What is closed by the records, and not by this node. */
  #gaps(): Problem[] {
    if (!this.#isUsed) return [];
    const { firewall, memberships } = this.options;
    if (firewall.noBridge !== undefined)
      return [
        {
          what: 'policies',
          why: `this node does not enforce them: ${firewall.noBridge}`,
          fix: 'Use nftables, and a kernel with nf_tables for bridges (NF_TABLES_BRIDGE).',
        },
      ];
    const { classes } = this.#state;
    return memberships.list().flatMap((membership): Problem[] => {
      const { name } = membership.network;
      // There the containers have ports that lead to the node.
      if (driverOf(membership.network).hostLink(membership) !== undefined) return [];
      const ofNetwork = [...this.#local.values()].filter(({ network }) => network === name);
      const toHosts: Problem[] =
        classes.closesHosts && ofNetwork.length > 0
          ? [
              {
                what: `policies of hosts, for network ${name}`,
                why: `this node does not enforce them for what ${ofNetwork.map((one) => one.name).join(', ')} send to hosts: it only bridges their frames`,
                fix: 'Attach the containers to an overlay network.',
              },
            ]
          : [];
      const unguarded = ofNetwork.filter((endpoint) => {
        const subject = subjectOf(endpoint);
        return subject.ips.some((ip) => classes.targetOf(subject, ip) !== undefined);
      });
      if (unguarded.length === 0) return toHosts;
      return [
        ...toHosts,
        {
          what: `policies for network ${name}`,
          why: `this node does not enforce them between ${unguarded.map((one) => one.name).join(', ')} and others of the bridge or the LAN: the node only bridges them`,
          fix: 'Attach the containers to an overlay network.',
        },
      ];
    });
  }
}
