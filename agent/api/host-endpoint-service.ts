// Handlers for the host as a member of networks: `weft expose` and `weft hide`.
import type { Server } from '@grpc/grpc-js';

import { parseNetworkName } from '../../core/network.js';
import type { Endpoint } from '../../core/records.js';
import { unary } from '../../daemon/grpc.js';
import { HostServiceService, type ExposeRequest, type HideRequest } from '../../proto/gen/weft/v1/runtime.js';
import type { Endpoint as EndpointMessage } from '../../proto/gen/weft/v1/types.js';
import { type AttachRequest, type HostEndpoint, parseAttach } from '../endpoints/index.js';

export function mountHostEndpoint(
  server: Server,
  hostEndpoint: HostEndpoint,
  toMessage: (endpoint: Endpoint) => EndpointMessage,
  changed: () => void,
): void {
  const shape = (endpoint: Endpoint): EndpointMessage => {
    changed();
    return toMessage(endpoint);
  };
  server.addService(HostServiceService, {
    expose: unary(async (request: ExposeRequest, { signal }) =>
      shape(await hostEndpoint.expose(parseExpose(request), signal)),
    ),
    hide: unary(async ({ network }: HideRequest, { signal }) =>
      shape(await hostEndpoint.hide(parseNetworkName(network), signal)),
    ),
  });
}

/** @throws WeftError INVALID_ARGUMENT */
function parseExpose({ network, name, aliases, ip, ip6 }: ExposeRequest): AttachRequest {
  return parseAttach({
    network,
    target: 'host',
    name,
    aliases,
    ip,
    ip6,
    mac: undefined,
    ifname: undefined,
    noDefaultRoute: false,
    publish: [],
    publishEverywhere: false,
    vlan: undefined,
    dns: false,
    allowedAddresses: [],
    labels: {},
  });
}
