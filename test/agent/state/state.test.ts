// The state directory: round trips, and unreadable files that are put aside.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { AttachmentState } from '../../../agent/pipework/attachment-state.js';
import { ContainerState, type ContainerRecord } from '../../../agent/runtime/container-state.js';
import { InterfaceLoanFiles } from '../../../agent/state/interface-loans.js';
import { State } from '../../../agent/state/state.js';
import { IpAddress } from '../../../core/address.js';
import { WeftError } from '../../../core/errors.js';
import { decodeConfig, encodeConfig } from '../../../store/network-codec.js';
import { countedCalls } from '../../fakes/file-calls.js';
import { endpoint, lease, membership, network } from '../../kernel/samples.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const blue = network('blue', 4097, 100, true);
const one = endpoint(membership(blue), '0123456789abcdef', 2, '/run/netns/c1');

test('saved records are loaded unchanged, and the instance stays', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  const first = new State(path);
  const fresh = first.load();
  t.true(fresh.fresh);
  const granted = [{ ip: '10.100.1.77', node: 'node2', endpoint: 'fedcba9876543210' }];
  first.saveNetwork({ network: blue, lease: lease(blue, 1), granted });
  first.saveEndpoint(one);
  const again = new State(path).load();
  t.false(again.fresh);
  t.is(again.instance, fresh.instance);
  t.deepEqual(again.endpoints, [one]);
  // A round trip through text keeps every field.
  t.deepEqual(plain(again.networks), plain([{ network: blue, lease: lease(blue, 1), granted }]));
  t.true(again.networks[0]?.network.subnet.equals(blue.subnet));
  first.deleteEndpoint(one.id);
  first.deleteNetwork('blue');
  t.like(new State(path).load(), { endpoints: [], networks: [], torn: [] });
});

test('the underlay addresses are those of the last run, as far as they can be read', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  const calls = countedCalls();
  const state = new State(path, { calls });
  t.deepEqual(state.underlay(), {});
  const [ip, ip6] = [IpAddress.parse('192.0.2.1'), IpAddress.parse('2001:db8::1')];
  for (const addresses of [{ ip, ip6 }, { ip }]) {
    state.saveUnderlay(addresses);
    const written = calls.seen.length;
    state.saveUnderlay(addresses);
    t.is(calls.seen.length, written, 'what is there is not written again');
    t.deepEqual(plain(new State(path).underlay()), plain(addresses));
  }
  writeFileSync(join(path, 'underlay'), '192.0.2.300 \0 2001:db8::1');
  t.deepEqual(plain(new State(path).underlay()), plain({ ip6 }));
  rmSync(join(path, 'underlay'));
  mkdirSync(join(path, 'underlay'));
  t.deepEqual(new State(path).underlay(), {});
});

test('read only, the state is that of the directory, which stays as it is', (t) => {
  const path = join(temporaryFolder(t, 'weft-state-'), 'state');
  const none = new State(path, { readOnly: true });
  t.like(none.load(), { fresh: true, networks: [], endpoints: [], torn: [] });
  none.saveEndpoint(one);
  t.false(existsSync(path));
  const state = new State(path);
  const { instance } = state.load();
  state.saveEndpoint(one);
  const reader = new State(path, { readOnly: true });
  reader.deleteEndpoint(one.id);
  t.like(reader.load(), { instance, fresh: false, endpoints: [one] });
});

test('a network’s file of version 0.1 is read, and written as it was', (t) => {
  const config =
    '{"Network":"10.100.0.0/16","SubnetLen":24,"EnableIPv6":true,"IPv6Network":"fd42:100::/48","IPv6SubnetLen":64,"Backend":{"Type":"vxlan","VNI":4097,"Port":8472},"Weft":{"Internal":false,"Masquerade":true}}';
  const lease = {
    network: 'blue',
    ...{
      subnet: '10.100.1.0/24',
      subnet6: 'fd42:100:0:1::/64',
      publicIp: '192.0.2.1',
      publicIp6: '2001:db8::1',
    },
    backendType: 'vxlan',
    vtep: { vni: 4097, mac: '02:00:00:00:00:01' },
    vtep6: { vni: 4097, mac: '02:00:00:00:06:01' },
    ...{ node: 'node1', instance: 'i', since: '2026-11-21T00:00:00.000Z', reservation: false },
  };
  const record = {
    ...{ name: 'blue', driver: 'overlay', backend: 'vxlan', subnet: '10.100.0.0/16', hostPrefix: 24 },
    range: { first: '10.100.1.0/24', last: '10.100.255.0/24' },
    ...{ subnet6: 'fd42:100::/48', hostPrefix6: 64 },
    range6: { first: 'fd42:100:0:1::/64', last: 'fd42:100:0:ffff::/64' },
    ...{ vni: 4097, port: 8472, internal: false, masquerade: true },
  };
  const text = `${JSON.stringify({ network: record, lease, granted: [], config })}\n`;
  const path = temporaryFolder(t, 'weft-state-');
  new State(path).load();
  mkdirSync(join(path, 'networks'), { recursive: true });
  const file = join(path, 'networks', 'blue.json');
  writeFileSync(file, text);
  const { networks, torn } = new State(path).load();
  t.deepEqual(torn, []);
  t.deepEqual(networks[0]?.lease.data, { type: 'vxlan', 4: lease.vtep, 6: lease.vtep6 });
  for (const saved of networks) new State(path).saveNetwork(saved);
  t.is(readFileSync(file, 'utf8'), text);
});

test('a config is kept as it was written, with unknown fields', (t) => {
  const text = '{"Network":"10.100.0.0/16","Future":{"a":[1]},"Backend":{"Type":"vxlan","Mood":"good"}}';
  const path = temporaryFolder(t, 'weft-state-');
  const state = new State(path);
  state.load();
  const read = decodeConfig('blue', text);
  state.saveNetwork({ network: read, lease: lease(blue, 1), granted: [] });
  const [again] = new State(path).load().networks;
  t.is(again === undefined ? '' : encodeConfig(again.network), text);
});

for (const [what, text] of [
  ['torn', '{"id":"0123'],
  ['empty', ''],
  ['of another shape', '{"id":"0123456789abcdef"}'],
  ['no JSON', '\0\0\0'],
] as const) {
  test(`a file that is ${what} costs only its own record`, (t) => {
    const path = temporaryFolder(t, 'weft-state-');
    const state = new State(path);
    state.load();
    state.saveEndpoint(one);
    writeFileSync(join(path, 'endpoints', 'fedcba9876543210.json'), text);
    writeFileSync(join(path, 'endpoints', 'half.json.new'), 'left by a crash');
    const loaded = new State(path).load();
    t.deepEqual(loaded.endpoints, [one]);
    t.deepEqual(
      loaded.torn.map(({ kind, id }) => [kind, id]),
      [['endpoint', 'fedcba9876543210']],
    );
    t.is(readFileSync(loaded.torn[0]?.path ?? '', 'utf8'), text);
    t.deepEqual(
      readdirSync(join(path, 'endpoints')).toSorted((a, b) => (a < b ? -1 : 1)),
      ['0123456789abcdef.json', 'fedcba9876543210.json.torn'],
    );
  });
}

test('an unusable directory is an error that names it', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  writeFileSync(join(path, 'file'), '');
  const error = t.throws(() => new State(join(path, 'file')).load(), { instanceOf: WeftError });
  t.is(error?.code, 'FAILED_PRECONDITION');
  t.true(error?.message.includes(join(path, 'file')));
  chmodSync(path, 0o700);
  t.true(existsSync(path));
});

test('identity, networks, reservations, loans and containers that always restart are durable; attaching is not', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  const calls = countedCalls();
  const syncs = (work: () => void): boolean => {
    calls.seen.length = 0;
    work();
    return calls.seen.includes('fsync');
  };
  const sandbox = { path: '/run/netns/c1', cookie: '1', bootId: 'b' };
  const state = new State(path, { calls });
  t.true(
    syncs(() => state.load()),
    'a new instance id',
  );
  t.false(
    syncs(() => state.load()),
    'and none after that',
  );
  t.true(syncs(() => state.saveNetwork({ network: blue, lease: lease(blue, 1), granted: [] })));
  t.true(
    syncs(() =>
      state.saveReservation({
        id: '0123456789abcdef',
        network: 'blue',
        ip: '10.1.1.1/24',
        manager: 'docker',
        createdAt: '',
      }),
    ),
  );
  const c1 = endpoint(membership(blue), '0123456789abcdef', 2, '/run/netns/c1');
  state.saveEndpoint(c1);
  syncs(() => state.saveEndpoint(c1));
  t.deepEqual(calls.seen, ['write', 'rename'], 'an attach is one write and one rename');

  const loan = { link: 'eth1', bridge: 'wfp-eth1', done: true, addresses: [], routes: [] };
  t.true(syncs(() => new InterfaceLoanFiles(path, 'boot', { calls }).put(loan)));

  const attachments = new AttachmentState(path, { calls });
  attachments.load((file) => t.fail(file));
  const hostInterface = { kind: 'bridge', name: 'br1', mtu: 1500, vlans: false, made: true } as const;
  const attachment = {
    id: '0123456789abcdef',
    hostInterface,
    name: 'c1',
    target: 'netns:/run/netns/c1',
    sandbox,
  };
  syncs(() =>
    attachments.save({ ...attachment, ifname: 'eth1', hostIfname: 'wfe1', mac: '02:00:00:00:00:01' }),
  );
  t.deepEqual(calls.seen, ['write', 'rename'], 'and so is one of pipework');

  const containers = new ContainerState(path, join(path, 'run'), { calls });
  containers.load();
  const record: ContainerRecord = {
    ...{
      id: '0123456789abcdef',
      name: 'web',
      network: 'blue',
      attachments: [],
      command: ['sh'],
      directory: '/',
    },
    ...{
      environment: [],
      detached: true,
      remove: false,
      restart: 'no',
      stopped: false,
      bootId: 'b',
      restarts: 0,
    },
    ...{ createdAt: '2026-01-01T00:00:00Z', startedAt: '2026-01-01T00:00:00Z' },
  };
  t.false(syncs(() => containers.save(record)));
  t.true(syncs(() => containers.save({ ...record, restart: 'always' })));
});

test('an instance file that holds no id is put aside and reported', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  writeFileSync(join(path, 'instance'), '\0\0');
  const { instance, fresh, torn } = new State(path).load();
  t.true(fresh);
  t.like(torn, [{ kind: 'instance', path: join(path, 'instance.torn') }]);
  t.is(readFileSync(join(path, 'instance.torn'), 'utf8'), '\0\0');
  t.like(new State(path).load(), { instance, fresh: false, torn: [] });
});

test('the Docker fields in files of release 0.1 are read', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  const state = new State(path);
  state.load();
  const write = (kind: string, name: string, value: object): void =>
    writeFileSync(join(path, kind, `${name}.json`), JSON.stringify(value));
  const { manager: _manager, ...old } = one;
  write('endpoints', one.id, { ...old, door: 'docker' });
  const id = 'fedcba9876543210';
  write('reservations', id, { id, network: 'blue', ip: '10.100.1.9/24', createdAt: '' });
  write('networks', 'blue', {
    network: { ...blue, docker: true },
    lease: lease(blue, 1),
    granted: [],
  });
  const loaded = new State(path).load();
  t.deepEqual(loaded.torn, []);
  t.deepEqual(loaded.endpoints, [{ ...old, manager: 'docker' }]);
  t.deepEqual(
    loaded.reservations.map(({ manager }) => manager),
    ['docker'],
  );
  t.is(loaded.networks[0]?.network.madeBy, 'docker');
});

test('an agent of release 0.1 finds its field for Docker’s endpoints', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  const state = new State(path);
  state.load();
  const foreignKey = { manager: 'docker', network: 'n', endpoint: 'e' } as const;
  const docker = { ...one, manager: 'docker', foreignKey } as const;
  state.saveEndpoint(docker);
  const text = readFileSync(join(path, 'endpoints', `${one.id}.json`), 'utf8');
  t.like(JSON.parse(text), { manager: 'docker', door: 'docker' });
  t.deepEqual(new State(path).load().endpoints, [docker]);
});

test('a pipework attachment whose gateway is of another family than its address is put aside', (t) => {
  const path = temporaryFolder(t, 'weft-state-');
  const write = (gateway: string): void => {
    const record = {
      ...{
        id: '0123456789abcdef',
        name: 'c1',
        target: 'netns:/run/netns/c1',
        ifname: 'eth1',
        hostIfname: 'wfe1',
      },
      ...{ mac: '02:00:00:00:00:01', sandbox: { path: '/run/netns/c1', cookie: '1', bootId: 'b' } },
      ...{ place: { kind: 'bridge', name: 'br1', mtu: 1500, vlans: false, made: true } },
      ...{ address: '2001:db8::5/64', gateway },
    };
    mkdirSync(join(path, 'wires'), { recursive: true });
    writeFileSync(join(path, 'wires', '0123456789abcdef.json'), JSON.stringify(record));
  };
  write('2001:db8::1');
  t.is(new AttachmentState(path).load((file) => t.fail(file)).attachments.length, 1);
  write('192.0.2.1');
  const torn: string[] = [];
  t.is(new AttachmentState(path).load((file) => torn.push(file)).attachments.length, 0);
  t.is(torn.length, 1);
});
