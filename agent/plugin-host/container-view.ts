// What a container has of an endpoint, as its manager tells it to a runtime.
//
// Read from the compiled objects, so that it is what the kernel has.
import {
  canResolve,
  containerMtu,
  gatewayFor,
  ownGateways,
  RESOLVER_IP,
  type CompiledEndpoint,
  type Membership,
} from '../../core/compile.js';
import { driverOf } from '../../core/drivers/index.js';
import type { Endpoint } from '../../core/records.js';
import type { ContainerView } from '../../daemon/plugin-host.js';
import { DOMAIN } from '../dns/index.js';

export function viewOf({
  membership,
  endpoint,
  compiled,
  servesNames,
}: {
  membership: Membership;
  endpoint: Endpoint;
  compiled: CompiledEndpoint;
  servesNames: boolean;
}): ContainerView {
  const bridge = bridgeOf(membership, compiled);
  const [gateway, gateway6] = ([4, 6] as const).map((family) => gatewayFor(membership, endpoint, family));
  const nameservers = servesNames ? nameserversOf(membership, endpoint) : [];
  return {
    ...(bridge && { bridge }),
    mtu: containerMtu(membership),
    ...(gateway && { gateway: gateway.toString() }),
    ...(gateway6 && { gateway6: gateway6.toString() }),
    routes: compiled.container.flatMap((object) =>
      object.kind === 'route'
        ? [{ to: object.to, ...(object.via !== undefined && { via: object.via }) }]
        : [],
    ),
    ...(nameservers.length > 0 && {
      dns: { nameservers, search: [`${endpoint.network}.${DOMAIN}`], options: ['ndots:0'] },
    }),
  };
}

function bridgeOf(membership: Membership, { host }: CompiledEndpoint): ContainerView['bridge'] {
  const name = host.flatMap((object) =>
    object.kind === 'link' && object.type === 'veth' ? [object.master] : [],
  )[0];
  if (name === undefined) return undefined;
  const link = driverOf(membership.network).hostLink(membership);
  return { name, ...(link?.name === name && { mac: link.mac }) };
}

/** The address that is the same on every host, where the container reaches it by any of its endpoints. */
const nameserversOf = (membership: Membership, endpoint: Endpoint): string[] =>
  canResolve(membership, endpoint) ? [RESOLVER_IP] : ownGateways(membership).map(String);
