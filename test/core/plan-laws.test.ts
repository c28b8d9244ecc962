// The laws of plan, for random worlds and damage, on the fake kernel.
//
// The fake kernel is the model of Linux. Plan converges from any state, also when interrupted; then nothing is left to do;
// unowned objects stay as they are; and no packet is misdirected on the way.
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';

import { fdbKey, neighbourKey, objectKey, type KernelObject } from '../../core/objects/index.js';
import { assume, plan, type Plan, type Step } from '../../core/plan.js';
import type { KernelNamespace } from '../../agent/kernel/kernel.js';
import { FakeKernel } from '../fakes/kernel.js';
import { linesOf } from '../fakes/lines.js';
import { runs } from './laws.js';
import {
  addUnowned,
  addParents,
  deeds,
  doTo,
  openContainers,
  steadyWorld,
  sysctlsOf,
  world,
  type World,
} from './worlds.js';

const RUNS = runs(50);

const compare = async (space: KernelNamespace, desired: KernelObject[], prune = true): Promise<Plan> =>
  plan(await space.observe(sysctlsOf(desired)), desired, { prune });

/** A node that has applied world `a`, on which things have happened since, and the sandboxes of both worlds. */
async function scene(
  a: World,
  b: World,
  happened: Parameters<typeof doTo>[1][],
): Promise<{
  kernel: FakeKernel;
  peers: Map<string, KernelNamespace>;
}> {
  const kernel = new FakeKernel();
  addUnowned(kernel);
  const peers = await openContainers(kernel, a, b);
  await kernel.node.apply((await compare(kernel.node, a.objects)).steps, peers);
  for (const deed of happened) await doTo(kernel, deed);
  return { kernel, peers };
}

/** Asserts that the node has exactly this world and the unowned objects, and that nothing is left to do. */
async function arrived(t: ExecutionContext, kernel: FakeKernel, { objects }: World): Promise<void> {
  const actual = await kernel.node.observe(sysctlsOf(objects));
  t.deepEqual(plan(actual, objects, { prune: true }), { steps: [], conflicts: [] });
  const keys = (which: Iterable<KernelObject>): string[] =>
    [
      ...new Set([...which].filter(({ kind }) => kind !== 'sysctl').map((object) => objectKey(object))),
    ].sort();
  t.deepEqual(
    keys([...actual.objects.values()].flatMap(({ object, owned }) => (owned ? [object] : []))),
    keys(objects),
  );
  // A dump has only written settings; the other end of a veth belongs to the container.
  const short = (line: string): string => line.replace(/ peer \S+ \S+/, '');
  const lines = new Set(kernel.dump().split('\n').map(short));
  const missing = linesOf(objects)
    .map(short)
    .filter((line) => !line.startsWith('sysctl ') && !lines.has(line));
  t.deepEqual(missing, []);
}

const unownedLines = (kernel: FakeKernel): string[] =>
  kernel
    .dump()
    .split('\n')
    .filter((line) => line.endsWith('(unowned)'));

test('steps from any state lead to the desired one, and no unowned object is touched', async (t) => {
  await fc.assert(
    fc.asyncProperty(world(), world(), deeds(), async (a, b, happened) => {
      const { kernel, peers } = await scene(a, b, happened);
      const before = unownedLines(kernel);
      const { steps, conflicts } = await compare(kernel.node, b.objects);
      t.deepEqual(conflicts, []);
      t.deepEqual(await kernel.node.apply(steps, peers), []);
      await arrived(t, kernel, b);
      t.deepEqual(unownedLines(kernel), before);
    }),
    RUNS,
  );
});

test('a desired state needs no step', (t) => {
  fc.assert(
    fc.property(world(), ({ objects }) => {
      t.deepEqual(plan(assume(objects), objects, { prune: true }), { steps: [], conflicts: [] });
    }),
    RUNS,
  );
});

test('steps from an assumed state lead to the next one', async (t) => {
  await fc.assert(
    fc.asyncProperty(world(), world(), async (a, b) => {
      const { kernel, peers } = await scene(a, b, []);
      // Sysctls that were not read count as not set: they are compared with the world before.
      const { steps } = plan(assume(a.objects), b.objects, { prune: true });
      t.deepEqual(await kernel.node.apply(steps, peers), []);
      await arrived(t, kernel, b);
    }),
    RUNS,
  );
});

test('an interrupted plan converges when planned again', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      world(),
      world(),
      deeds(),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (a, b, happened, share) => {
        const { kernel, peers } = await scene(a, b, happened);
        const first = await compare(kernel.node, b.objects);
        await kernel.node.apply(first.steps.slice(0, Math.floor(first.steps.length * share)), peers);
        const second = await compare(kernel.node, b.objects);
        t.deepEqual(await kernel.node.apply(second.steps, peers), []);
        await arrived(t, kernel, b);
      },
    ),
    RUNS,
  );
});

test('after any failure, the next plan converges', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      world(),
      world(),
      fc.array(fc.nat(40), { minLength: 1, maxLength: 5 }),
      async (a, b, failing) => {
        const { kernel, peers } = await scene(a, b, []);
        let count = 0;
        kernel.failSteps(() => failing.includes(count++), failing.length);
        await kernel.node.apply((await compare(kernel.node, b.objects)).steps, peers);
        kernel.failSteps(() => false);
        count = Infinity;
        t.deepEqual(await kernel.node.apply((await compare(kernel.node, b.objects)).steps, peers), []);
        await arrived(t, kernel, b);
      },
    ),
    RUNS,
  );
});

test('without prune only links that are recreated at once are deleted', async (t) => {
  await fc.assert(
    fc.asyncProperty(world(), world(), deeds(), async (a, b, happened) => {
      const { kernel } = await scene(a, b, happened);
      const { steps } = await compare(kernel.node, b.objects, false);
      steps.forEach((step, index) => {
        t.not(step.do, 'delete');
        const next = steps[index + 1];
        if (step.do === 'delete-link')
          t.is(next?.do === 'create-link' ? next.link.name : undefined, step.name);
      });
    }),
    RUNS,
  );
});

test('unowned objects in the way stay, and the rest converges', async (t) => {
  await fc.assert(
    fc.asyncProperty(world(), fc.array(fc.nat(1000), { minLength: 1, maxLength: 4 }), async (b, picks) => {
      const kernel = new FakeKernel();
      addParents(kernel);
      const peers = await openContainers(kernel, b);
      for (const pick of picks) takeForOthers(kernel, b, pick);
      const before = unownedLines(kernel);
      const { steps } = await compare(kernel.node, b.objects);
      await kernel.node.apply(steps, peers);
      t.deepEqual(unownedLines(kernel), before);
      const again = await compare(kernel.node, b.objects);
      t.deepEqual(again.steps, []);
      const taken = new Set(
        before.filter((line) => line.startsWith('link ')).map((line) => line.split(' ')[1]),
      );
      for (const { object, owned } of (await kernel.node.observe([])).objects.values()) {
        // Ports are unowned links by definition, and routes over the underlay lie on them.
        const overUnderlay = object.kind === 'route' && object.underlay === true;
        if (owned && 'link' in object && object.kind !== 'port' && object.kind !== 'vlan' && !overUnderlay)
          t.false(taken.has(object.link), `${objectKey(object)} lies on an unowned link`);
      }
    }),
    RUNS,
  );
});

/** Creates one of the links or routes that the world desires as unowned. */
function takeForOthers(kernel: FakeKernel, { objects }: World, pick: number): void {
  const candidates = objects.filter((object) => object.kind === 'link' || object.kind === 'route');
  const object = candidates[pick % (candidates.length || 1)];
  if (object?.kind === 'route') kernel.breakByHand.put({ kind: 'route', to: object.to, link: 'eth0' });
  if (object?.kind !== 'link' || kernel.dump().includes(`link ${object.name} `)) return;
  kernel.breakByHand.addLink(
    object.name,
    pick % 2 === 0
      ? 'macvlan'
      : { kind: 'link', type: 'bridge', name: object.name, alias: '', mac: '06:00:00:00:00:09', mtu: 1500 },
  );
}

test('at no moment a route leads to a gateway without neighbour or FDB entry', async (t) => {
  await fc.assert(
    fc.asyncProperty(steadyWorld(), steadyWorld(), async (a, b) => {
      const { kernel, peers } = await scene(a, b, []);
      const { steps } = await compare(kernel.node, b.objects);
      for (const step of steps) {
        t.deepEqual(await kernel.node.apply([step], peers), []);
        t.deepEqual(await astray(kernel), [], JSON.stringify(step));
      }
    }),
    RUNS,
  );
});

/** Onlink routes whose packets could not be delivered. */
async function astray(kernel: FakeKernel): Promise<string[]> {
  const { objects } = await kernel.node.observe([]);
  return [...objects.values()].flatMap(({ object, owned }) => {
    if (!owned || object.kind !== 'route' || object.onlink !== true) return [];
    const neighbour = objects.get(neighbourKey(object.link, object.via ?? ''))?.object;
    if (neighbour?.kind !== 'neighbour') return [`${object.to}: no neighbour`];
    return objects.has(fdbKey(object.link, neighbour.mac)) ? [] : [`${object.to}: no FDB entry`];
  });
}

test('links are created before their ports, and everything else after its link', async (t) => {
  const link = (step: Step): string | undefined => (step.do === 'create-link' ? step.link.name : undefined);
  await fc.assert(
    fc.asyncProperty(world(), world(), deeds(), async (a, b, happened) => {
      const { kernel } = await scene(a, b, happened);
      const { steps } = await compare(kernel.node, b.objects);
      const created = new Map(
        steps.flatMap((step, index) => (link(step) === undefined ? [] : [[link(step), index]])),
      );
      steps.forEach((step, index) => {
        const needs =
          step.do === 'put' && 'link' in step.object
            ? step.object.link
            : (step.do === 'create-link' || step.do === 'change-link') && step.link.type === 'veth'
              ? step.link.master
              : undefined;
        t.true((created.get(needs) ?? -1) < index, JSON.stringify(step));
      });
    }),
    RUNS,
  );
});

test('a container’s side converges from any state, and the container’s own objects stay', async (t) => {
  await fc.assert(
    fc.asyncProperty(world(), fc.array(fc.nat(1000), { maxLength: 4 }), async (a, picks) => {
      const { kernel, peers } = await scene(a, a, []);
      for (const [name, { path, objects }] of a.containers) {
        const inside = peers.get(name) ?? t.fail();
        t.deepEqual(await inside.apply((await compare(inside, objects)).steps), []);
        const hands = kernel.handsIn(path);
        hands.addLink('tun0', 'tun');
        hands.put({ kind: 'route', to: '198.51.100.0/24', link: 'tun0' });
        const own = [...(await inside.observe([])).objects.values()].flatMap(({ object, owned }) =>
          owned && object.kind !== 'link' ? [object] : [],
        );
        for (const pick of picks) {
          if (pick % 5 === 0) hands.setDown('eth0');
          else hands.delete(objectKey(own[pick % own.length] ?? t.fail()));
        }
        t.deepEqual(await inside.apply((await compare(inside, objects)).steps), []);
        t.deepEqual(await compare(inside, objects), { steps: [], conflicts: [] });
        t.true(kernel.has('route 198.51.100.0/24 dev tun0 (unowned)', path));
        t.deepEqual(
          linesOf(objects).filter((line) => !kernel.has(line, path)),
          [],
        );
      }
    }),
    runs(20),
  );
});
