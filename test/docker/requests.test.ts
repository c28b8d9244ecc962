// The plugin socket without an engine: the protocol, and broken requests.
//
// Requests of newer engines, and requests that are repeated, empty, partial, or about unknown objects. Titles name libnetwork's
// tests of remote drivers (drivers/remote/driver_test.go, ipams/remote/remote_test.go) where one exists.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { Cluster } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import type { Namespace } from '../lab/lab.js';
import { enterSandbox, PluginClient, type JoinAnswer } from './plugin.js';

let cluster: Cluster;
let docker: PluginClient;

const SUBNET = '10.9.0.0/16';
const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };
/** Docker's ids are 64 hexadecimal digits. */
const idOf = (n: number): string => n.toString(16).padStart(64, 'd');

async function setUp(): Promise<void> {
  cluster = await Cluster.create(1);
  const socket = join(cluster.folder, 'plugin.sock');
  await cluster.startController();
  cluster.dockerHost('h1', cluster.lab.host(1), [
    '--cnm-socket',
    socket,
    '--docker',
    `unix://${join(cluster.folder, 'none.sock')}`,
  ]);
  await cluster.startAgents(['h1']);
  docker = new PluginClient(socket);
}

shareAmongTests(test, setUp, async () => cluster?.lab.down());

interface PoolAnswer {
  PoolID: string;
  Pool: string;
}

/** RequestPool, gateway and CreateNetwork, in Docker's order. */
async function makeNetwork(
  id: string,
  subnet: string,
  options: Record<string, unknown> = {},
  ipam: Record<string, string> = {},
): Promise<{ pool: string; gateway: string }> {
  const { PoolID } = await docker.must<PoolAnswer>('IpamDriver.RequestPool', {
    AddressSpace: 'weft',
    Pool: subnet,
    SubPool: '',
    Options: ipam,
    V6: false,
  });
  const { Address } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
    PoolID,
    Address: '',
    Options: GATEWAY,
  });
  await docker.must('NetworkDriver.CreateNetwork', createOf(id, subnet, Address, options));
  return { pool: PoolID, gateway: Address };
}

const createOf = (
  id: string,
  subnet: string,
  gateway: string,
  options: Record<string, unknown> = {},
): object => ({
  NetworkID: id,
  Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {}, ...options },
  IPv4Data: [{ AddressSpace: 'weft', Pool: subnet, Gateway: gateway, AuxAddresses: {} }],
  IPv6Data: [],
});

async function removeNetwork(id: string, pool: string, gateway: string): Promise<void> {
  await docker.must('IpamDriver.ReleaseAddress', { PoolID: pool, Address: gateway.split('/')[0] });
  await docker.must('IpamDriver.ReleasePool', { PoolID: pool });
  await docker.must('NetworkDriver.DeleteNetwork', { NetworkID: id });
}

/** Both keys carry the message, because network and IPAM drivers read different ones; the status is 200. */
async function refused(t: ExecutionContext, method: string, body: unknown, words: RegExp): Promise<void> {
  const { status, body: answer } = await docker.ask(method, body);
  t.is(status, 200);
  t.regex(String(answer[method.startsWith('Ipam') ? 'Error' : 'Err']), words);
}

test.serial(
  'TestGetEmptyCapabilities, TestGetExtraCapabilities: local to the host, connected across hosts',
  async (t) => {
    t.deepEqual(await docker.must('Plugin.Activate'), { Implements: ['NetworkDriver', 'IpamDriver'] });
    t.deepEqual(await docker.must('NetworkDriver.GetCapabilities'), {
      Scope: 'local',
      ConnectivityScope: 'global',
      GwAllocChecker: true,
    });
  },
);

test.serial(
  'TestGetCapabilities, TestGetDefaultAddressSpaces (IPAM): nothing is replayed, one address space',
  async (t) => {
    t.deepEqual(await docker.must('IpamDriver.GetCapabilities'), {
      RequiresMACAddress: false,
      RequiresRequestReplay: false,
    });
    t.deepEqual(await docker.must('IpamDriver.GetDefaultAddressSpaces'), {
      LocalDefaultAddressSpace: 'weft',
      GlobalDefaultAddressSpace: 'weft',
    });
  },
);

test.serial(
  'an unknown method is 404, and one that only swarm plugins get is an empty success',
  async (t) => {
    t.is((await docker.ask('NetworkDriver.Dance')).status, 404);
    t.is((await docker.ask('')).status, 404);
    for (const method of ['AllocateNetwork', 'FreeNetwork', 'DiscoverNew', 'DiscoverDelete']) {
      const { status, body } = await docker.ask(`NetworkDriver.${method}`, {
        NetworkID: idOf(1),
        DiscoveryType: 1,
        DiscoveryData: { Address: '192.0.2.1', Self: true },
      });
      t.is(status, 200);
      t.is(body.Err, undefined);
    }
    t.deepEqual(await docker.must('NetworkDriver.GwAllocCheck', { Options: {} }), {
      SkipIPv4: false,
      SkipIPv6: false,
    });
  },
);

test.serial('odd or absent content types, queries, and an empty gzip change nothing', async (t) => {
  for (const type of [
    'application/json',
    'text/plain',
    'application/vnd.docker.plugins.v9+json; charset=utf-8',
  ]) {
    const { body, headers } = await docker.ask('IpamDriver.GetCapabilities', {}, { 'content-type': type });
    t.false(body['RequiresMACAddress']);
    t.regex(String(headers['content-type']), /^application\/vnd\.docker\.plugins\.v1/);
  }
});

test.serial(
  'TestMissingValues, TestDriverError: empty and partial requests are errors, and the plugin goes on',
  async (t) => {
    for (const method of [
      'NetworkDriver.CreateNetwork',
      'NetworkDriver.DeleteNetwork',
      'NetworkDriver.CreateEndpoint',
      'NetworkDriver.Join',
      'NetworkDriver.Leave',
      'NetworkDriver.DeleteEndpoint',
      'NetworkDriver.ProgramExternalConnectivity',
      'IpamDriver.RequestAddress',
      'IpamDriver.ReleaseAddress',
      'IpamDriver.ReleasePool',
    ]) {
      await refused(t, method, '', /the request is empty/);
      await refused(t, method, '{"NetworkID":"abc', /no JSON, or incomplete/);
      await refused(t, method, '[1]', /expected object/i);
      await refused(t, method, 'null', /expected|required|empty/i);
    }
    await refused(
      t,
      'NetworkDriver.DeleteNetwork',
      { NetworkID: '../../etc/passwd' },
      /NetworkID: expected an id/,
    );
    await refused(t, 'NetworkDriver.DeleteNetwork', { NetworkID: 7 }, /NetworkID/);
    await refused(
      t,
      'NetworkDriver.CreateEndpoint',
      { NetworkID: idOf(9), EndpointID: idOf(9), Interface: { Address: '10.9.1.2/24' } },
      /does not know Docker's network/,
    );
    await refused(
      t,
      'NetworkDriver.Join',
      { NetworkID: idOf(9), EndpointID: idOf(9), SandboxKey: '/run/x' },
      /does not know Docker's endpoint/,
    );
    await refused(t, 'IpamDriver.RequestAddress', { PoolID: 'nobody' }, /does not know the pool nobody/);
    await docker.half(
      'POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"NetworkID":',
    );
    await docker.half('POST /Netw');
    await docker.half('\x16\x03\x01 what is this');
    t.true(Array.isArray((await docker.must('Plugin.Activate'))['Implements']));
    t.regex(cluster.process('agent-h1').log(), /the Docker plugin serves/);
    t.notRegex(cluster.process('agent-h1').log(), /a fault in weft/);
  },
);

test.serial('TestRemoteDriver (IPAM): pools, part of a pool, and addresses', async (t) => {
  const pool = await docker.must<PoolAnswer>('IpamDriver.RequestPool', {
    AddressSpace: 'weft',
    Pool: '10.70.0.0/16',
    SubPool: '10.70.3.0/24',
    Options: null,
    V6: false,
  });
  t.is(pool.Pool, '10.70.0.0/16');
  const gateway = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
    PoolID: pool.PoolID,
    Address: '',
    Options: GATEWAY,
  });
  t.is(gateway.Address, '10.70.3.1/24');
  // Repeated, as after a broken connection: the same answer.
  t.deepEqual(
    await docker.must('IpamDriver.RequestAddress', { PoolID: pool.PoolID, Address: '', Options: GATEWAY }),
    { ...gateway, Data: {} },
  );
  t.like(
    await docker.must('IpamDriver.RequestAddress', {
      PoolID: pool.PoolID,
      Address: '10.70.3.9',
      Options: null,
    }),
    { Address: '10.70.3.9/16' },
  );
  await refused(
    t,
    'IpamDriver.RequestAddress',
    { PoolID: pool.PoolID, Address: '10.71.0.1', Options: null },
    /not an address of 10\.70\.0\.0\/16/,
  );
  await refused(
    t,
    'IpamDriver.RequestAddress',
    { PoolID: pool.PoolID, Address: '', Options: null },
    /-d weft --ipam-driver weft/,
  );
  const none = await docker.must<PoolAnswer>('IpamDriver.RequestPool', {
    AddressSpace: 'weft',
    Pool: '',
    SubPool: '',
    Options: {},
    V6: false,
  });
  const other = await docker.must<PoolAnswer>('IpamDriver.RequestPool', {
    AddressSpace: 'weft',
    Pool: '',
    SubPool: '',
    Options: {},
    V6: false,
  });
  const six = await docker.must<PoolAnswer>('IpamDriver.RequestPool', {
    AddressSpace: 'weft',
    Pool: '',
    SubPool: '',
    Options: {},
    V6: true,
  });
  t.not(none.Pool, other.Pool);
  t.regex(six.Pool, /^fd[0-9a-f:]+\/48$/);
  for (const { PoolID } of [pool, none, other, six]) {
    await docker.must('IpamDriver.ReleasePool', { PoolID });
    await docker.must('IpamDriver.ReleasePool', { PoolID });
  }
  t.is(
    await cluster.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/'),
    '',
    'nothing is written before CreateNetwork',
  );
});

test.serial('an engine that refuses every offered subnet gets an error in the end', async (t) => {
  const held: string[] = [];
  for (let i = 0; i < 100; i++) {
    const { body } = await docker.ask('IpamDriver.RequestPool', {
      AddressSpace: 'weft',
      Pool: '',
      SubPool: '',
      Options: {},
      V6: false,
    });
    if (body.Error !== undefined) break;
    held.push(String(body['PoolID']));
  }
  t.true(held.length < 100);
  t.is(new Set(held.map((id) => id.slice(0, -12))).size, held.length);
  for (const PoolID of held) await docker.must('IpamDriver.ReleasePool', { PoolID });
});

test.serial(
  'TestRemoteDriver: a network and an endpoint from the first request to the last, each sent twice',
  async (t) => {
    const network = idOf(1);
    const { pool, gateway } = await makeNetwork(network, SUBNET);
    await docker.must('NetworkDriver.CreateNetwork', createOf(network, SUBNET, gateway));
    t.like(await cluster.json('h1', 'network', 'inspect', 'net-10-9-0-0-16'), { subnet: SUBNET });
    const { container, name, ip } = await connect(t, network, pool, 1);
    const [host] = [cluster.lab.host(1)];
    t.is((await container.exec(['ping', '-c', '1', '-w', '5', gateway.split('/')[0] ?? ''])).code, 0);
    t.is((await container.exec(['ping', '-c', '1', '-w', '5', '198.51.100.1'])).code, 0);
    const shown = await cluster.json<{ name: string; ip: string; sandbox?: unknown }[]>(
      'h1',
      'endpoint',
      'ls',
    );
    t.is(shown[0]?.ip, ip);
    t.deepEqual(
      Object.keys(
        (
          await docker.must<{ Value: object }>('NetworkDriver.EndpointOperInfo', {
            NetworkID: network,
            EndpointID: idOf(101),
          })
        ).Value,
      ).sort(),
      ['weft.endpoint', 'weft.hostIfname', 'weft.network', 'weft.node'],
    );
    t.is(name, 'eth0');
    await disconnect(network, pool, 1, ip);
    await disconnect(network, pool, 1, ip);
    t.notRegex(await host.must(['ip', '-o', 'link']), /wfep|wfin/);
    await removeNetwork(network, pool, gateway);
    await removeNetwork(network, pool, gateway);
    t.deepEqual(await cluster.json('h1', 'network', 'ls'), []);
    await container.remove();
  },
);

/** A container from RequestAddress to its running interface. */
async function connect(
  t: ExecutionContext,
  network: string,
  pool: string,
  n: number,
  extra: { address?: string; mac?: string; options?: object } = {},
): Promise<{ container: Namespace; name: string; ip: string; mac: string }> {
  const { Address } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
    PoolID: pool,
    Address: extra.address ?? '',
    Options: null,
  });
  const endpoint = {
    NetworkID: network,
    EndpointID: idOf(100 + n),
    Interface: { Address, AddressIPv6: '', MacAddress: extra.mac ?? '' },
    Options: extra.options ?? {},
  };
  const created = await docker.must<{ Interface: { MacAddress?: string } }>(
    'NetworkDriver.CreateEndpoint',
    endpoint,
  );
  t.deepEqual(await docker.must('NetworkDriver.CreateEndpoint', endpoint), created);
  t.deepEqual(
    Object.keys(created.Interface),
    extra.mac === undefined ? ['MacAddress'] : [],
    'values from the request are not repeated',
  );
  const mac = extra.mac ?? created.Interface.MacAddress ?? '';
  const sandbox = `s${n}`;
  const key = `/run/netns/${cluster.lab.run}-${sandbox}`;
  const ask = { NetworkID: network, EndpointID: idOf(100 + n), SandboxKey: key, Options: null };
  const joined = await docker.must<JoinAnswer>('NetworkDriver.Join', ask);
  t.deepEqual(await docker.must('NetworkDriver.Join', ask), joined);
  const container = await cluster.lab.container(sandbox);
  const name = await enterSandbox(cluster.lab.host(1), container, joined, { address: Address, mac });
  await docker.must('NetworkDriver.ProgramExternalConnectivity', {
    NetworkID: network,
    EndpointID: idOf(100 + n),
    Options: {},
  });
  return { container, name, ip: Address, mac };
}

async function disconnect(network: string, pool: string, n: number, ip: string): Promise<void> {
  const ids = { NetworkID: network, EndpointID: idOf(100 + n) };
  await docker.must('NetworkDriver.RevokeExternalConnectivity', ids);
  await docker.must('NetworkDriver.Leave', ids);
  await docker.must('NetworkDriver.DeleteEndpoint', ids);
  await docker.must('IpamDriver.ReleaseAddress', { PoolID: pool, Address: ip.split('/')[0] });
}

test.serial('TestRollback: a failed step is rolled back', async (t) => {
  const network = idOf(2);
  const { pool, gateway } = await makeNetwork(network, SUBNET);
  const own = gateway.replace(/1\/24$/, '50');
  for (let n = 0; n < 3; n++) {
    const { Address } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
      PoolID: pool,
      Address: own,
      Options: null,
    });
    await refused(
      t,
      'NetworkDriver.CreateEndpoint',
      {
        NetworkID: network,
        EndpointID: idOf(200),
        Interface: { Address, AddressIPv6: '', MacAddress: 'ff:ff:ff:ff:ff:ff' },
      },
      /multicast/,
    );
    await docker.must('IpamDriver.ReleaseAddress', { PoolID: pool, Address: own });
  }
  // A pool whose network was never created.
  const { PoolID } = await docker.must<PoolAnswer>('IpamDriver.RequestPool', {
    AddressSpace: 'weft',
    Pool: '10.80.0.0/16',
    Options: {},
  });
  const { Address } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
    PoolID,
    Address: '',
    Options: GATEWAY,
  });
  const another = Address.startsWith('10.80.255.') ? '10.80.254.1/24' : '10.80.255.1/24';
  await refused(
    t,
    'NetworkDriver.CreateNetwork',
    createOf(idOf(3), '10.80.0.0/16', another),
    /--ipam-driver weft/,
  );
  await docker.must('IpamDriver.ReleasePool', { PoolID });
  await removeNetwork(network, pool, gateway);
  t.deepEqual(await cluster.json('h1', 'network', 'ls'), []);
});

test.serial('a late release does not free the address of a running container', async (t) => {
  const network = idOf(4);
  const { pool, gateway } = await makeNetwork(network, SUBNET);
  const one = await connect(t, network, pool, 4);
  await docker.must('IpamDriver.ReleaseAddress', { PoolID: pool, Address: one.ip.split('/')[0] });
  await refused(
    t,
    'IpamDriver.RequestAddress',
    { PoolID: pool, Address: one.ip.split('/')[0], Options: null },
    /in use/,
  );
  await refused(
    t,
    'IpamDriver.RequestAddress',
    { PoolID: pool, Address: gateway.split('/')[0], Options: null },
    /is the gateway/,
  );
  await cluster.until('weft has the endpoint', async () =>
    (await cluster.json<{ ifname: string }[]>('h1', 'endpoint', 'ls')).some(
      ({ ifname }) => ifname === 'eth0',
    ),
  );
  // The container's namespace ends without a request: its address is free for the next.
  await one.container.remove();
  await cluster.until('its address is free', async () => {
    const { body } = await docker.ask('IpamDriver.RequestAddress', {
      PoolID: pool,
      Address: one.ip.split('/')[0],
      Options: null,
    });
    return body.Error === undefined;
  });
  await docker.must('IpamDriver.ReleaseAddress', { PoolID: pool, Address: one.ip.split('/')[0] });
  await removeNetwork(network, pool, gateway);
});

test.serial('concurrent requests never get one address twice', async (t) => {
  const network = idOf(5);
  const { pool, gateway } = await makeNetwork(network, SUBNET);
  const all = await Promise.all(
    Array.from({ length: 120 }, () =>
      docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
        PoolID: pool,
        Address: '',
        Options: null,
      }),
    ),
  );
  const ips = all.map(({ Address }) => Address);
  t.is(new Set(ips).size, 120);
  t.false(ips.includes(gateway));
  // They survive a restart, and only the rest of the subnet is free.
  await cluster.process('agent-h1').kill();
  await cluster.startAgents(['h1']);
  const rest: string[] = [];
  for (;;) {
    const { body } = await docker.ask('IpamDriver.RequestAddress', {
      PoolID: pool,
      Address: '',
      Options: null,
    });
    if (body.Error !== undefined) {
      t.regex(body.Error, /every address of .* is in use/);
      break;
    }
    rest.push(String(body['Address']));
  }
  t.is(new Set([...ips, ...rest]).size, 253);
  await Promise.all(
    [...ips, ...rest].map((ip) =>
      docker.must('IpamDriver.ReleaseAddress', { PoolID: pool, Address: ip.split('/')[0] }),
    ),
  );
  await removeNetwork(network, pool, gateway);
});

test.serial(
  'the requests of Docker 28: more fields, nulls where older engines send empty lists',
  async (t) => {
    const network = idOf(6);
    const { PoolID } = await docker.must<PoolAnswer>('IpamDriver.RequestPool', {
      AddressSpace: 'weft',
      Pool: SUBNET,
      SubPool: '',
      Options: {},
      V6: false,
    });
    t.deepEqual(
      await docker.must('NetworkDriver.GwAllocCheck', { Options: { 'com.docker.network.internal': false } }),
      { SkipIPv4: false, SkipIPv6: false },
    );
    const { Address: gateway } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
      PoolID,
      Address: '',
      Options: GATEWAY,
    });
    await docker.must('NetworkDriver.CreateNetwork', {
      NetworkID: network,
      Options: {
        'com.docker.network.enable_ipv4': true,
        'com.docker.network.enable_ipv6': false,
        'com.docker.network.generic': { 'weft.network': 'modern' },
      },
      IPv4Data: [{ AddressSpace: 'weft', Pool: SUBNET, Gateway: gateway, AuxAddresses: null }],
      IPv6Data: null,
    });
    const { Address } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
      PoolID,
      Address: '',
      Options: { 'com.docker.network.endpoint.macaddress': '' },
    });
    const ids = { NetworkID: network, EndpointID: idOf(106) };
    await docker.must('NetworkDriver.CreateEndpoint', {
      ...ids,
      Interface: { Address, AddressIPv6: '', MacAddress: '02:42:0a:09:00:05' },
      Options: {
        'com.docker.network.endpoint.exposedports': null,
        'com.docker.network.portmap': [],
        'com.docker.network.endpoint.ifname': 'eth0',
      },
    });
    const joined = await docker.must<JoinAnswer>('NetworkDriver.Join', {
      ...ids,
      SandboxKey: `/run/netns/${cluster.lab.run}-s6`,
      Options: { 'com.docker.network.endpoint.exposedports': [] },
    });
    t.is(joined.Gateway, gateway.split('/')[0]);
    // A failed start: Docker releases the endpoint without having joined.
    await docker.must('NetworkDriver.Leave', ids);
    await docker.must('NetworkDriver.DeleteEndpoint', ids);
    await docker.must('IpamDriver.ReleaseAddress', { PoolID, Address: Address.split('/')[0] });
    await removeNetwork(network, PoolID, gateway);
  },
);
