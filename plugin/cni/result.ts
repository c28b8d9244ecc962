// The answer to ADD, in the order that plugins chained after weft rely on.
//
// The bridge first (`firewall`), then the node's end of the pair, without a sandbox (`bandwidth`), then the container's link.
import { familiesIn, textIn } from '../../core/families.js';
import type { Endpoint } from '../../core/records.js';
import type { ContainerView } from '../../daemon/plugin-host.js';
import type { CniRequest } from './request.js';
import type { Wishes } from './wishes.js';

export function resultOf(
  { version, conf, netns }: CniRequest,
  endpoint: Endpoint,
  view: ContainerView,
  wishes: Pick<Wishes, 'dns'>,
): object {
  const interfaces = [
    ...(view.bridge === undefined ? [] : [view.bridge]),
    { name: endpoint.hostIfname },
    {
      name: endpoint.ifname,
      mac: endpoint.mac,
      sandbox: netns,
      ...(version === '1.1.0' && { mtu: view.mtu }),
    },
  ];
  const ips = familiesIn(endpoint).map((family) => {
    const gateway = family === 4 ? view.gateway : view.gateway6;
    return {
      ...(version === '0.4.0' && { version: String(family) }),
      address: textIn(endpoint, family),
      ...(gateway !== undefined && { gateway }),
      interface: interfaces.length - 1,
    };
  });
  return {
    cniVersion: version,
    interfaces,
    ips,
    routes: view.routes.map(({ to, via }) => ({ dst: to, ...(via !== undefined && { gw: via }) })),
    dns: wishes.dns ?? ofConf(conf) ?? view.dns ?? {},
  };
}

function ofConf({ dns }: CniRequest['conf']): object | undefined {
  if (dns === undefined) return undefined;
  return Object.fromEntries(Object.entries(dns).filter(([, value]) => value !== undefined));
}
