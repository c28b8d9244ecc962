// Starts in other surroundings than those of start.ts: with certificates, and in a network of thousands of nodes.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { TestCa } from '../daemon/certificates.js';
import { INFRA, INFRA_IP, type Cluster } from '../lab/cluster.js';
import { must } from '../lab/exec.js';
import type { Host } from '../lab/lab.js';
import { createNetwork, forget, routesOf, start, subnetOf, weftAgent } from './contenders.js';
import { median, residentOf, secondsUntil } from './usage.js';

/** Nodes of the large network. */
export const PEERS = 5000;
const VNI = 4102;
/** etcd takes so many operations in one transaction (--max-txn-ops). */
const AT_ONCE = 128;
/** After a start: memory is at rest. */
const REST_MS = 15_000;

/** Seconds from the start to the subnet on an empty etcd with mutual TLS; the median of some rounds. */
export async function overTls(cluster: Cluster, rounds: number): Promise<number> {
  const ca = new TestCa();
  try {
    const { cert, key } = ca.issue('bench', INFRA_IP);
    const [client, peer] = [`https://${INFRA_IP}:2378`, 'http://127.0.0.1:2377'];
    const etcd = cluster.spawn('etcd-tls', INFRA, [
      ...['etcd', '--name', 'e', '--data-dir', join(cluster.folder, 'etcd-tls'), '--client-cert-auth'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer],
      ...['--initial-advertise-peer-urls', peer, '--initial-cluster', `e=${peer}`],
      ...['--trusted-ca-file', ca.ca, '--cert-file', cert, '--key-file', key],
    ]);
    const files = ['--cacert', ca.ca, '--cert', cert, '--key', key];
    const secure = {
      lab: cluster.lab,
      etcdctl: (...args: string[]) =>
        cluster.lab.infra.must(['etcdctl', '--endpoints', client, ...files, ...args], {
          env: { ETCDCTL_API: '3' },
        }),
    };
    await cluster.until('etcd serves', async () => (await secure.etcdctl('get', '/')) === '');
    const flags = ['--etcd', client, '--etcd-ca', ca.ca, '--etcd-cert', cert, '--etcd-key', key];
    const of = weftAgent('bench', 4100, flags);
    await createNetwork(secure, of);
    const host = cluster.lab.host(1);
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const started = start(host, of);
      times.push(await secondsUntil('its subnet', () => subnetOf(host, of) !== undefined));
      await forget(secure, host, started, of);
    }
    await etcd.kill();
    return median(times);
  } finally {
    ca.remove();
  }
}

export interface Large {
  /** Seconds from the start until all peers are programmed. */
  weft: number;
  /** Seconds in which ip and bridge program the same neighbours, routes and FDB entries. */
  ip: number;
  /** Megabytes of the agent afterwards. */
  resident: number;
}

export async function largeNetwork(cluster: Cluster): Promise<Large> {
  const [host, other] = [cluster.lab.host(1), cluster.lab.host(2)];
  const of = weftAgent('large', VNI);
  const config = { Network: '10.128.0.0/9', SubnetLen: 24, Backend: { Type: 'vxlan', VNI } };
  await cluster.etcdctl('put', `${of.prefix}/config`, JSON.stringify(config));
  const peers = Array.from({ length: PEERS }, (_, n) => peer(n));
  for (let at = 0; at < PEERS; at += AT_ONCE) {
    const puts = peers.slice(at, at + AT_ONCE).map(({ base, publicIp, mac }) => {
      const lease = { PublicIP: publicIp, BackendType: 'vxlan', BackendData: { VNI, VtepMAC: mac } };
      return `put ${of.prefix}/subnets/${base}-24 ${JSON.stringify(JSON.stringify(lease))}`;
    });
    await cluster.etcdctlIn(`\n${puts.join('\n')}\n\n\n`, 'txn');
  }
  const ip = await byHand(other, peers);
  const started = start(host, of);
  // The file is there before the peers are; the routes, thousands of lines, are not looked at before.
  const subnet = await secondsUntil('its subnet', () => subnetOf(host, of) !== undefined);
  const weft = subnet + (await secondsUntil('all peers', () => routesOf(started).size >= PEERS));
  await delay(REST_MS);
  const resident = residentOf(started.pid);
  await forget(cluster, host, started, of);
  await cluster.etcdctl('del', '--prefix', of.prefix);
  return { weft, ip, resident };
}

interface Peer {
  base: string;
  publicIp: string;
  mac: string;
}

/** The n-th node; its public address is of the range for benchmarks (RFC 2544). */
const peer = (n: number): Peer => ({
  base: `10.${128 + (n >> 8)}.${n & 0xff}.0`,
  publicIp: `198.18.${n >> 8}.${n & 0xff}`,
  mac: `02:00:00:00:${[n >> 8, n & 0xff].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`,
});

/** Programs the peers with iproute2. @returns the seconds that it took */
async function byHand(host: Host, peers: readonly Peer[]): Promise<number> {
  const link = 'byhand';
  await host.must([
    'ip',
    'link',
    'add',
    link,
    'type',
    'vxlan',
    'id',
    '4103',
    'dstport',
    '4103',
    'nolearning',
  ]);
  await host.must(['ip', 'link', 'set', link, 'up']);
  const entries = peers.map(({ mac, publicIp }) => `fdb append ${mac} dev ${link} dst ${publicIp} self`);
  const others = peers.flatMap(({ base, mac }) => [
    `neigh replace ${base} lladdr ${mac} dev ${link} nud permanent`,
    `route replace ${base}/24 via ${base} dev ${link} onlink`,
  ]);
  const began = performance.now();
  await must(['bridge', '-n', host.namespace, '-batch', '-'], { input: `${entries.join('\n')}\n` });
  await must(['ip', '-n', host.namespace, '-batch', '-'], { input: `${others.join('\n')}\n` });
  const took = (performance.now() - began) / 1000;
  await host.must(['ip', 'link', 'del', link]);
  return took;
}
