// resolv.conf: parsing the host's, writing a container's, restoring a namespace's.
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { NetnsResolvConf } from '../../../agent/dns/netns-resolv-conf.js';
import {
  containerResolvConf,
  formatResolvConf,
  parseResolvConf,
  type ResolvConf,
} from '../../../agent/dns/resolv-conf.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import type { Membership } from '../../../core/compile.js';
import { silentLogger } from '../../../daemon/log.js';

const membership = (name: string, subnet: string, subnet6?: string): Membership =>
  ({
    network: { name, driver: 'overlay' },
    lease: {
      subnet: IpNetwork.parse(subnet),
      ...(subnet6 === undefined ? {} : { subnet6: IpNetwork.parse(subnet6) }),
    },
    underlay: { ip: IpAddress.parse('192.0.2.1'), mtu: 1500, link: 'eth0' },
  }) as Membership;

const hostOf = (...search: string[]): ResolvConf => ({
  nameservers: ['192.0.2.53'],
  search,
  options: ['ndots:2'],
});

test('a container’s has at most three gateways, its networks’ domains and the host’s', (t) => {
  const blue = membership('blue', '10.100.5.0/24', 'fd42::/64');
  t.deepEqual(parseResolvConf(containerResolvConf([blue], hostOf('corp.example', 'blue.weft'))), {
    nameservers: ['10.100.5.1', 'fd42::1'],
    search: ['blue.weft', 'corp.example'],
    options: ['ndots:0'],
  });
  const red = membership('red', '10.101.5.0/24', 'fd43::/64');
  t.deepEqual(parseResolvConf(containerResolvConf([red, blue])).nameservers, [
    '10.101.5.1',
    '10.100.5.1',
    'fd43::1',
  ]);
  t.is(formatResolvConf({ nameservers: [], search: [], options: [] }).split('\n').length, 2);
});

test('a container’s equals the host’s on a network where no gateway answers for weft', (t) => {
  const lan = {
    network: { name: 'lan', driver: 'bridge', parent: 'eth1', gateway: IpAddress.parse('192.0.2.1') },
    underlay: { ip: IpAddress.parse('192.0.2.11'), mtu: 1500, link: 'eth0' },
  } as Membership;
  const host = hostOf('corp.example');
  t.deepEqual(parseResolvConf(containerResolvConf([lan], host)), host);
  const both = parseResolvConf(containerResolvConf([lan, membership('blue', '10.100.5.0/24')], host));
  t.deepEqual(both.nameservers, ['10.100.5.1']);
  t.deepEqual(both.search, ['lan.weft', 'blue.weft', 'corp.example']);
});

test('the host’s is parsed as the C library does', (t) => {
  const text = [
    '# nameserver 192.0.2.9',
    ';nameserver 192.0.2.8',
    'nameserver 192.0.2.1   ',
    '\tnameserver\tfe80::1%eth0',
    'nameserver nonsense',
    'nameserver 2001:DB8::0:1',
    'nameserver 192.0.2.4',
    'domain old.example',
    'search a.example . b.example bad;name',
    'options ndots:2 edns0',
    'lookup file bind',
  ].join('\n');
  t.deepEqual(parseResolvConf(text), {
    nameservers: ['192.0.2.1', 'fe80::1%eth0', '2001:db8::1'],
    search: ['a.example', 'b.example'],
    options: ['ndots:2', 'edns0'],
  });
  t.deepEqual(parseResolvConf(''), { nameservers: [], search: [], options: [] });
});

function place(t: ExecutionContext): {
  make: () => NetnsResolvConf;
  path: string;
  folder: string;
  root: string;
} {
  const root = mkdtempSync(join(tmpdir(), 'weft-test-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const folder = join(root, 'netns');
  const options = { stateDir: join(root, 'state'), log: silentLogger, folder };
  return { make: () => new NetnsResolvConf(options), path: join(folder, 'c1/resolv.conf'), folder, root };
}
const TARGET = 'netns:/run/netns/c1';
const exists = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

test('without a previous file, none is left', (t) => {
  const { make, path, folder } = place(t);
  make().set(TARGET, 'one\n');
  make().set(TARGET, 'two\n');
  t.is(readFileSync(path, 'utf8'), 'two\n');
  // By another process than the writer.
  make().reset(TARGET);
  t.false(exists(join(folder, 'c1')));
  make().reset(TARGET);
});

test('another owner’s file, link and folder are restored', (t) => {
  const { make, path, folder, root } = place(t);
  mkdirSync(join(folder, 'c1'), { recursive: true });
  make().set(TARGET, 'one\n');
  make().reset(TARGET);
  t.true(exists(join(folder, 'c1')), 'the folder is not weft’s');
  writeFileSync(path, 'before\n');
  make().set(TARGET, 'one\n');
  make().keepOnly([TARGET]);
  t.is(readFileSync(path, 'utf8'), 'one\n');
  make().keepOnly([]);
  t.is(readFileSync(path, 'utf8'), 'before\n');
  const elsewhere = join(root, 'elsewhere');
  writeFileSync(elsewhere, 'elsewhere\n');
  rmSync(path);
  symlinkSync(elsewhere, path);
  make().set(TARGET, 'one\n');
  t.is(readFileSync(elsewhere, 'utf8'), 'elsewhere\n', 'nothing is written through a link');
  t.is(readFileSync(path, 'utf8'), 'one\n');
  make().reset(TARGET);
  t.is(readlinkSync(path), elsewhere);
});

test('a file that another process changed meanwhile stays', (t) => {
  const { make, path } = place(t);
  make().set(TARGET, 'one\n');
  writeFileSync(path, 'theirs\n');
  make().reset(TARGET);
  t.is(readFileSync(path, 'utf8'), 'theirs\n');
});

test('only a named namespace has such a file', (t) => {
  const { make } = place(t);
  for (const target of [
    'pid:4711',
    'docker:web',
    'netns:/var/lib/ns/c1',
    'netns:/run/netns/..',
    'netns:/run/netns/a/b',
  ]) {
    t.throws(() => make().require(target), { message: /is no namespace in \/run\/netns/ }, target);
  }
  t.notThrows(() => make().require(TARGET));
});
