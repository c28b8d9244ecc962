// From the store's records to the services' messages.
import { describeLease } from '../core/backends/index.js';
import { describeNetwork, driverOf, firstGateway } from '../core/drivers/index.js';
import { hostPrefixIn, subnetIn, textIn } from '../core/families.js';
import { gatewayOf } from '../core/link-names.js';
import { areRouted, hasDirectAccess } from '../core/network.js';
import type { Endpoint as EndpointRecord, Network as NetworkRecord } from '../core/records.js';
import type { Endpoint, Lease, Network } from '../proto/gen/weft/v1/types.js';
import type { Store, StoredLease } from '../store/store.js';
import { moveOf } from './backend-move.js';
import type { LeaseTimes } from './lease-times.js';
import type { ReportSource } from './registry.js';
import type { Counters } from './counters.js';

/** What messages are made from. */
export interface Sources {
  store: Store;
  counters: Counters;
  reports: ReportSource;
  leaseTimes: LeaseTimes;
}

/** The usual Ethernet MTU: an estimate where no node has reported its own. */
const USUAL_MTU = 1500;

export function leasesOf(store: Store, network: string): StoredLease[] {
  const leases = [...(store.view.leases.get(network)?.values() ?? [])];
  return leases.toSorted((a, b) => compareAddresses(a.subnet.base.value, b.subnet.base.value));
}

const compareAddresses = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);

export function networkMessage({ store, leaseTimes }: Sources, network: NetworkRecord): Network {
  return {
    name: network.name,
    driver: network.driver,
    subnet: subnetIn(network, 4)?.toString() ?? '',
    subnet6: subnetIn(network, 6)?.toString(),
    hostPrefix: hostPrefixIn(network, 4) ?? 0,
    hostPrefix6: hostPrefixIn(network, 6),
    mtu: network.mtu,
    internal: network.internal,
    masquerade: network.masquerade,
    portSecurity: network.portSecurity !== false,
    directAccess: hasDirectAccess(network),
    isolated: network.isolated === true,
    ...describeNetwork(network),
    move: moveOf(store, network),
    leases: leasesOf(store, network.name).map((lease) => leaseMessage(lease, leaseTimes)),
    endpoints: store.view.endpoints.get(network.name)?.size ?? 0,
    routes: [...store.view.networks.values()]
      .filter((other) => areRouted(network, other))
      .map(({ name }) => name)
      .toSorted(),
  };
}

function leaseMessage(lease: StoredLease, leaseTimes: LeaseTimes): Lease {
  return {
    node: lease.node,
    subnet: subnetIn(lease, 4)?.toString() ?? '',
    subnet6: subnetIn(lease, 6)?.toString(),
    publicIp: lease.publicIp.toString(),
    ...describeLease(lease),
    expires: leaseTimes.expiry(lease),
  };
}

export function endpointMessage(sources: Sources, endpoint: EndpointRecord): Endpoint {
  const { counters, store } = sources;
  const lease = counters.leaseOf(endpoint.node, endpoint.network);
  const { id, name, network, node, target, ifname, hostIfname, mac, aliases } = endpoint;
  return {
    id,
    name,
    network,
    node,
    target,
    ifname,
    hostIfname,
    mac,
    ip: textIn(endpoint, 4) ?? '',
    ip6: textIn(endpoint, 6),
    aliases,
    allowedAddresses: endpoint.allowedAddresses ?? [],
    drops: [],
    gateway: gatewayText(store.view.networks.get(endpoint.network), endpoint, lease),
    mtu: mtuOf(sources, endpoint.node, store.view.networks.get(endpoint.network)),
    vlan: endpoint.vlan,
    publish: endpoint.publish,
    manager: endpoint.manager,
    labels: endpoint.labels ?? {},
    warnings: [],
  };
}

function gatewayText(
  network: NetworkRecord | undefined,
  endpoint: EndpointRecord,
  lease: StoredLease | undefined,
): string {
  if (network === undefined) return lease === undefined ? '' : gatewayOf(lease.subnet).toString();
  return firstGateway({ network, lease }, endpoint)?.toString() ?? '';
}

/** As a node reports it, else as it follows from a usual underlay. */
function mtuOf({ reports }: Sources, node: string, network: NetworkRecord | undefined): number {
  const told = reports.reportOf(node)?.status.networks.find((it) => it.name === network?.name)?.mtu;
  if (told !== undefined && told > 0) return told;
  return network === undefined ? USUAL_MTU : driverOf(network).usualMtu(network, USUAL_MTU);
}
