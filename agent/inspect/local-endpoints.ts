// The endpoints of this node, and whether their containers exist: what a controller compares with etcd.
import { isHost } from '../../core/compile.js';
import type { LocalEndpoint } from '../../proto/gen/weft/v1/inspection.js';
import { isGone } from '../reconcile/index.js';
import type { InspectOptions } from './options.js';

export const localEndpoints = ({ endpoints, kernel }: InspectOptions): LocalEndpoint[] =>
  endpoints.list().map((endpoint) => ({
    network: endpoint.network,
    id: endpoint.id,
    name: endpoint.name,
    ip: endpoint.ip,
    ip6: endpoint.ip6 ?? '',
    target: endpoint.target,
    isThere: isHost(endpoint) || !isGone(kernel, endpoint.sandbox),
  }));
