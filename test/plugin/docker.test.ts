// Docker’s plugin calls.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { IpNetwork } from '../../core/address.js';
import { WeftError } from '../../core/errors.js';
import { silentLogger } from '../../daemon/log.js';
import type { PluginHost, PluginProblem } from '../../daemon/plugin-host.js';
import { Networks } from '../../plugin/cnm/network.js';
import { parseAllowedAddresses, parseIpamOptions, parseNetworkOptions } from '../../plugin/cnm/options.js';
import { PluginState } from '../../plugin/cnm/plugin-state.js';
import { parsePortMap } from '../../plugin/cnm/port-map.js';
import {
  ADDRESS_SPACE,
  createNetwork,
  type CreateNetwork,
  LABEL,
  parseRequest,
} from '../../plugin/cnm/protocol.js';
import { overlay } from '../core/records.js';
import { until } from '../lab/wait.js';

// Parsing options of `docker network create` and Docker's port maps.

test('options are accepted with weft’s prefix and without it', (t) => {
  t.deepEqual(parseIpamOptions({ 'weft.network': 'blue', 'host-prefix': '26' }), {
    network: 'blue',
    hostPrefix: 26,
  });
  t.deepEqual(
    parseNetworkOptions({
      'weft.mtu': '1400',
      vni: '5000',
      'weft.internal': 'true',
      masquerade: '0',
      'weft.port': '4789',
      'weft.port-security': 'off',
      'direct-access': 'on',
    }),
    {
      ...{ mtu: 1400, vni: 5000, internal: true, masquerade: false, port: 4789 },
      ...{ portSecurity: false, directAccess: true },
    },
  );
  t.deepEqual(parseNetworkOptions({ 'com.docker.network.driver.mtu': '1400' }), { mtu: 1400 });
  t.deepEqual(parseNetworkOptions(undefined), {});
  t.deepEqual(parseNetworkOptions(null), {});
});

test('an unknown option is an error that lists the known ones', (t) => {
  for (const [options, words] of [
    [{ 'weft.colour': 'red' }, /no option weft\.colour of -o/],
    [{ 'host-prefix': '24' }, /belongs to --ipam-opt/],
    [{ mtu: 'many' }, /"many" is not a whole number/],
    [{ internal: 'perhaps' }, /neither true nor false/],
    [{ network: 'has.dots' }, /not a network name/],
    [{ mtu: '1400', 'weft.mtu': '1500' }, /given twice/],
  ] as const) {
    t.regex(t.throws(() => parseNetworkOptions(options))?.message ?? '', words);
  }
  const { next } = t.throws(() => parseNetworkOptions({ mtuu: '1' })) as unknown as { next: string };
  t.regex(next, /Did you mean weft\.mtu\? Known are weft\.network/);
});

test('the backend by name, and encryption by Docker’s own word', (t) => {
  t.deepEqual(parseNetworkOptions({ 'weft.backend': 'vxlan', 'weft.direct-routing': 'true' }), {
    backend: 'vxlan',
    directRouting: true,
  });
  t.deepEqual(parseNetworkOptions({ encrypted: '' }), { encrypted: true });
  t.throws(() => parseNetworkOptions({ backend: 'carrier-pigeon' }), { message: /carrier-pigeon/ });
});

test('a port map becomes ports of the host', (t) => {
  t.deepEqual(parsePortMap([{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }]), [
    { hostIp: '0.0.0.0', hostPorts: { first: 8080, last: 8080 }, port: 80, protocol: 'tcp' },
  ]);
  t.deepEqual(parsePortMap([{ Proto: 17, Port: 53, HostIP: '127.0.0.1', HostPort: 0, HostPortEnd: 0 }]), [
    { hostIp: '127.0.0.1', port: 53, protocol: 'udp' },
  ]);
  t.deepEqual(parsePortMap([{ Proto: 6, Port: 80, HostPort: 8000, HostPortEnd: 8010 }])[0]?.hostPorts, {
    first: 8000,
    last: 8010,
  });
  t.deepEqual(parsePortMap(null), []);
  t.deepEqual(parsePortMap(undefined), []);
});

test('a port that newer engines send for both families is one port', (t) => {
  const both = ['0.0.0.0', '::'].map((HostIP) => ({ Proto: 6, Port: 80, HostIP, HostPort: 8080 }));
  t.is(parsePortMap(both).length, 1);
  t.is(parsePortMap([{ Proto: 6, Port: 80, HostIP: '::', HostPort: 8080 }])[0]?.hostIp, '::');
});

test('an invalid port map is an error', (t) => {
  t.throws(() => parsePortMap('8080:80'));
  t.throws(() => parsePortMap([{ Proto: 6, Port: 70_000 }]));
  t.regex(t.throws(() => parsePortMap([{ Proto: 132, Port: 80 }]))?.message ?? '', /protocol 132/);
  t.throws(() => parsePortMap([{ Proto: 6, Port: 80, HostIP: 'everywhere' }]));
});

test('null and absent mean the same in a request', (t) => {
  const least = { NetworkID: 'a1', Options: {}, IPv4Data: [], IPv6Data: [] };
  t.deepEqual(parseRequest('m', createNetwork, '{"NetworkID":"a1"}'), least);
  t.deepEqual(
    parseRequest(
      'm',
      createNetwork,
      '{"NetworkID":"a1","Options":null,"IPv4Data":null,"IPv6Data":null,"New":1}',
    ),
    least,
  );
});

test('allowed addresses of an endpoint are prefixes, separated by commas', (t) => {
  t.is(parseAllowedAddresses({ 'com.docker.network.portmap': [] }), undefined);
  t.deepEqual(parseAllowedAddresses({ 'weft.allowed-address': '10.9.7.200,10.8.0.0/16' }), [
    '10.9.7.200/32',
    '10.8.0.0/16',
  ]);
  t.throws(() => parseAllowedAddresses({ 'weft.allowed-address': 'web' }), { message: /allowed-address/ });
});

// A Docker network that is named while its record cannot be saved.

function stateFor(t: ExecutionContext): { folder: string; state: PluginState } {
  const folder = mkdtempSync(join(tmpdir(), 'weft-plugin-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const state = new PluginState(folder);
  state.load();
  return { folder, state };
}

const putPool = (state: PluginState, subnet: string, hostSubnet: string): void =>
  state.pools.put({
    ...{ id: 'pool', family: 4, subnet, hostSubnet, hostPrefix: 24 },
    ...{ auto: false, aux: [], released: false, createdAt: new Date().toISOString() },
  });

const request = (pool: string, gateway: string, space = ADDRESS_SPACE): CreateNetwork => ({
  NetworkID: 'n1',
  Options: {},
  IPv4Data: [{ AddressSpace: space, Pool: pool, Gateway: gateway, AuxAddresses: {} }],
  IPv6Data: [],
});

test('a name that cannot be saved is a problem, and is set once it can be saved', async (t) => {
  const { folder, state } = stateFor(t);
  putPool(state, '10.9.0.0/16', '10.9.1.0/24');
  const problems = new Map<string, string>();
  const ended = new AbortController();
  t.teardown(() => ended.abort());
  const network = overlay({ name: 'green', subnet: '10.9.0.0/16' });
  const host = {
    log: silentLogger,
    signal: ended.signal,
    networks: {
      list: () => [],
      get: () => undefined,
      check: () => Promise.resolve(network),
      create: () => Promise.resolve(network),
      join: () => Promise.resolve(undefined),
      leave: () => Promise.resolve(),
    },
    problem: ({ kind, id = '' }: PluginProblem, problem: { fix: string } | undefined) =>
      problem === undefined ? problems.delete(`${kind} ${id}`) : problems.set(`${kind} ${id}`, problem.fix),
  } as unknown as PluginHost;
  let say = (_name: string): void => {};
  const name = new Promise<string>((resolve) => (say = resolve));
  const networks = new Networks({ host, state, nameOf: () => name, hasNames: () => true });
  await networks.create(request('10.9.0.0/16', '10.9.1.1/24'));
  const records = join(folder, 'networks');
  renameSync(records, `${records}.away`);
  writeFileSync(records, '');
  say('green');
  await until('it is a problem', () => problems.get('plugin-network n1')?.includes('tried again'));
  rmSync(records);
  renameSync(`${records}.away`, records);
  await until('it has its name', () => state.networks.get('n1')?.state === 'ready');
  t.is(state.networks.get('n1')?.network, 'green');
  t.is(problems.size, 0);
});

test("without weft's IPAM driver the hint keeps a subnet that was typed, and not one that Docker chose", async (t) => {
  const { state } = stateFor(t);
  const hint = async (subnet: string, there: readonly string[] = []): Promise<string | undefined> => {
    const networks = {
      list: () => there.map((subnet) => overlay({ name: 'shop', subnet })),
      usedPrefixes: () => Promise.resolve([IpNetwork.parse('10.9.0.0/16')]),
    };
    const host = { log: silentLogger, networks } as unknown as PluginHost;
    const create = new Networks({ host, state, nameOf: () => new Promise(() => {}), hasNames: () => true });
    const refused = await t.throwsAsync(create.create(request(subnet, '', 'LocalDefault')), {
      instanceOf: WeftError,
    });
    return /--subnet (\S+)/.exec(refused?.next ?? '')?.[1];
  };
  for (const typed of ['10.40.0.0/16', '172.28.5.0/24', '192.168.77.0/24', '172.20.0.0/14'])
    t.is(await hint(typed), typed);
  for (const chosen of ['172.18.0.0/16', '192.168.48.0/20']) t.is(await hint(chosen), '10.10.0.0/16');
  t.is(await hint('172.28.0.0/16', ['172.28.0.0/16']), '172.28.0.0/16', 'a network of the other hosts');
});

test('what a host takes of a network as it is, since it named it, is logged', async (t) => {
  const { state } = stateFor(t);
  putPool(state, '10.9.0.0/16', '10.9.1.0/24');
  const network = overlay({ name: 'green', subnet: '10.9.0.0/16', mtu: 1400, masquerade: false });
  const warnings: unknown[] = [];
  const host = {
    log: { ...silentLogger, warn: (_words: string, fields: unknown) => warnings.push(fields) },
    networks: {
      list: () => [network],
      get: () => network,
      nodes: () => ['h1'],
      join: () => Promise.resolve(undefined),
    },
  } as unknown as PluginHost;
  const networks = new Networks({ host, state, nameOf: () => new Promise(() => {}), hasNames: () => true });
  const asked = request('10.9.0.0/16', '10.9.1.1/24');
  await t.throwsAsync(networks.create(asked), {
    message: /has mtu 1400 and masquerade false, .* leaves them out/,
  });
  t.deepEqual(warnings, []);
  await networks.create({ ...asked, Options: { [LABEL.generic]: { 'weft.network': 'green' } } });
  t.deepEqual(warnings, [{ network: 'green', options: 'mtu 1400, masquerade false' }]);
});
