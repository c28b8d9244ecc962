// Requests and output of the commands.
//
// Tables for people, JSON and YAML in the documented shapes for programs.
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';
import { parse } from 'yaml';

import { Fakes, run } from './fakes.js';
import { endpointJson, networkJson, nodeJson, problem, status } from './samples.js';

const fakes = new Fakes();
test.before(() => fakes.start());
test.after.always(() => fakes.stop());

const COMMANDS: { line: string; json: object; table: RegExp[] }[] = [
  { line: 'network create blue --subnet 10.100.0.0/16', json: networkJson, table: [/^blue\n$/] },
  {
    line: 'network inspect blue',
    json: networkJson,
    table: [/^Subnet: +10\.100\.0\.0\/16/m, /10\.100\.5\.0\/24/],
  },
  {
    line: 'network ls',
    json: [networkJson],
    table: [/^NAME {2,}DRIVER {2,}/, /^blue {2,}overlay {2,}10\.100\.0\.0\/16/m],
  },
  { line: 'network rm blue', json: { name: 'blue' }, table: [/^blue\n$/] },
  { line: 'attach blue web', json: endpointJson, table: [/^IP: +10\.100\.5\.2\/24$/m] },
  { line: 'detach blue web', json: endpointJson, table: [/^web\n$/] },
  { line: 'endpoint inspect 0123', json: endpointJson, table: [/^Node: +a$/m] },
  { line: 'endpoint ls', json: [endpointJson], table: [/^ID {2,}NAME {2,}/, /web {2,}blue {2,}a/] },
  { line: 'node inspect a', json: nodeJson, table: [/^State: +up/m] },
  { line: 'node ls', json: [nodeJson], table: [/^NAME {2,}/, /192\.0\.2\.10/] },
  { line: 'node rm a', json: { name: 'a' }, table: [/^a\n$/] },
];

for (const { line, json, table } of COMMANDS) {
  test(`weft ${line}: table, json and yaml`, async (t) => {
    const words = line.split(' ');
    const [asTable, asJson, asYaml] = await Promise.all([
      fakes.weft(...words),
      fakes.weft(...words, '-o', 'json'),
      fakes.weft(...words, '--output=yaml'),
    ]);
    for (const { code, stderr } of [asTable, asJson, asYaml])
      t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
    // More fields may be added later; the documented ones have these values.
    t.like(JSON.parse(asJson.stdout), json);
    t.deepEqual(parse(asYaml.stdout), JSON.parse(asJson.stdout));
    for (const pattern of table) t.regex(asTable.stdout, pattern);
    // eslint-disable-next-line no-control-regex -- output to a pipe has no colours
    t.notRegex(asTable.stdout, /\u001B|[ \t]$/m);
  });
}

test.serial('weft attach: a warning goes to stderr, and the endpoint to stdout as always', async (t) => {
  fakes.warnings = ['network blue has no tunnel on this node'];
  t.teardown(() => {
    fakes.warnings = [];
  });
  const { code, stdout, stderr } = await fakes.weft('attach', 'blue', 'web', '-o', 'json');
  t.deepEqual([code, stderr], [0, 'weft: warning: network blue has no tunnel on this node\n']);
  const inspected = await fakes.weft('endpoint', 'inspect', '0123', '-o', 'json');
  t.deepEqual({ ...(JSON.parse(stdout) as object), events: [] }, JSON.parse(inspected.stdout));
});

test('weft status: the agent’s view, in every format', async (t) => {
  const [asTable, asJson] = await Promise.all([fakes.weft('status'), fakes.weft('status', '-o', 'json')]);
  t.is(asJson.code, 0);
  t.like(JSON.parse(asJson.stdout), {
    health: 'ok',
    node: { name: 'a' },
    store: { state: 'connected' },
    controller: { state: 'connected' },
    peers: [
      { node: 'b', publicIp: '192.0.2.11', state: 'up', rttMs: 0.42 },
      { node: 'c', publicIp: '192.0.2.12', state: 'down', rttMs: null },
    ],
    problems: [],
  });
  t.regex(asTable.stdout, /^Health: +ok$/m);
  t.regex(asTable.stdout, /0\.42 ms +1 ok, blue IPv6 mtu 1350$/m);
  t.deepEqual((JSON.parse(asJson.stdout) as { peers: { paths: unknown[] }[] }).peers[1]?.paths, [
    { network: 'blue', family: 4, state: 'node-down', mtu: null, rttMs: 0.42 },
  ]);
});

test.serial('weft status: exit status 1 only where health is down', async (t) => {
  try {
    for (const [health, code] of [
      ['degraded', 0],
      ['down', 1],
    ] as const) {
      fakes.agentStatus = { ...status, health, problems: [problem('store', 'gone', 'start it', ['so'])] };
      const ran = await fakes.weft('status', '-o', 'json');
      t.is(ran.code, code);
      const problems = [{ what: 'store', why: 'gone', fix: 'start it', consequences: ['so'] }];
      t.like(JSON.parse(ran.stdout), { health, problems });
    }
  } finally {
    fakes.agentStatus = status;
  }
});

/** A request of `network create` without any option. */
const NOTHING_ASKED = {
  ...{
    driver: undefined,
    backend: undefined,
    subnet6: undefined,
    hostPrefix: undefined,
    hostPrefix6: undefined,
  },
  ...{ vni: undefined, port: undefined, mtu: undefined, internal: false, noMasquerade: false, force: false },
  ...{ vlan: undefined, parent: undefined, range: undefined, gateway: undefined, gatewayNode: undefined },
  ...{ allowVlan: undefined, directRouting: false, backendOptions: {} },
  ...{ portSecurity: undefined, directAccess: undefined },
};

test.serial('every option of create and attach reaches the services', async (t) => {
  fakes.asked.length = 0;
  await fakes.weft(
    ...'network create blue --subnet 10.100.0.0/16 --subnet6 fd42:100::/48 --host-prefix 25 --host-prefix6 80'.split(
      ' ',
    ),
    ...'--vni 5000 --port 4789 --mtu 1400 --driver overlay --backend vxlan --internal --no-masquerade --port-security off --direct-access on'.split(
      ' ',
    ),
  );
  await fakes.weft(
    ...'network create v100 --subnet 198.51.100.0/24 --driver vlan --vlan 100 --parent eth1 --force'.split(
      ' ',
    ),
    ...'--range 198.51.100.128/25 --gateway 198.51.100.1 --gateway-node h1 --allow-vlan 300,200-210'.split(
      ' ',
    ),
  );
  await fakes.weft(
    ...'attach blue pid:4711 --name web --alias www --alias w3 --ip 10.100.5.9 --ip6 fd42:100::9'.split(' '),
    ...'--mac 02-00-00-00-00-2A --ifname net7 --no-default-route --publish 8080:80 --publish 53:53/udp --everywhere --allowed-address 10.100.7.200 --allowed-address fd42:200::/64 --label role=web --label tier='.split(
      ' ',
    ),
  );
  await fakes.weft('network', 'rm', 'blue', '--force');
  await fakes.weft('endpoint', 'ls', '--network', 'blue', '--node', 'a');
  const direct = ['network', 'create', 'red', '--subnet', '10.101.0.0/16', '--direct-routing'];
  await fakes.weft(...direct);
  t.deepEqual(fakes.asked, [
    [
      'createNetwork',
      {
        name: 'blue',
        subnet: '10.100.0.0/16',
        subnet6: 'fd42:100::/48',
        driver: 'overlay',
        backend: 'vxlan',
        hostPrefix: 25,
        hostPrefix6: 80,
        vni: 5000,
        port: 4789,
        mtu: 1400,
        internal: true,
        noMasquerade: true,
        allowVlan: undefined,
        force: false,
        gateway: undefined,
        gatewayNode: undefined,
        parent: undefined,
        range: undefined,
        vlan: undefined,
        directRouting: false,
        backendOptions: {},
        portSecurity: false,
        directAccess: true,
      },
    ],
    [
      'createNetwork',
      {
        allowVlan: '200-210,300',
        portSecurity: undefined,
        directAccess: undefined,
        directRouting: false,
        backendOptions: {},
        backend: undefined,
        driver: 'vlan',
        force: true,
        gateway: '198.51.100.1',
        gatewayNode: 'h1',
        hostPrefix: undefined,
        hostPrefix6: undefined,
        internal: false,
        mtu: undefined,
        name: 'v100',
        noMasquerade: false,
        parent: 'eth1',
        port: undefined,
        range: '198.51.100.128/25',
        subnet: '198.51.100.0/24',
        subnet6: undefined,
        vlan: 100,
        vni: undefined,
      },
    ],
    [
      'attach',
      {
        network: 'blue',
        target: 'pid:4711',
        name: 'web',
        aliases: ['www', 'w3'],
        allowedAddresses: ['10.100.7.200/32', 'fd42:200::/64'],
        labels: { role: 'web', tier: '' },
        publish: ['8080:80', '53:53/udp'],
        publishEverywhere: true,
        vlan: undefined,
        dns: false,
        ip: '10.100.5.9',
        ip6: 'fd42:100::9',
        mac: '02:00:00:00:00:2a',
        ifname: 'net7',
        noDefaultRoute: true,
      },
    ],
    ['deleteNetwork', { name: 'blue', force: true }],
    ['listEndpoints', { network: 'blue', node: 'a' }],
    ['createNetwork', { ...NOTHING_ASKED, name: 'red', subnet: '10.101.0.0/16', directRouting: true }],
  ]);
});

test('runs through a symbolic link, from another folder, and prints its version and its commands', async (t) => {
  const link = join(fakes.folder, 'weft');
  symlinkSync((await import('./fakes.js')).WEFT, link);
  const [version, help] = await Promise.all([run(['--version'], {}, link), run(['help'], {}, link)]);
  t.regex(version.stdout, /^(weft )?\d+\.\d+\.\d+\n$/);
  for (const word of [
    'network',
    'attach',
    'detach',
    'endpoint',
    'node',
    'status',
    'completion',
    'agent',
    'controller',
  ])
    t.regex(help.stdout, new RegExp(`^  ${word}\\b`, 'm'));
});
