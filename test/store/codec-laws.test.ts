// Laws of the codecs.
//
// Everything that weft can write reads back the same, and any value in etcd parses to a record or to an error.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { MANAGERS, type ForeignKey, type Manager } from '../../core/manager.js';
import { isBridged } from '../../core/drivers/index.js';
import { parseHostPrefix, parseRange, type Network, type OverlayNetwork } from '../../core/network.js';
import type { Claim, Endpoint, NodeRecord } from '../../core/records.js';
import { Keys } from '../../store/keys.js';
import { decodeLease, encodeLease } from '../../store/lease-codec.js';
import { decodeConfig, encodeConfig, occupiedBy } from '../../store/network-codec.js';
import {
  decodeClaim,
  decodeEndpoint,
  decodeNode,
  encodeClaim,
  encodeEndpoint,
  encodeNode,
} from '../../store/record-codec.js';
import type { StoredLease } from '../../store/store.js';
import { endpoint } from './helpers.js';
import { leaseKey } from './lease-key.js';

const keys = new Keys('/weft');
const config = (text: string) => decodeConfig('blue', text);

const ip4 = fc.integer({ min: 0x0a000001, max: 0x0afffffe }).map((value) => IpAddress.of(4, BigInt(value)));
const ip6 = fc.bigInt(1n, (1n << 64n) - 1n).map((value) => IpAddress.of(6, (0xfd42n << 112n) + value));
const macAddress = fc
  .tuple(...Array.from({ length: 5 }, () => fc.integer({ min: 0, max: 255 })))
  .map((bytes) => `02:${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`);
const word = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,20}$/);
const vtep = fc.record({ vni: fc.integer({ min: 1, max: 16_777_215 }), mac: macAddress });
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      part instanceof IpAddress || part instanceof IpNetwork ? part.toString() : part,
    ),
  );

const network: fc.Arbitrary<Network> = fc
  .record({
    base: ip4,
    length: fc.integer({ min: 8, max: 28 }),
    longer: fc.integer({ min: 2, max: 8 }),
    six: fc.option(fc.record({ base: ip6, length: fc.integer({ min: 16, max: 110 }) }), { nil: undefined }),
    vni: fc.integer({ min: 1, max: 16_777_215 }),
    port: fc.integer({ min: 1, max: 65535 }),
    mtu: fc.option(fc.integer({ min: 1280, max: 9000 }), { nil: undefined }),
    internal: fc.boolean(),
    masquerade: fc.boolean(),
    narrow: fc.boolean(),
    alone: fc.boolean(),
  })
  .map(({ base, length, longer, six, vni, port, mtu, internal, masquerade, narrow, alone }): Network => {
    const subnet = IpNetwork.of(base, length);
    const hostPrefix = Math.min(length + longer, 30);
    const subnet6 = six && IpNetwork.of(six.base, six.length);
    const hostPrefix6 = subnet6 && parseHostPrefix(subnet6, undefined, 'x');
    const usual = parseRange(subnet, hostPrefix, undefined, undefined);
    const range6 = subnet6 && parseRange(subnet6, hostPrefix6 ?? 64, undefined, undefined);
    const four = { subnet, hostPrefix, range: narrow ? { first: usual.last, last: usual.last } : usual };
    const sixth =
      subnet6 && hostPrefix6 !== undefined && range6 ? { subnet6, hostPrefix6, range6 } : undefined;
    return {
      name: 'blue',
      driver: 'overlay',
      backend: 'vxlan',
      ...(alone && sixth
        ? { subnet: sixth.subnet6, hostPrefix: sixth.hostPrefix6, range: sixth.range6 }
        : { ...four, ...sixth }),
      vni,
      port,
      ...(mtu !== undefined && { mtu }),
      internal,
      masquerade,
    };
  });

test('every network reads back the same', (t) => {
  fc.assert(
    fc.property(network, (one) => t.deepEqual(plain(config(encodeConfig(one))), plain(one))),
    { numRuns: 300 },
  );
  t.pass();
});

const lease: fc.Arbitrary<StoredLease> = fc
  .record({
    base: ip4,
    length: fc.integer({ min: 20, max: 30 }),
    base6: fc.option(ip6, { nil: undefined }),
    // Neither stands for an address: flannel's "none", and weft's.
    publicIp: ip4.filter((ip) => !['0.0.0.0', '192.0.0.8'].includes(ip.toString())),
    publicIp6: fc.option(ip6, { nil: undefined }),
    mtu: fc.option(fc.integer({ min: 576, max: 65_535 }), { nil: undefined }),
    vtep: fc.option(vtep, { nil: undefined }),
    vtep6: fc.option(vtep, { nil: undefined }),
    node: fc.option(word, { nil: undefined }),
    instance: fc.option(word, { nil: undefined }),
    etcdLease: fc.constantFrom('0', '7587862094812'),
    alone: fc.boolean(),
  })
  .map(({ base, length, base6, etcdLease, publicIp, publicIp6, vtep, vtep6, alone, ...rest }) => {
    const ends = { ...(vtep && { 4: vtep }), ...(vtep6 && { 6: vtep6 }) };
    const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
    return {
      network: 'blue',
      ...(alone && base6
        ? { subnet: IpNetwork.of(base6, 64) }
        : { subnet: IpNetwork.of(base, length), ...(base6 && { subnet6: IpNetwork.of(base6, 64) }) }),
      ...(alone && publicIp6 ? { publicIp: publicIp6 } : { publicIp, ...(publicIp6 && { publicIp6 }) }),
      backendType: 'vxlan',
      reservation: etcdLease === '0',
      etcdLease,
      ...(Object.keys(ends).length > 0 && { data: { type: 'vxlan', ...ends } as const }),
      ...given,
    };
  });

test('every lease reads back the same, key and value', (t) => {
  fc.assert(
    fc.property(lease, (one) => {
      const key = keys.parse(keys.lease('blue', one.subnet, one.subnet6));
      if (key.kind !== 'lease') return t.fail();
      t.deepEqual(plain(decodeLease(key, encodeLease(one), one.etcdLease)), plain(one));
    }),
    { numRuns: 300 },
  );
  t.pass();
});

const key = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString('base64'));
const udpPort = fc.integer({ min: 1, max: 65_535 });

/** Of the backend wireguard, alone or beside vxlan, or the other way round. */
const encrypted: fc.Arbitrary<Network> = fc
  .record({
    from: network,
    port: udpPort,
    port6: udpPort,
    mode: fc.constantFrom(undefined, 'auto' as const, 'ipv4' as const),
    psk: fc.option(key, { nil: undefined }),
    keepalive: fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined }),
    beside: fc.constantFrom('none', 'old', 'new'),
  })
  .map(({ from, port, port6, mode, psk, keepalive, beside }): Network => {
    if (isBridged(from) || from.backend !== 'vxlan') return from;
    const { vni: _vni, directRouting: _direct, ...common } = from;
    const fresh: OverlayNetwork = {
      ...common,
      ...{ backend: 'wireguard', port, port6 },
      ...(mode && { mode }),
      ...(psk && { psk }),
      ...(keepalive && { keepalive }),
    };
    if (beside === 'none') return fresh;
    return beside === 'old' ? { ...fresh, beside: from } : { ...from, beside: fresh };
  });

test('every encrypted network, and every one that moves, reads back the same', (t) => {
  fc.assert(
    fc.property(encrypted, (one) => t.deepEqual(plain(config(encodeConfig(one))), plain(one))),
    { numRuns: 200 },
  );
  t.pass();
});

const end = fc
  .record({ publicKey: key, port: udpPort, nextPublicKey: fc.option(key, { nil: undefined }) })
  .map(({ nextPublicKey, ...rest }) => ({ ...rest, ...(nextPublicKey && { nextPublicKey }) }));

test('every lease with a key, and with two backends, reads back the same', (t) => {
  fc.assert(
    fc.property(lease, end, fc.option(end), fc.boolean(), (from, four, six, moves) => {
      const data = { type: 'wireguard' as const, 4: four, ...(six && { 6: six }) };
      const { data: old, ...rest } = from;
      const one: StoredLease = {
        ...rest,
        ...{ backendType: 'wireguard', data },
        ...(moves && { node: 'n1', beside: { backendType: 'vxlan', ...(old && { data: old }) } }),
      };
      const parsed = keys.parse(keys.lease('blue', one.subnet, one.subnet6));
      if (parsed.kind !== 'lease') return t.fail();
      t.deepEqual(plain(decodeLease(parsed, encodeLease(one), one.etcdLease)), plain(one));
    }),
    { numRuns: 200 },
  );
  t.pass();
});

const id = fc.string({ minLength: 1, maxLength: 80 });
const managed: fc.Arbitrary<{ manager: Manager; foreignKey?: ForeignKey }> = fc.oneof(
  fc.constantFrom(...MANAGERS).map((manager) => ({ manager })),
  fc
    .record({ network: id, endpoint: id })
    .map((key) => ({ manager: 'docker' as const, foreignKey: { manager: 'docker' as const, ...key } })),
  fc
    .record({
      manager: fc.constantFrom('cni' as const, 'netavark' as const),
      network: id,
      containerId: id,
      ifname: id,
    })
    .map((key) => ({ manager: key.manager, foreignKey: key })),
);

test('every endpoint, claim and node reads back the same', (t) => {
  const text = fc.string({ minLength: 1, maxLength: 15 });
  fc.assert(
    fc.property(
      fc.record({
        name: word,
        node: word,
        target: text,
        ifname: fc.stringMatching(/^[a-z][A-Za-z0-9_.-]{0,14}$/),
        mac: macAddress,
        aliases: fc.array(word),
        publish: fc.array(
          fc.record({
            hostIp: fc.constantFrom('0.0.0.0', '192.0.2.1', '2001:db8::1'),
            hostPort: fc.integer({ min: 1, max: 65535 }),
            port: fc.integer({ min: 1, max: 65535 }),
            protocol: fc.constantFrom('tcp' as const, 'udp' as const),
            everywhere: fc.boolean(),
          }),
        ),
        address: ip4,
        six: fc.option(ip6, { nil: undefined }),
        defaultRoute: fc.boolean(),
        explicitName: fc.boolean(),
        managed,
        labels: fc.option(
          fc.dictionary(
            fc.stringMatching(/^[A-Za-z0-9]([A-Za-z0-9_./-]{0,20}[A-Za-z0-9])?$/),
            fc.string({
              unit: fc.constantFrom('a', 'Z', '0', ' ', '=', ';', '"', '{', 'é', '語'),
              maxLength: 256,
            }),
          ),
          { nil: undefined },
        ),
      }),
      ({ address, six, managed, labels, ...rest }) => {
        const one: Endpoint = endpoint('blue', 'ab', {
          ...rest,
          ip: `${address.toString()}/24`,
          ...(six && { ip6: `${six.toString()}/64` }),
          ...(labels && { labels }),
          ...managed,
        });
        t.deepEqual(
          decodeEndpoint({ kind: 'endpoint', network: 'blue', id: 'ab' }, encodeEndpoint(one)),
          one,
        );
        const claim: Claim = {
          network: 'blue',
          ip: address,
          node: rest.node,
          endpoint: 'ab',
          state: 'refused',
          why: rest.target,
        };
        t.deepEqual(
          plain(decodeClaim({ kind: 'claim', network: 'blue', ip: address }, encodeClaim(claim))),
          plain(claim),
        );
        const node: NodeRecord = {
          name: rest.node,
          instance: rest.name,
          publicIp: address.toString(),
          ...(six && { publicIp6: six.toString() }),
          version: '1',
          startedAt: 'then',
        };
        t.deepEqual(decodeNode(rest.node, encodeNode(node)), node);
      },
    ),
  );
  t.pass();
});

test('any value is a record or a readable error', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.jsonValue().map((value) =>
          JSON.stringify({
            Network: value,
            PublicIP: value,
            Backend: { Type: 'vxlan', VNI: value },
            node: value,
            ip: value,
          }),
        ),
      ),
      (text) => {
        for (const decode of [
          () => config(text),
          () => decodeLease(leaseKey('10.5.52.0-24'), text, '1'),
          () => decodeEndpoint({ kind: 'endpoint', network: 'blue', id: 'ab' }, text),
          () => decodeClaim({ kind: 'claim', network: 'blue', ip: IpAddress.parse('10.0.0.1') }, text),
          () => decodeNode('n', text),
          () => occupiedBy(text),
        ]) {
          try {
            decode();
          } catch (error) {
            t.is((error as Error).name, 'UnreadableError', String(error));
          }
        }
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});
