// Which rule of nftables drops the packets of a trace in one network namespace, as the kernel itself tells (nftrace).
//
// Rules that mark the packets are in a table that belongs to a netlink socket of this process: the kernel deletes it with the
// socket, whatever ends the process. iptables-nft's tables are nftables', too.
import { Nftables } from '../firewall/libnftables.js';
import { decodeAttrs, decodeMessages, readText, type Attrs } from '../netlink-message.js';
import { Subscription } from '../subscription.js';
import { answerTags, IP_HEADER, protocolNumber, TAG_AT, type TraceFilter } from './probe.js';

const TABLE_PREFIX = 'weft-trace-';
/** Before every other chain of a hook (raw has -300). */
const PRIORITY = -500;
/** Bytes from a UDP header to the IP header of what VXLAN carries: UDP, VXLAN, Ethernet (RFC 7348 §5). */
const VXLAN_BYTES = 8 + 8 + 14;
const UDP_BYTES = 8;

/** A rule, or the policy of a chain, that dropped a packet of the trace. */
export interface RuleDrop {
  /** With its family: `inet filter`. */
  table: string;
  chain: string;
  /** As its program shows it; undefined: the policy of the chain. */
  rule?: string;
}

export class RuleTrace {
  readonly #nft: Nftables;
  readonly #events: TraceEvent[] = [];
  readonly #subscription: Subscription;
  readonly #table: string;

  /**
   * Opens it in the namespace of the caller.
   * @param bridges whether the namespace has bridges whose rules count
   * @throws WeftError, SystemError where the library is not there, or the kernel cannot trace
   */
  constructor(filter: TraceFilter, bridges: boolean) {
    this.#table = `${TABLE_PREFIX}${filter.tag.toString(16)}`;
    this.#nft = new Nftables();
    try {
      this.#subscription = new Subscription({
        ...{ protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTRACE] },
        receive: (bytes) => void this.#events.push(...decodeEvents(bytes, filter)),
        lost: () => undefined,
      });
    } catch (error) {
      this.#nft.close();
      throw error;
    }
    try {
      this.#nft.run(tableText('inet', this.#table, filter, ['prerouting', 'output']));
    } catch (error) {
      this.close();
      throw error;
    }
    if (!bridges) return;
    try {
      this.#nft.run(tableText('bridge', this.#table, filter, ['prerouting']));
    } catch {
      // A kernel without nftables for bridges has no such rules either.
    }
  }

  /** Up to now, without repetitions. */
  async drops(): Promise<RuleDrop[]> {
    await this.#subscription.caughtUp();
    // A packet has another id behind the routing, where only its header tells whose it is.
    const isOurs = ({ table, tagged }: TraceEvent): boolean => table === this.#table || tagged;
    const ours = new Set(this.#events.filter(isOurs).map(({ id }) => id));
    const found = new Map<string, RuleDrop>();
    for (const event of this.#events) {
      if (!event.drops || !ours.has(event.id)) continue;
      const table = `${event.family} ${event.table}`;
      const key = [table, event.chain, event.handle].join('\0');
      if (!found.has(key)) found.set(key, { table, chain: event.chain, ...this.#ruleOf(table, event) });
    }
    return [...found.values()];
  }

  #ruleOf(table: string, { chain, handle }: TraceEvent): { rule?: string } {
    if (handle === undefined) return {};
    let text: string | undefined;
    try {
      text = this.#nft.ruleText(table, chain, handle);
    } catch {
      // Deleted meanwhile.
    }
    return { rule: text?.replace(/ ?counter packets \d+ bytes \d+/, '') ?? `number ${handle}` };
  }

  /** The table ends with the socket of its owner. */
  close(): void {
    this.#subscription.close();
    this.#nft.close();
  }
}

function tableText(
  family: 'inet' | 'bridge',
  name: string,
  filter: TraceFilter,
  hooks: readonly string[],
): string {
  const rules = matches(filter).map((match) => `${match} meta nftrace set 1`);
  const chains = hooks.flatMap((hook) => [
    `chain ${hook} {`,
    `type filter hook ${hook} priority ${PRIORITY}; policy accept`,
    ...rules,
    '}',
  ]);
  return [`table ${family} ${name} {`, 'flags owner', ...chains, '}'].join('\n');
}

/** Where the tag is, whole and behind the headers of a tunnel, from the transport header on. */
function matches(filter: TraceFilter): string[] {
  const inner = IP_HEADER[filter.family];
  const { there, back } = TAG_AT[filter.protocol];
  const at = (bytes: number, tag: number): string => `@th,${bytes * 8},32 0x${tag.toString(16)}`;
  const ways: [protocol: string, before: number][] = [
    [String(protocolNumber(filter)), 0],
    // IP in IP: 4 carries IPv4, 41 IPv6 (RFC 2003, RFC 2473).
    ['{ 4, 41 }', inner],
    ['udp', UDP_BYTES + inner],
    ['udp', VXLAN_BYTES + inner],
  ];
  return ways.flatMap(([protocol, before]) => [
    ...new Set([
      `meta l4proto ${protocol} ${at(before + there, filter.tag)}`,
      ...answerTags(filter).map((tag) => `meta l4proto ${protocol} ${at(before + back, tag)}`),
    ]),
  ]);
}

// include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h: NFT_MSG_TRACE, and enum nft_trace_attributes.
const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTRACE = 9;
const NFT_MSG_TRACE = (10 << 8) | 17;
const NFTA = {
  TABLE: 1,
  CHAIN: 2,
  RULE_HANDLE: 3,
  TYPE: 4,
  VERDICT: 5,
  ID: 6,
  TRANSPORT_HEADER: 9,
  POLICY: 16,
} as const;
const NFTA_VERDICT_CODE = 1;
const TRACE_TYPE = { policy: 1, rule: 3 } as const;
const NF_DROP = 0;
const NFGENMSG_BYTES = 4;
const FAMILIES: Readonly<Record<number, string>> = {
  1: 'inet',
  2: 'ip',
  5: 'netdev',
  7: 'bridge',
  10: 'ip6',
};

interface TraceEvent {
  /** Of the packet. */
  id: number;
  family: string;
  table: string;
  chain: string;
  /** Undefined: the policy of the chain. */
  handle: number | undefined;
  drops: boolean;
  /** Its header, which the first event of each chain has, carries the tag. */
  tagged: boolean;
}

function decodeEvents(bytes: Buffer, filter: TraceFilter): TraceEvent[] {
  return [...decodeMessages(bytes)].flatMap((incoming): TraceEvent[] => {
    if (incoming.kind !== 'message' || incoming.type !== NFT_MSG_TRACE) return [];
    const attrs = decodeAttrs(incoming.body, NFGENMSG_BYTES);
    const text = (type: number): string => readText(attrs.get(type) ?? Buffer.alloc(1));
    const type = number(attrs, NFTA.TYPE);
    const isRule = type === TRACE_TYPE.rule;
    const verdict = isRule ? verdictCode(attrs) : type === TRACE_TYPE.policy && number(attrs, NFTA.POLICY);
    return [
      {
        id: number(attrs, NFTA.ID) ?? 0,
        family: FAMILIES[incoming.body.readUInt8(0)] ?? '',
        table: text(NFTA.TABLE),
        chain: text(NFTA.CHAIN),
        handle: isRule ? Number(attrs.get(NFTA.RULE_HANDLE)?.readBigUInt64BE() ?? 0n) : undefined,
        drops: verdict === NF_DROP,
        tagged: isTagged(attrs.get(NFTA.TRANSPORT_HEADER), filter),
      },
    ];
  });
}

const number = (attrs: Attrs, type: number): number | undefined => attrs.get(type)?.readUInt32BE();

function verdictCode(attrs: Attrs): number | undefined {
  const verdict = attrs.get(NFTA.VERDICT);
  return verdict && decodeAttrs(verdict).get(NFTA_VERDICT_CODE)?.readUInt32BE();
}

function isTagged(header: Buffer | undefined, filter: TraceFilter): boolean {
  const { there, back } = TAG_AT[filter.protocol];
  const has = (at: number, tag: number): boolean =>
    header !== undefined && header.length >= at + 4 && header.readUInt32BE(at) === tag;
  return has(there, filter.tag) || answerTags(filter).some((tag) => has(back, tag));
}
