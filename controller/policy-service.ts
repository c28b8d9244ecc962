// PolicyService: who may speak to whom.
import { failedPrecondition, invalidArgument } from '../core/errors.js';
import { parseNetworkName } from '../core/network.js';
import { judge, parsePolicy, textsOf, type Policy as PolicyRecord } from '../core/policy/index.js';
import { unary } from '../daemon/grpc.js';
import { unknownName } from '../daemon/unknown.js';
import type { NodeGap, Policy, PolicyServiceServer } from '../proto/gen/weft/v1/controller.js';
import type { Clock } from './clock.js';
import { timestamp } from './clock.js';
import { networkMessage, leasesOf, type Sources } from './messages.js';
import { gapsOf, settledGaps } from './policy-gaps.js';
import { PolicyWords } from './policy-words.js';
import { unknownNetwork } from './unknown-network.js';
import { waitForSync } from './wait-for-sync.js';

export function policyService({ sources, clock }: { sources: Sources; clock: Clock }): PolicyServiceServer {
  const { store } = sources;
  const messageOf = (policy: PolicyRecord, pending: NodeGap[]): Policy => {
    const { name, from, to, ports } = textsOf(policy);
    return { name, from: [...from], to: [...to], ports: [...ports], createdAt: policy.createdAt, pending };
  };
  return {
    createPolicy: unary(async (request, { signal }) => {
      const policy = parsePolicy(request, timestamp(clock.now()));
      await waitForSync(store);
      const made = await store.createPolicy(policy);
      return messageOf(made, await settledGaps(sources, signal));
    }),

    getPolicy: unary(async ({ name }) => {
      await waitForSync(store);
      const policy = store.view.policies.get(name);
      if (policy === undefined) throw unknownName('policy', name, store.view.policies.keys());
      return messageOf(policy, gapsOf(sources));
    }),

    listPolicies: unary(async () => {
      await waitForSync(store);
      const { policies, networks } = store.view;
      const pending = gapsOf(sources);
      return {
        policies: [...policies.values()]
          .toSorted((a, b) => (a.name < b.name ? -1 : 1))
          .map((policy) => messageOf(policy, pending)),
        isolated: [...networks.values()]
          .flatMap((one) => (one.isolated === true ? [one.name] : []))
          .toSorted(),
        pending,
      };
    }),

    deletePolicy: unary(async ({ name }, { signal }) => {
      await waitForSync(store);
      await store.removePolicy(name);
      return { pending: await settledGaps(sources, signal) };
    }),

    isolateNetwork: unary(async ({ network: name, open }, { signal }) => {
      await waitForSync(store);
      if (!store.view.networks.has(parseNetworkName(name))) throw unknownNetwork(store, name);
      const changed = await store.updateNetwork(name, { isolated: !open });
      const pending = await settledGaps(sources, signal);
      await sources.leaseTimes.refresh(leasesOf(store, name));
      return { network: networkMessage(sources, store.view.networks.get(name) ?? changed), pending };
    }),

    testPolicy: unary(async ({ from, to, fromHere, toHere, protocol, port }) => {
      if (protocol !== '' && protocol !== 'tcp' && protocol !== 'udp')
        throw invalidArgument(`protocol: "${protocol}" is not known`, 'Give tcp or udp.');
      if (protocol !== '' && (port < 1 || port > 65_535))
        throw invalidArgument(`port: ${port} is no port`, 'Give 1 to 65535.');
      await waitForSync(store);
      const words = new PolicyWords(store.view);
      const [source, target] = words.both({ word: from, here: fromHere }, { word: to, here: toHere });
      const pairs = source.ips.flatMap((a) =>
        target.ips.filter(({ family }) => family === a.family).map((b) => ({ from: a, to: b })),
      );
      const [pair] = pairs;
      if (pair === undefined)
        throw failedPrecondition(
          `${source.text} and ${target.text} have no addresses of one family`,
          'Give addresses instead.',
        );
      const { verdict, policy, why } = judge(words.world, {
        ...pair,
        ...(protocol !== '' && { protocol, port }),
      });
      return { verdict, policy: policy ?? undefined, why };
    }),
  };
}
