// Docker plugin requests that are valid, or nearly so: seeds for the fuzzer.
//
// One of each method; garbage made of these gets past the first checks.

/** Optional settings of a network in Docker's requests. */
export const NAMED = { 'com.docker.network.generic': { 'weft.network': 'dock' } };
/** Docker's ids are 64 hexadecimal digits. */
export const idOf = (n: number): string => n.toString(16).padStart(64, 'd');

/** Requests that would succeed, each after those that it needs; `rollback` is the method that reverts it. */
export const PLUGIN_REQUESTS: readonly {
  method: string;
  body: Record<string, unknown>;
  rollback?: string;
}[] = [
  { method: 'Plugin.Activate', body: {} },
  { method: 'NetworkDriver.GetCapabilities', body: {} },
  { method: 'NetworkDriver.GwAllocCheck', body: { Options: {} } },
  { method: 'NetworkDriver.AllocateNetwork', body: { NetworkID: idOf(1) } },
  { method: 'NetworkDriver.FreeNetwork', body: { NetworkID: idOf(1) } },
  { method: 'NetworkDriver.DiscoverNew', body: { DiscoveryType: 1, DiscoveryData: { Self: true } } },
  { method: 'NetworkDriver.DiscoverDelete', body: { DiscoveryType: 1, DiscoveryData: { Self: true } } },
  { method: 'IpamDriver.GetCapabilities', body: {} },
  { method: 'IpamDriver.GetDefaultAddressSpaces', body: {} },
  {
    method: 'IpamDriver.RequestPool',
    body: {
      AddressSpace: 'weft',
      Pool: '10.8.0.0/16',
      SubPool: '',
      Options: { 'weft.network': 'dock2' },
      V6: false,
    },
    rollback: 'IpamDriver.ReleasePool',
  },
  {
    method: 'IpamDriver.RequestAddress',
    body: { PoolID: 'POOL', Address: '', Options: { 'com.docker.network.endpoint.macaddress': '' } },
    rollback: 'IpamDriver.ReleaseAddress',
  },
  {
    method: 'NetworkDriver.CreateNetwork',
    body: {
      ...{
        NetworkID: idOf(2),
        Options: { ...NAMED, 'com.docker.network.enable_ipv6': false },
        IPv6Data: [],
      },
      IPv4Data: [
        {
          AddressSpace: 'weft',
          Pool: '10.8.0.0/16',
          Gateway: '10.8.0.1/24',
          AuxAddresses: { a: '10.8.0.9' },
        },
      ],
    },
    rollback: 'NetworkDriver.DeleteNetwork',
  },
  {
    method: 'NetworkDriver.CreateEndpoint',
    body: {
      ...{ NetworkID: idOf(1), EndpointID: idOf(11) },
      Interface: { Address: 'ADDRESS', AddressIPv6: '', MacAddress: '02:42:0a:09:00:05' },
      Options: {
        'com.docker.network.portmap': [
          { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 },
        ],
        'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }],
      },
    },
    rollback: 'NetworkDriver.DeleteEndpoint',
  },
  { method: 'NetworkDriver.EndpointOperInfo', body: { NetworkID: idOf(1), EndpointID: idOf(11) } },
  {
    method: 'NetworkDriver.Join',
    body: { NetworkID: idOf(1), EndpointID: idOf(11), SandboxKey: '/run/netns/none', Options: {} },
    rollback: 'NetworkDriver.Leave',
  },
  {
    method: 'NetworkDriver.ProgramExternalConnectivity',
    body: {
      ...{ NetworkID: idOf(1), EndpointID: idOf(11) },
      Options: { 'com.docker.network.portmap': [{ Proto: 6, Port: 80, HostPort: 8080, HostPortEnd: 8080 }] },
    },
    rollback: 'NetworkDriver.RevokeExternalConnectivity',
  },
  { method: 'NetworkDriver.RevokeExternalConnectivity', body: { NetworkID: idOf(1), EndpointID: idOf(11) } },
  { method: 'NetworkDriver.Leave', body: { NetworkID: idOf(1), EndpointID: idOf(11) } },
  { method: 'NetworkDriver.DeleteEndpoint', body: { NetworkID: idOf(1), EndpointID: idOf(11) } },
  { method: 'NetworkDriver.DeleteNetwork', body: { NetworkID: idOf(2) } },
  { method: 'IpamDriver.ReleaseAddress', body: { PoolID: 'POOL', Address: '10.9.200.200' } },
  { method: 'IpamDriver.ReleasePool', body: { PoolID: 'NOPOOL' } },
];
