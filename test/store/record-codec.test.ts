// The manager of an endpoint record, in the format of release 0.1 and of today.
//
// Release 0.1 wrote `door`; either release reads the other's records.
import test from 'ava';

import { decodeEndpoint, encodeEndpoint } from '../../store/record-codec.js';
import { endpoint } from './helpers.js';

const KEY = { kind: 'endpoint', network: 'blue', id: '0123456789abcdef' } as const;
const decode = (value: object): ReturnType<typeof decodeEndpoint> =>
  decodeEndpoint(KEY, JSON.stringify(value));

/** An endpoint of Docker's, as written by an agent of release 0.1. */
const OLD = {
  ...{ name: 'web', explicitName: false, node: 'n1', target: 'docker:web' },
  sandbox: { path: '/var/run/docker/netns/1', cookie: '42', bootId: 'b' },
  ...{ ifname: 'eth0', hostIfname: 'wfep0123456789a', mac: '02:00:00:00:00:2a', ip: '10.100.5.2/24' },
  ...{ defaultRoute: true, aliases: [], publish: [], door: 'docker', createdAt: '2026-11-21T00:00:00Z' },
};

test('records of release 0.1: `door` names Docker’s, the others are weft’s', (t) => {
  const docker = decode(OLD);
  t.is(docker.manager, 'docker');
  t.false('door' in docker);
  const { door: _door, ...own } = OLD;
  t.is(decode(own).manager, 'weft');
});

test('an agent of release 0.1 finds `door` on Docker’s endpoints only', (t) => {
  const written = (manager: 'weft' | 'docker' | 'cni' | 'netavark'): Record<string, unknown> =>
    JSON.parse(encodeEndpoint(endpoint('blue', KEY.id, { manager }))) as Record<string, unknown>;
  t.like(written('docker'), { manager: 'docker', door: 'docker' });
  for (const manager of ['weft', 'cni', 'netavark'] as const) {
    t.is(written(manager)['manager'], manager);
    t.false('door' in written(manager));
  }
});

test('a foreign key is read with its own manager only', (t) => {
  const foreignKey = { manager: 'cni', network: 'lan', containerId: 'c0ffee', ifname: 'eth0' } as const;
  t.deepEqual(decode({ ...OLD, door: undefined, manager: 'cni', foreignKey }).foreignKey, foreignKey);
  t.false('foreignKey' in decode({ ...OLD, foreignKey }));
  t.false('foreignKey' in decode({ ...OLD, manager: 'cni', foreignKey: { manager: 'cni', network: 7 } }));
  t.is(decode({ ...OLD, manager: 'a later one' }).manager, 'docker');
});

test('what is no label is left out, and the endpoint is there all the same', (t) => {
  const labels = {
    a: '1',
    '': '2',
    '-b': '3',
    'k8s.io/name': 'x y',
    c: 'a\nb',
    d: '\u202e',
    e: 'x'.repeat(257),
  };
  t.deepEqual(decode({ ...OLD, labels }).labels, { a: '1', 'k8s.io/name': 'x y' });
  t.false('labels' in decode({ ...OLD, labels: ['a'] }));
  t.false('labels' in decode(OLD));
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`l${i}`, '']));
  t.is(Object.keys(decode({ ...OLD, labels: many }).labels ?? {}).length, 64);
});
