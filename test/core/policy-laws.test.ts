// The compiled form of policies against the plain evaluator: what a packet meets in the kernel is what people are told.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress } from '../../core/address.js';
import {
  judge,
  parsePolicy,
  PolicyClasses,
  PolicyState,
  type Policy,
  type PolicyEntry,
  type PolicyPacket,
  type Subject,
} from '../../core/policy/index.js';
import type { PolicyItem } from '../../core/policy/items.js';
import { runs } from './laws.js';

const NETWORKS = ['blue', 'green', 'red'];
const NODES = ['h1', 'h2', 'h3'];

const label = fc.constantFrom('role=web', 'role=db', 'role=lb', 'env=prod', 'env=dev');
const cidr = fc.constantFrom(
  'cidr=10.0.0.0/8',
  'cidr=10.1.0.0/24',
  'cidr=10.1.0.4/30',
  'cidr=10.2.0.3',
  'cidr=198.51.100.0/24',
  'cidr=fd00::/16',
  'cidr=fd00:1::/64',
  'cidr=2001:db8::/32',
);
const place = fc.oneof(
  fc.constantFrom(...NETWORKS).map((name) => `network=${name}`),
  fc.constantFrom(...NODES).map((name) => `node=${name}`),
  fc.integer({ min: 0, max: 11 }).map((n) => `name=c${n}`),
);
const joined = (term: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(term, { minLength: 1, maxLength: 3 }).map((terms) => terms.join(','));
const target = fc.oneof(joined(fc.oneof(label, place, cidr)), fc.constantFrom('any', 'any,role=db'));
const host = fc.constantFrom('host', 'host,node=h1', 'host,cidr=10.1.0.0/24');
const source = fc.oneof(target, host, cidr);
const anyTarget = fc.oneof({ arbitrary: target, weight: 4 }, { arbitrary: host, weight: 1 });
const port = fc
  .tuple(fc.constantFrom('tcp', 'udp'), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 20 }))
  .map(([protocol, first, more]) => `${protocol}/${first}-${first + more}`);

const policies = fc
  .array(
    fc.record({
      from: fc.array(source, { minLength: 1, maxLength: 3 }),
      to: fc.array(anyTarget, { minLength: 1, maxLength: 2 }),
      ports: fc.array(port, { maxLength: 3 }),
    }),
    { maxLength: 6 },
  )
  .map((all) => all.map((texts, i) => parsePolicy({ name: `p${i}`, ...texts })));

/** Containers and nodes, each with an address of both families. */
const subjects = fc
  .array(
    fc.record({
      labels: fc.uniqueArray(label, { maxLength: 2, selector: (text) => text.split('=')[0] }),
      network: fc.integer({ min: 0, max: 2 }),
      node: fc.constantFrom(...NODES),
      unlabelled: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
      isNode: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
    }),
    { minLength: 2, maxLength: 12 },
  )
  .map((all) =>
    all.map(({ labels, network, node, isNode, unlabelled }, i): Subject => {
      const ips = [`10.${network}.0.${i + 1}`, `fd00:${network}::${i + 1}`].map((text) =>
        IpAddress.parse(text),
      );
      if (isNode) return { host: true, node, ips };
      return {
        ...{ node, network: NETWORKS[network] ?? '', name: `c${i}`, ips },
        ...(unlabelled
          ? { unlabelled }
          : { labels: Object.fromEntries(labels.map((text) => text.split('=') as [string, string])) }),
      };
    }),
  );

const OUTSIDE = ['198.51.100.7', '192.0.2.1', '2001:db8::9', 'fd00:1::99'].map((text) =>
  IpAddress.parse(text),
);

interface World {
  policies: Policy[];
  isolated: ReadonlySet<string>;
  subjects: Subject[];
}

const worlds = fc.record({
  policies,
  isolated: fc.subarray(NETWORKS).map((names) => new Set(names)),
  subjects,
});

/** Packets of each world, so that there are 100,000 in all. */
const PACKETS = 200;

const packetsOf = ({ subjects: all }: World): fc.Arbitrary<PolicyPacket[]> => {
  const own = all.flatMap(({ ips }) => ips);
  const from = fc.constantFrom(...own, ...OUTSIDE);
  const to = fc.constantFrom(...own, ...own, ...OUTSIDE);
  const packet = fc.record(
    {
      from,
      to,
      protocol: fc.constantFrom('tcp' as const, 'udp' as const),
      port: fc.integer({ min: 1, max: 65 }),
    },
    { requiredKeys: ['from', 'to'] },
  );
  return fc.array(packet, { minLength: PACKETS, maxLength: PACKETS });
};

const entryOf = (subject: Subject): PolicyEntry =>
  subject.host === true ? { subject, bridges: [`wfbr-${subject.node ?? ''}`] } : { subject, local: {} };

function stateOf({ policies: all, isolated, subjects: them }: World): PolicyState {
  const state = new PolicyState(new PolicyClasses(all, isolated));
  them.forEach((subject, i) => state.set(`${i}`, entryOf(subject)));
  return state;
}

/** What the kernel does with the items: the rules of agent/kernel/firewall/policy-rules.ts, in words. */
function passes(
  state: PolicyState,
  { subjects: them }: World,
  { from, to, protocol, port: at = 0 }: PolicyPacket,
): boolean {
  const [nodes, containers] = [true, false].map((isNode) =>
    them.filter(({ host: is = false }) => is === isNode).flatMap(({ ips }) => ips),
  ) as [IpAddress[], IpAddress[]];
  const addressOf = (ip: IpAddress): PolicyItem | undefined => state.items.get(`address ${ip.toString()}`);
  const [source, found] = [addressOf(from), addressOf(to)];
  const isOfHost = nodes.some((one) => one.equals(to));
  // Of packets to hosts only those of containers come to the rules.
  if (isOfHost && !containers.some((one) => one.equals(from))) return true;
  if (found?.policy !== 'address' || found.target === undefined) return true;
  const range = state.rules.ranges.find(({ family, first, last }) => {
    const [low, high] = [first, last].map((text) => IpAddress.parse(text).value);
    return family === from.family && (low ?? 0n) <= from.value && from.value <= (high ?? 0n);
  });
  const peers = [source?.policy === 'address' ? source.peer : undefined, range?.peer];
  return peers.some(
    (peer) =>
      peer !== undefined &&
      [...state.items.values()].some(
        (item) =>
          item.policy === 'verdict' &&
          item.peer === peer &&
          item.target === found.target &&
          (item.ports === undefined ||
            (item.ports.protocol === protocol && item.ports.first <= at && at <= item.ports.last)),
      ),
  );
}

test('the compiled form decides 100,000 random packets as the plain evaluator does', (t) => {
  let decided = 0;
  let denied = 0;
  fc.assert(
    fc.property(
      worlds.chain((world) => fc.tuple(fc.constant(world), packetsOf(world))),
      ([world, packets]) => {
        const state = stateOf(world);
        const byIp = new Map(
          world.subjects.flatMap((one) => one.ips.map((ip) => [ip.toString(), one] as const)),
        );
        const known = { ...world, subjectOf: (ip: IpAddress) => byIp.get(ip.toString()) };
        for (const packet of packets) {
          const { verdict } = judge(known, packet);
          if (passes(state, world, packet) !== (verdict === 'allowed'))
            throw new Error(
              `${packet.from.toString()} to ${packet.to.toString()} ${packet.protocol ?? '-'} ${packet.port ?? '-'}: the evaluator says ${verdict}`,
            );
          decided++;
          if (verdict === 'denied') denied++;
        }
      },
    ),
    runs(500),
  );
  t.true(decided >= 100_000);
  // Neither side is trivial.
  t.true(denied > decided / 20 && denied < decided * 0.95, `${denied} of ${decided}`);
});

test('containers that come, change and go one by one leave the items of what is there', (t) => {
  fc.assert(
    fc.property(
      worlds,
      subjects,
      fc.array(fc.tuple(fc.nat(11), fc.nat(11), fc.boolean()), { maxLength: 30 }),
      (world, others, steps) => {
        const state = new PolicyState(new PolicyClasses(world.policies, world.isolated));
        const there = new Map<string, Subject>();
        const followed = new Map<string, PolicyItem>();
        for (const [at, which, goes] of steps) {
          const pool = which % 2 === 0 ? world.subjects : others;
          const subject = goes ? undefined : pool[which % pool.length];
          if (subject === undefined) there.delete(`${at}`);
          else there.set(`${at}`, subject);
          const changes = state.set(`${at}`, subject && entryOf(subject));
          for (const [key, item] of changes)
            if (item === undefined) followed.delete(key);
            else followed.set(key, item);
        }
        const fresh = new PolicyState(new PolicyClasses(world.policies, world.isolated));
        for (const [key, subject] of there) fresh.set(key, entryOf(subject));
        const sorted = (items: ReadonlyMap<string, PolicyItem>): unknown =>
          [...items].toSorted(([a], [b]) => (a < b ? -1 : 1));
        t.deepEqual(sorted(state.items), sorted(fresh.items));
        t.deepEqual(sorted(followed), sorted(fresh.items));
      },
    ),
    runs(200),
  );
  t.pass();
});
