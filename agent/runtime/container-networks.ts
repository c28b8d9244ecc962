// The node's networks as containers of `weft run` use them.
import type { Endpoint } from '../../core/records.js';
import type { LoopbackLink } from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { failedPrecondition } from '../../core/errors.js';
import type { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import { type Attacher, type Endpoints, type PreviousAddresses, parseAttach } from '../endpoints/index.js';
import type { Dns } from '../dns/index.js';
import type { Kernel } from '../kernel/index.js';

/** What containers need of the node's networks. */
export interface ContainerNetworks {
  /** @throws WeftError; then nothing was changed */
  attach(request: AttachRequest, previous?: PreviousAddresses): Promise<Endpoint>;
  detach(network: string, target: string): Promise<unknown>;
  endpoints(): readonly Endpoint[];
  /** The text of the resolv.conf of a container on a network. */
  resolvConf(network: string): string;
  /** @throws WeftError where the namespace does not exist */
  isNode(path: string): Promise<boolean>;
  /** Brings the loopback device of a namespace up. */
  loopback(path: string): Promise<void>;
}

const LOOPBACK: LoopbackLink = { kind: 'link', type: 'loopback', name: 'lo' };

export function containerNetworks(
  kernel: Kernel,
  attacher: Attacher,
  endpoints: Endpoints,
  dns: Pick<Dns, 'resolvConf'>,
): ContainerNetworks {
  return {
    attach: (request, previous) => attacher.attach(parseAttach(request), { previous }),
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
