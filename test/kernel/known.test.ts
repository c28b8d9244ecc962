// What a node knows of its containers, on the kernel: frames teach the bridge and the node nothing else.
import { container, sh } from './private.js';

import { join } from 'node:path';

import test from 'ava';

import type { Kernel } from '../../agent/kernel/kernel.js';
import { openKernel } from '../../agent/kernel/linux.js';
import { compileEndpoint, compileNetwork } from '../../core/compile.js';
import { sysctlPaths, type KernelObject } from '../../core/objects/index.js';
import { plan } from '../../core/plan.js';
import type { Endpoint } from '../../core/records.js';
import { arp, BROADCAST } from '../lab/frames.js';
import { CHECKOUT } from '../lab/lab.js';
import { endpoint, membership, network, noFirewall } from './samples.js';

type Box = Awaited<ReturnType<typeof container>>;

const OF = membership(network('blue', 4097, 100, true));

let kernel: Kernel;
let boxes: Box[] = [];
let endpoints: [Endpoint, Endpoint];

test.before(async () => {
  sh(
    'ip link set lo up; ip link add eth0 type veth peer name eth0p; ip link set eth0 up; ip link set eth0p up',
  );
  sh('ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad');
  kernel = await openKernel({ firewall: noFirewall });
  const made = await Promise.all([container(), container()]);
  boxes = made;
  endpoints = [
    endpoint(OF, '1000000000000000', 2, made[0].path),
    endpoint(OF, '2000000000000000', 3, made[1].path),
  ];
});
test.after.always(async () => {
  kernel.close();
  for (const box of boxes) await box.end();
});

/** Applies the plan to these objects. @returns its steps */
async function reach(desired: readonly KernelObject[]): Promise<string[]> {
  const paths = sysctlPaths(desired);
  const { steps } = plan(await kernel.node.observe(paths), desired, { prune: true });
  const opened = await Promise.all(boxes.map(({ path }) => kernel.openNamespace(path)));
  const peers = new Map(endpoints.map(({ hostIfname }, i) => [hostIfname, opened[i]?.namespace] as const));
  const failures = await kernel.node.apply(steps, peers as Parameters<Kernel['node']['apply']>[1]);
  for (const { namespace } of opened) namespace.close();
  const left = plan(await kernel.node.observe(paths), desired, { prune: true });
  if (failures.length + left.steps.length + left.conflicts.length > 0)
    throw new Error(JSON.stringify({ failures, left }, undefined, 1));
  return steps.map((step) => ('object' in step ? step.object.kind : step.do));
}

const wanted = (): KernelObject[] => [
  ...compileNetwork(OF),
  ...endpoints.flatMap((one) => compileEndpoint(OF, one).host),
];

const known = (): string[] =>
  endpoints.map(({ mac, hostIfname, ip, ip6 }) => {
    const has = (command: string): string => sh(`${command} || true`).trim();
    const neighbours = [ip, ip6].map((text) => has(`ip neigh show ${text?.split('/')[0]} dev wfbr4097`));
    return [has(`bridge fdb show br wfbr4097 | grep ${mac} | grep ${hostIfname}`), ...neighbours].join('; ');
  });

test.serial('a neighbour’s frames move neither a MAC address nor an address', async (t) => {
  await reach(wanted());
  const before = known();
  const [one, other] = endpoints;
  for (const [i, { mac, hostIfname }] of endpoints.entries()) {
    t.regex(before[i] ?? '', new RegExp(`^${mac} dev ${hostIfname} sticky master wfbr4097 static;`));
    t.is(before[i]?.match(new RegExp(`${mac} PERMANENT`, 'g'))?.length, 2, before[i]);
  }
  const [ip = ''] = one.ip.split('/');
  const forged = [
    arp({ from: one.mac, to: BROADCAST }, { mac: one.mac, ip }, ip),
    arp({ from: other.mac, to: BROADCAST }, { mac: other.mac, ip }, ip),
  ];
  const program = join(CHECKOUT, 'build/test/lab/forge.js');
  const inside = `nsenter --net=${boxes[1]?.path}`;
  sh(`${inside} ip link set eth0 up`);
  sh(`${inside} ${process.execPath} ${program} eth0 ${forged.map((one) => one.toString('hex')).join(' ')}`);
  t.deepEqual(known(), before);
});

test.serial(
  'what was deleted by hand is put back, and a bridge that is made anew has all of it',
  async (t) => {
    await reach(wanted());
    const before = known();
    const [{ mac, hostIfname, ip }] = endpoints;
    for (const [damage, kinds] of [
      [`bridge fdb del ${mac} dev ${hostIfname} master`, ['port-mac']],
      [`ip neigh del ${ip.split('/')[0]} dev wfbr4097`, ['neighbour']],
      [
        `ip neigh replace ${ip.split('/')[0]} lladdr 02:00:00:00:00:66 dev wfbr4097 nud permanent`,
        ['neighbour'],
      ],
      [`ip link set ${hostIfname} nomaster`, ['change-link', 'port-mac']],
    ] as const) {
      sh(damage);
      t.deepEqual(await reach(wanted()), [...kinds], damage);
      t.deepEqual(known(), before, damage);
    }
    sh('ip link del wfbr4097');
    await reach(wanted());
    t.deepEqual(known(), before);
    await reach(compileNetwork(OF));
    t.is(sh('ip neigh show dev wfbr4097 nud permanent').trim(), '');
  },
);
