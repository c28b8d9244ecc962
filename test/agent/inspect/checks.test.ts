// weft check: what it looks at itself, beside the problems that are known.
import test, { type ExecutionContext } from 'ava';

import { checkNode } from '../../../agent/inspect/checks.js';
import { FIREWALL } from '../../../agent/health/index.js';
import type { Check } from '../../../proto/gen/weft/v1/inspection.js';
import { Status } from '../../../proto/gen/weft/v1/types.js';
import { attached, startNode, type TestNode } from '../node.js';

async function nodeOf(t: ExecutionContext): Promise<TestNode> {
  const node = await startNode(t);
  await attached(node, 'c1');
  return node;
}

/** By group and name. */
async function look(node: TestNode): Promise<Map<string, Check>> {
  const { kernel, store, memberships, endpoints, attachments, reconciler, problems } = node;
  const never = (): never => {
    throw new Error('a check asks for no such thing');
  };
  const checks = await checkNode({
    ...{ kernel, store, memberships, endpoints, attachments, reconciler, problems },
    ...{ node: 'a', version: '0.1.0', settings: {}, events: { after: never }, metrics: never },
    sandboxes: { run: never, probe: never } as never,
    status: () => Promise.resolve(Status.fromPartial({ store: { state: 'connected' } })),
  });
  return new Map(checks.map((check) => [`${check.group} ${check.name}`, check]));
}

test('settings of the kernel are a check of their own, which names those that are wrong', async (t) => {
  const node = await nodeOf(t);
  const before = await look(node);
  t.true(before.get('kernel sysctls')?.ok);
  // As in a container, where /proc/sys is read-only.
  node.kernel.failSteps((step) => step.do === 'put' && step.object.kind === 'sysctl', Infinity, 'EROFS');
  node.kernel.breakByHand.sysctl('net/ipv4/ip_forward', '0');
  const after = await look(node);
  const { ok, why, fix } = after.get('kernel sysctls') ?? {};
  t.false(ok);
  t.regex(why ?? '', /^these are not as they should be: .*net\.ipv4\.ip_forward=1\b/);
  t.regex(fix ?? '', /sysctl -w .*net\.ipv4\.ip_forward=1\b/);
  t.true(after.get('kernel objects')?.ok, 'links, addresses and routes are well');
});

test('rules of other programs are a check, and those that drop are named in its place', async (t) => {
  const node = await nodeOf(t);
  t.like((await look(node)).get('firewall foreign'), { ok: true, what: 'rules of other programs' });
  const key = { scope: FIREWALL, kind: 'rules', id: 'strict' } as const;
  node.problems.set(key, { what: 'nftables table inet strict', why: 'its rule drops', fix: 'Run: nft' });
  const after = await look(node);
  t.false(after.has('firewall foreign'));
  t.like(after.get('firewall rules'), { ok: false, what: 'nftables table inet strict' });
});
