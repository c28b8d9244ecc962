// What the words of a trace mean.
import test from 'ava';

import { destinationOf, endOf, ownerOf, whole, type TraceEnd } from '../../../controller/trace/ends.js';
import { WeftError } from '../../../core/errors.js';
import type { Endpoint, NodeRecord } from '../../../core/records.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import type { StoredLease } from '../../../store/store.js';
import { endpoint, networkWith, node } from '../records.js';

const WEB = endpoint('aaaaaaaaaaaaaaaa', 'blue', 'h1', {
  ...{ name: 'web', target: 'docker:web', ip: '10.100.5.2/24', ip6: 'fd42::5:2/64' },
  publish: [{ hostIp: '0.0.0.0', hostPort: 8080, port: 80, protocol: 'tcp', everywhere: false }],
});
const WEB_GREEN = endpoint('bbbbbbbbbbbbbbbb', 'green', 'h1', {
  ...{ name: 'web-g', target: 'docker:web', ip: '10.101.5.2/24' },
});
const TWICE = [
  endpoint('cccccccccccccccc', 'blue', 'h1', { name: 'twice', ip: '10.100.5.3/24' }),
  endpoint('dddddddddddddddd', 'green', 'h2', { name: 'twice', ip: '10.101.6.3/24' }),
];
/** Its name is that of a node, and its target that of another endpoint. */
const CALLED_H2 = endpoint('eeeeeeeeeeeeeeee', 'blue', 'h2', {
  name: 'h2',
  target: 'netns:/run/netns/web',
  ip: '10.100.6.4/24',
});

const LEASES: StoredLease[] = [
  ['10.100.5.0/24', 'h1'],
  ['10.100.6.0/24', 'h2'],
  ['10.100.7.0/24', undefined],
].map(([subnet = '', on], i) => ({
  ...{ network: 'blue', subnet: IpNetwork.parse(subnet), publicIp: IpAddress.parse(`192.0.2.1${i + 1}`) },
  ...{ backendType: 'vxlan', reservation: false, etcdLease: '1' },
  ...(on !== undefined && { node: on }),
}));

const byId = (all: readonly Endpoint[]) => new Map(all.map((one) => [one.id, one]));
const nodes = new Map<string, NodeRecord>(
  ['h1', 'h2', 'h3'].map((name, i) => [name, node(name, `192.0.2.1${i + 1}`)]),
);
const ALL = [WEB, WEB_GREEN, ...TWICE, CALLED_H2];
const view = {
  nodes,
  networks: new Map(
    [networkWith('blue', '10.100.0.0/16', 1), networkWith('green', '10.101.0.0/16', 2)].map((one) => [
      one.name,
      one,
    ]),
  ),
  endpoints: new Map(
    ['blue', 'green'].map((network) => [network, byId(ALL.filter((one) => one.network === network))]),
  ),
  leases: new Map([['blue', new Map(LEASES.map((lease) => [lease.subnet.toString(), lease]))]]),
};

const meant = (word: string, here: string[] = []): string => {
  const end = endOf(view, word, here);
  return end.endpoints.length > 0
    ? end.endpoints.map(({ id }) => id[0]).join('')
    : (end.address ?? `node ${end.node}`);
};

test('in this order: a prefix, an id, an address, an endpoint, a target, a node', (t) => {
  t.is(meant('docker:web'), 'ab');
  t.is(meant('netns:/run/netns/web'), 'e');
  t.is(meant(WEB_GREEN.id), 'b');
  t.is(meant(WEB_GREEN.id.slice(0, 12)), 'b', 'as tables show it');
  t.is(meant('10.100.5.2'), '10.100.5.2');
  t.is(meant('web'), 'a', 'the endpoint, and not the namespace');
  t.is(meant('web-g.green'), 'b');
  t.is(meant('twice.green'), 'd');
  t.is(meant('h2'), 'e', 'the endpoint, and not the node');
  t.is(meant('h3'), 'node h3');
  t.is(meant('pid:4711', [WEB.id]), 'a', 'as this host’s agent says');
  const both = whole(endOf(view, WEB_GREEN.id, []), view).endpoints.map(({ id }) => id);
  t.deepEqual(both, [WEB_GREEN.id, WEB.id], 'the one that was named comes first');
});

test('several containers are a wrong call that names them; nothing is not found', (t) => {
  const error = t.throws(() => endOf(view, 'twice', []), { instanceOf: WeftError });
  t.is(error?.code, 'INVALID_ARGUMENT');
  t.regex(
    error?.message ?? '',
    /means 2 containers: c{16} \(twice of blue on h1\), d{16} \(twice of green on h2\)/,
  );
  for (const word of ['nobody', 'docker:nobody', 'web.green'])
    t.is(t.throws(() => endOf(view, word, []), { instanceOf: WeftError })?.code, 'NOT_FOUND', word);
});

const FROM: TraceEnd = { name: 'twice', node: 'h2', endpoints: TWICE.slice(1) };
const owner = (address: string, protocol = 'icmp', port = 0): TraceEnd =>
  ownerOf(view, endOf(view, address, []), FROM, protocol, port);

test('who has an address: a container, a gateway’s node, a node, a port’s container, a flanneld, nobody', (t) => {
  t.like(owner('10.100.5.2'), { name: 'web', node: 'h1', address: '10.100.5.2' });
  t.like(owner('10.100.6.1'), { name: 'node h2', node: 'h2', endpoints: [] });
  t.like(owner('10.100.6.99'), { name: '10.100.6.99', node: 'h2', endpoints: [] });
  t.like(owner('169.254.53.53'), { node: 'h2', endpoints: [] });
  t.like(owner('192.0.2.13'), { name: 'node h3', node: 'h3' });
  t.like(owner('192.0.2.11', 'tcp', 8080), { name: 'web', node: 'h1', port: 80 });
  t.like(owner('192.0.2.11', 'udp', 8080), { name: 'node h1', endpoints: [] });
  t.like(ownerOf(view, { name: 'node h1', node: 'h1', endpoints: [] }, FROM, 'tcp', 8080), {
    ...{ name: 'web', address: '192.0.2.11', port: 80 },
  });
  t.regex(owner('10.100.7.1').foreign ?? '', /10\.100\.7\.0\/24 is that of a flanneld at 192\.0\.2\.13/);
  t.regex(owner('10.100.200.1').foreign ?? '', /no node has that part of network blue/);
  t.regex(owner('198.51.100.1').foreign ?? '', /no address of weft’s/);
});

test('the address to send to is of a network that both are on, and of a family that both have', (t) => {
  const web = whole(endOf(view, WEB.id, []), view);
  t.is(destinationOf(FROM, web), '10.101.5.2', 'both are on green');
  const six = endpoint('ffffffffffffffff', 'six', 'h2', { ip: 'fd42::6:9/64' });
  t.is(destinationOf({ name: 'six', node: 'h2', endpoints: [six] }, web), 'fd42::5:2');
  t.throws(() => destinationOf({ name: 'six', node: 'h2', endpoints: [six] }, FROM), {
    message: /no addresses of one family/,
  });
});
