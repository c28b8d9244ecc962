// Planning of a cloud's routes: laws for random tables, and what belongs to whom.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import {
  cloudNetworksOf,
  compileCloud,
  describeCloudStep,
  endedRoutes,
  isOfNetwork,
  planCloud,
  type CloudMember,
  type CloudRoute,
  type CloudStep,
  type CloudTable,
} from '../../core/cloud.js';
import { networkOf } from '../../core/drivers/index.js';
import type { OverlayNetwork } from '../../core/network.js';
import { runs } from './laws.js';
import { hostGw, membershipOf } from './records.js';

const SELF = 'eni-self';
const sky = networkOf({
  name: 'sky',
  backend: 'aws-vpc',
  subnet: IpNetwork.parse('10.100.0.0/16'),
  backendOptions: { RouteTableID: 'rtb-1,rtb-2' },
}) as OverlayNetwork<'aws-vpc'>;

const to = (third: number): IpNetwork => IpNetwork.parse(`10.100.${third}.0/24`);
/** Subnets, single addresses, and prefixes that are neither. */
const destination = fc.oneof(
  fc.integer({ min: 0, max: 7 }).map(to),
  fc.integer({ min: 0, max: 7 }).map((n) => IpNetwork.parse(`10.100.${n}.9/32`)),
  fc.constantFrom('10.100.0.0/16', '10.100.4.0/22', '10.100.1.128/25').map((text) => IpNetwork.parse(text)),
);
const route = (table: string): fc.Arbitrary<CloudRoute> =>
  fc
    .record({
      table: fc.constant(table),
      to: destination,
      hop: fc.constantFrom(SELF, 'eni-other', 'igw-1'),
      isMachine: fc.constant(true),
    })
    .map((it) => ({ ...it, isMachine: it.hop !== 'igw-1' }));
const tables: fc.Arbitrary<CloudTable[]> = fc.tuple(
  ...['rtb-1', 'rtb-2'].map((id) =>
    fc
      .uniqueArray(route(id), { selector: (it) => it.to.toString(), maxLength: 12 })
      .map((routes) => ({ id, routes })),
  ),
);
const member: fc.Arbitrary<CloudMember> = fc
  .uniqueArray(
    fc.oneof(
      fc.integer({ min: 0, max: 7 }).map(to),
      fc.integer({ min: 0, max: 7 }).map((n) => IpNetwork.parse(`10.100.${n}.9/32`)),
    ),
    { selector: (it) => it.toString(), maxLength: 3 },
  )
  .map((routes) => ({
    ...{ cloud: 'aws' as const, name: 'sky', tables: ['rtb-1', 'rtb-2'], hostPrefix: 24, routes },
    prefix: sky.subnet,
    ip: IpAddress.parse('192.0.2.1'),
  }));

function applied(before: readonly CloudTable[], steps: readonly CloudStep[]): CloudTable[] {
  return before.map(({ id, routes }) => {
    const now = new Map(routes.map((it) => [it.to.toString(), it]));
    for (const step of steps) {
      const { table, to } = step.do === 'create' ? step : step.route;
      if (table !== id) continue;
      if (step.do === 'delete') now.delete(to.toString());
      else now.set(to.toString(), { table, to, hop: step.hop, isMachine: true });
    }
    return { id, routes: [...now.values()] };
  });
}

test('a plan that is applied leads every desired route here, and nothing is left to do', (t) => {
  fc.assert(
    fc.property(tables, member, fc.boolean(), (before, wanted, prune) => {
      const { steps, conflicts } = planCloud(before, wanted, SELF, prune);
      const after = applied(before, steps);
      for (const { routes } of after)
        for (const one of wanted.routes) {
          const there = routes.find((it) => it.to.equals(one));
          const isInTheWay = conflicts.some((it) => it === there);
          if (there?.hop !== SELF && !isInTheWay) return false;
        }
      return planCloud(after, wanted, SELF, prune).steps.length === 0;
    }),
    runs(300),
  );
  t.pass();
});

test('what is not the network’s, or leads to another node, is not touched', (t) => {
  fc.assert(
    fc.property(tables, member, fc.boolean(), (before, wanted, prune) => {
      const after = applied(before, planCloud(before, wanted, SELF, prune).steps);
      return before.every(({ routes }, i) =>
        routes.every((it) => {
          const isDesired = wanted.routes.some((one) => one.equals(it.to));
          const mayChange = isOfNetwork(wanted, it) && (isDesired || (prune && it.hop === SELF));
          return mayChange || after[i]?.routes.includes(it) === true;
        }),
      );
    }),
    runs(300),
  );
  t.pass();
});

test('before the records are complete nothing is deleted', (t) => {
  fc.assert(
    fc.property(tables, member, (before, wanted) =>
      planCloud(before, wanted, SELF, false).steps.every((step) => step.do !== 'delete'),
    ),
    runs(200),
  );
  t.pass();
});

test('ended routes are the network’s, and of no subnet that is kept', (t) => {
  const [network] = cloudNetworksOf(sky);
  if (network === undefined) return t.fail();
  fc.assert(
    fc.property(tables, fc.uniqueArray(fc.integer({ min: 0, max: 7 })), (before, kept) => {
      const isKept = (it: IpNetwork): boolean => kept.some((third) => it.equals(to(third)));
      const ended = endedRoutes(before, network, isKept);
      return before
        .flatMap(({ routes }) => routes)
        .every((it) => ended.includes(it) === (isOfNetwork(network, it) && !isKept(it.to)));
    }),
    runs(200),
  );
  t.pass();
});

test('a membership compiles to its subnet and the addresses that it uses elsewhere', (t) => {
  const at = membershipOf(sky);
  const claims = ['10.100.2.7', '10.99.0.1'].map((text) => IpAddress.parse(text));
  const [compiled, ...more] = compileCloud([at, membershipOf(hostGw())], (name) =>
    name === 'sky' ? claims : [],
  );
  t.deepEqual(more, []);
  t.like(compiled, { cloud: 'aws', name: 'sky', tables: ['rtb-1', 'rtb-2'], hostPrefix: 24 });
  t.deepEqual(compiled?.routes.map(String), ['10.100.1.0/24', '10.100.2.7/32']);
  t.is(compiled?.ip.toString(), '192.0.2.1');
});

test('a network that moves has the routes of both its backends', (t) => {
  const beside = networkOf({ name: 'sky', backend: 'gce', subnet: sky.subnet }) as OverlayNetwork<'gce'>;
  t.deepEqual(
    cloudNetworksOf({ ...sky, beside }).map(({ cloud }) => cloud),
    ['aws', 'gce'],
  );
  t.deepEqual(cloudNetworksOf(hostGw()), []);
});

test('steps as people read them', (t) => {
  const there: CloudRoute = { table: 'rtb-1', to: to(5), hop: 'eni-2', isMachine: true };
  t.deepEqual(
    [
      { do: 'create', table: 'rtb-1', to: to(5), hop: 'eni-1' } as const,
      { do: 'replace', route: there, hop: 'eni-1' } as const,
      { do: 'delete', route: there } as const,
    ].map((step) => Object.values(describeCloudStep(step)).join(' ')),
    [
      'create route 10.100.5.0/24 to eni-1 in rtb-1',
      'replace route 10.100.5.0/24 to eni-2 by eni-1 in rtb-1',
      'delete route 10.100.5.0/24 to eni-2 in rtb-1',
    ],
  );
});
