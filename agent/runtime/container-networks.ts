// What containers have to do with the node's networks, put together from the parts of the agent that do it.
import type { LoopbackLink } from '../../core/objects.js';
import { assume, plan } from '../../core/plan.js';
import { failedPrecondition } from '../../core/errors.js';
import { parseAttach } from '../attach-request.js';
import type { Attacher } from '../attach.js';
import type { Dns } from '../dns/dns.js';
import type { Endpoints } from '../endpoints.js';
import type { Kernel } from '../kernel/kernel.js';
import type { ContainerNetworks } from './containers.js';

const LOOPBACK: LoopbackLink = { kind: 'link', type: 'loopback', name: 'lo' };

export function containerNetworks(
  kernel: Kernel,
  attacher: Attacher,
  endpoints: Endpoints,
  dns: Pick<Dns, 'resolvConf'>,
): ContainerNetworks {
  return {
    attach: (request, former) => attacher.attach(parseAttach(request), former),
    detach: (network, target) => attacher.detach(network, target),
    endpoints: () => endpoints.list(),
    resolvConf: (network) => dns.resolvConf([network]),
    isNode: async (path) => {
      const { namespace, isNode } = await kernel.openNamespace(path);
      namespace.close();
      return isNode;
    },
    loopback: async (path) => {
      const { namespace } = await kernel.openNamespace(path);
      try {
        const there = { ...assume([LOOPBACK]), up: new Set<string>() };
        const [failure] = await namespace.apply(plan(there, [LOOPBACK], { prune: false }).steps);
        if (failure !== undefined)
          throw failedPrecondition(`the kernel refused to bring lo up: ${failure.message}`);
      } finally {
        namespace.close();
      }
    },
  };
}
