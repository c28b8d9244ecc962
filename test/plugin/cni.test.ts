// CNI requests: what each runtime sends, and the answer in each version.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { version } from '../../daemon/version.js';
import { errorBody, type ErrorBody } from '../../plugin/cni/errors.js';
import { parseRequest, versionIn, type CniRequest } from '../../plugin/cni/request.js';
import { resultOf } from '../../plugin/cni/result.js';
import { wishesOf, type Wishes } from '../../plugin/cni/wishes.js';
import { cniForm } from '../fuzz/cni-requests.js';
import { SHIM } from '../lab/cni.js';
import { exec } from '../lab/exec.js';
import { CHECKOUT } from '../lab/lab.js';
import { endpoint as sample, membership, network } from '../kernel/samples.js';

const ENVIRONMENT = {
  ...{ command: 'ADD', id: 'c0ffee', netns: '/run/netns/c1', ifname: 'eth0' },
};

const requestOf = (conf: object = {}, environment: Record<string, string> = {}): CniRequest =>
  parseRequest(
    cniForm(
      { ...ENVIRONMENT, ...environment },
      JSON.stringify({ cniVersion: '1.0.0', name: 'blue', type: 'weft', ...conf }),
    ),
  );

const wishes = (runtimeConfig: object, args = ''): Wishes => wishesOf(requestOf({ runtimeConfig }, { args }));

function refusal(make: () => unknown): ErrorBody {
  try {
    make();
  } catch (error) {
    return errorBody(error, '1.0.0');
  }
  throw new Error('it was not refused');
}

test('ports come in the cases of podman, CRI-O and go-cni', (t) => {
  const expected = [{ hostIp: '0.0.0.0', hostPorts: { first: 8080, last: 8080 }, port: 80, protocol: 'tcp' }];
  for (const mapping of [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
    { hostPort: 8080, containerPort: 80, protocol: 'TCP', hostIP: '' },
    { HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' },
    { hostPort: 8080, containerPort: 80 },
  ])
    t.deepEqual(wishes({ portMappings: [mapping] }).publish, expected as never);
  t.deepEqual(wishes({ portMappings: [{ hostPort: 0, containerPort: 80 }] }).publish, []);
  t.deepEqual(wishes({ portMappings: null }).publish, []);
  t.like(
    wishes({ portMappings: [{ hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: '192.0.2.11' }] })
      .publish[0],
    {
      hostIp: '192.0.2.11',
      protocol: 'udp',
    },
  );
  const sctp = { portMappings: [{ hostPort: 1, containerPort: 1, protocol: 'sctp' }] };
  t.regex(refusal(() => wishes(sctp)).msg, /sctp/);
});

test('addresses come as capability or as arguments, once for each family', (t) => {
  const asked = wishes({ ips: ['10.100.5.9/24', 'fd42::9'] }, 'IP=10.100.5.9');
  t.is(asked.ip?.toString(), '10.100.5.9');
  t.is(asked.ip6?.toString(), 'fd42::9');
  t.is(wishes({}, 'IgnoreUnknown=true;MAC=02:00:00:00:00:2a').mac, '02:00:00:00:00:2a');
  t.is(wishes({ mac: '02:00:00:00:00:2b' }, 'MAC=02:00:00:00:00:2a').mac, '02:00:00:00:00:2b');
  t.is(wishesOf(requestOf({ ifMac: '02:00:00:00:00:2c' })).mac, '02:00:00:00:00:2c');
  t.regex(refusal(() => wishes({ ips: ['10.100.5.9', '10.100.5.8'] })).msg, /two IPv4/);
  t.is(refusal(() => wishes({ ips: ['next'] })).code, 7);
  t.deepEqual(
    refusal(() => wishes({ mac: 'zz' })),
    {
      ...{ cniVersion: '1.0.0', code: 7, msg: 'mac: "zz" is not a MAC address' },
      details: 'Write it as 02:00:00:00:00:2a.',
    },
  );
});

test('aliases are a list, or podman’s list by network', (t) => {
  t.deepEqual(wishes({ aliases: ['db', 'c0ffee'] }).aliases, ['db', 'c0ffee']);
  t.deepEqual(wishes({ aliases: { blue: ['db'], Other: ['x'] } }).aliases, ['db']);
  t.deepEqual(wishes({ aliases: null }).aliases, []);
  const many = Array.from({ length: 257 }, (_, n) => `a${n}`);
  t.is(refusal(() => wishes({ aliases: many })).code, 7);
});

test('the name is the pod’s, the job’s or nerdctl’s, else the container’s id', (t) => {
  const named = (args: string): string => wishes({}, args).name;
  t.is(named('K8S_POD_NAMESPACE=a;K8S_POD_NAME=web'), 'web');
  t.is(named('NERDCTL_CNI_DHCP_HOSTNAME=box'), 'box');
  t.is(named('NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=front'), 'shop');
  t.is(named('K8S_POD_NAME=no way;NOMAD_JOB_ID=shop'), 'shop');
  t.is(named('garbage;=;;=x'), 'c0ffee');
});

test('labels are what the runtime tells of the container', (t) => {
  const request = requestOf(
    {},
    { args: 'K8S_POD_UID=1;NOMAD_META={"a":"b=c"};IP=;X=1;K8S_BAD=a\tb', runtime: 'podman' },
  );
  t.deepEqual(wishesOf(request).labels, {
    'cni.runtime': 'podman',
    'cni.network': 'blue',
    'cni.container': 'c0ffee',
    K8S_POD_UID: '1',
    NOMAD_META: '{"a":"b=c"}',
  });
});

test('bandwidth and other protocols are refused with what to do; a limit of nothing is none', (t) => {
  t.deepEqual(wishes({ bandwidth: { IngressRate: 0 } }).publish, []);
  t.regex(refusal(() => wishes({ bandwidth: { ingressRate: 1 } })).msg, /limits no bandwidth/);
});

test('a DEL is read whatever its version and without a namespace; an ADD is not', (t) => {
  const environment = { command: 'DEL', netns: '' };
  t.like(requestOf({ cniVersion: '0.1.0', prevResult: null }, environment), { command: 'DEL' });
  t.is(refusal(() => requestOf({ cniVersion: '0.1.0' })).code, 1);
  t.is(refusal(() => requestOf({ cniVersion: undefined })).code, 1);
  t.is(refusal(() => requestOf({}, { netns: '' })).code, 4);
  t.is(refusal(() => requestOf({}, { ifname: 'much-too-long-a-name' })).code, 4);
  t.is(refusal(() => requestOf({ name: undefined })).code, 7);
});

test('an error is in the version that was asked in', (t) => {
  t.is(versionIn(cniForm({}, '{"name":"x","cniVersion":"1.1.0"')), '1.1.0');
  t.is(versionIn('garbage'), '1.0.0');
});

const of = membership(network('blue', 4097, 100, false));
const endpoint = sample(of, 'e000000000000001', 5, '/run/netns/c1');
const view = {
  bridge: { name: 'wfbr4097', mac: '02:77:0a:64:01:01' },
  mtu: 1450,
  gateway: '10.100.1.1',
  routes: [{ to: '0.0.0.0/0', via: '10.100.1.1' }, { to: '169.254.53.53/32' }],
  dns: { nameservers: ['169.254.53.53'], search: ['blue.weft'], options: ['ndots:0'] },
};

test('a result has bridge, pair and link in this order, and each version its fields', (t) => {
  for (const cniVersion of ['0.4.0', '1.0.0', '1.1.0']) {
    t.deepEqual(resultOf(requestOf({ cniVersion }), endpoint, view, {}), {
      cniVersion,
      interfaces: [
        view.bridge,
        { name: endpoint.hostIfname },
        {
          ...{ name: endpoint.ifname, mac: endpoint.mac, sandbox: '/run/netns/c1' },
          ...(cniVersion === '1.1.0' && { mtu: 1450 }),
        },
      ],
      ips: [
        {
          ...(cniVersion === '0.4.0' && { version: '4' }),
          ...{ address: endpoint.ip, gateway: '10.100.1.1', interface: 2 },
        },
      ],
      routes: [{ dst: '0.0.0.0/0', gw: '10.100.1.1' }, { dst: '169.254.53.53/32' }],
      dns: view.dns,
    });
  }
});

test('a container of a network without IPv4 has the gateway of its family', (t) => {
  const six = { ...endpoint, ip: 'fd42::5/64' };
  const { gateway: _, ...rest } = view;
  t.like(resultOf(requestOf({ cniVersion: '0.4.0' }), six, { ...rest, gateway6: 'fd42::1' }, {}), {
    ips: [{ version: '6', address: 'fd42::5/64', gateway: 'fd42::1', interface: 2 }],
  });
});

test('name servers are the runtime’s, else the configuration’s, else weft’s', (t) => {
  const own = { nameservers: ['192.0.2.53'], search: [], options: [] };
  const conf = requestOf({ dns: { nameservers: ['192.0.2.54'] } });
  t.like(resultOf(conf, endpoint, view, { dns: own }), { dns: own });
  t.like(resultOf(conf, endpoint, view, {}), { dns: { nameservers: ['192.0.2.54'] } });
});

test('the shim says its version by itself, and it is that of the package', async (t) => {
  const bare = await exec(['sh', SHIM], { env: { CNI_COMMAND: '' } });
  t.is(bare.stdout, `CNI plugin weft v${version}\n`);
  t.is(bare.code, 0);
  const asked = await exec(['sh', SHIM], {
    env: { CNI_COMMAND: 'VERSION' },
    input: '{"cniVersion":"1.1.0"}',
  });
  t.like(JSON.parse(asked.stdout), { supportedVersions: ['0.4.0', '1.0.0', '1.1.0'] });
  const other = await exec(['sh', join(CHECKOUT, 'bin/weft-netavark'), 'info']);
  t.deepEqual(JSON.parse(other.stdout), { version, api_version: '1.0.0' });
});

test('the shim finds the socket in a configuration of any length', async (t) => {
  const portMappings = Array.from({ length: 2000 }, (_, n) => ({
    hostPort: n,
    containerPort: n,
    hostIP: '',
  }));
  const conf = {
    cniVersion: '1.1.0',
    name: 'socket',
    runtimeConfig: { portMappings },
    socket: '/none/x.sock',
  };
  const { stdout } = await exec(['sh', SHIM], {
    env: { CNI_COMMAND: 'ADD', WEFT_CNI_SOCKET: '' },
    input: JSON.stringify(conf),
    timeoutMs: 5000,
  });
  t.like(JSON.parse(stdout), { cniVersion: '1.1.0', code: 11 });
  t.regex(stdout, /at \/none\/x\.sock"/);
});

test('what both shims need is the same in both', (t) => {
  const [cni, netavark] = ['weft-cni', 'weft-netavark'].map((name) => {
    const text = readFileSync(join(CHECKOUT, 'bin', name), 'utf8');
    t.true(text.startsWith('#!/bin/sh\n'));
    return /^# --- from here[^]*^# --- the same up to here/m.exec(text)?.[0];
  });
  t.true((cni?.length ?? 0) > 1000);
  t.is(cni, netavark);
});
