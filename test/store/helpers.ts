// Helpers for the store's tests: a store on a real etcd, a recording log, records, waits.

import { IpAddress, IpNetwork } from '../../core/address.js';
import type { Endpoint } from '../../core/records.js';
import { openStore } from '../../store/etcd-store.js';
import type { StoreLog } from '../../store/client.js';
import type { LeaseRequest, Store } from '../../store/store.js';
import { describeNetwork } from '../../core/drivers/index.js';
import type { Network, NetworkSpec } from '../../core/network.js';
import { until } from '../lab/wait.js';
import type { TestEtcd } from './etcd.js';

export interface LogLine {
  level: 'debug' | 'info' | 'warn' | 'error';
  message: string;
  fields: object | undefined;
}

export function recordingLog(): StoreLog & { lines: LogLine[] } {
  const lines: LogLine[] = [];
  const at = (level: LogLine['level']) => (message: string, fields?: object) =>
    void lines.push({ level, message, fields });
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

let serial = 0;
/** A new prefix, so that many tests can share one etcd. */
export const freshPrefix = (): string => `/test${++serial}`;

const open: Store[] = [];

/** For the end of a test file: a failed test must not keep the process alive. */
export async function closeStores(): Promise<void> {
  await Promise.all(open.splice(0).map(async (store) => await store.close()));
}

/** @param networks those whose records it follows; absent: all */
export function openTestStore(
  endpoints: string[],
  prefix: string,
  log = recordingLog(),
  networks?: string[],
): Store {
  const store = openStore({ endpoints, prefix, log, ...(networks && { networks }) });
  open.push(store);
  return store;
}

export async function storeOn(
  etcd: Pick<TestEtcd, 'url'>,
  prefix: string,
  log = recordingLog(),
): Promise<Store> {
  const store = openTestStore([etcd.url], prefix, log);
  await store.synced(AbortSignal.timeout(10_000));
  return store;
}

export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs?: number,
): Promise<void> {
  await until(what, condition, { everyMs: 5, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
}

export const spec = (name: string, subnet: string, more: Partial<NetworkSpec> = {}): NetworkSpec => ({
  name,
  subnet: IpNetwork.parse(subnet),
  ...more,
});

export const vniOf = (network: Network | undefined): number =>
  network === undefined ? 0 : (describeNetwork(network).vni ?? 0);

export function request(network: Network, number: number, more: Partial<LeaseRequest> = {}): LeaseRequest {
  const dual = network.subnet6 !== undefined;
  const vtep = (kind: 0 | 6): { vni: number; mac: string } => ({
    vni: vniOf(network),
    mac: `02:00:00:00:0${kind}:${(number % 256).toString(16).padStart(2, '0')}`,
  });
  return {
    network,
    node: `n${number}`,
    instance: `instance-${number}`,
    publicIp: IpAddress.parse('192.0.2.0').plus(number),
    ...(dual && { publicIp6: IpAddress.parse('2001:db8::').plus(number) }),
    data: { type: 'vxlan', 4: vtep(0), ...(dual && { 6: vtep(6) }) },
    ttlSeconds: 60,
    ...more,
  };
}

export function endpoint(network: string, id: string, more: Partial<Endpoint> = {}): Endpoint {
  return {
    id,
    name: `c-${id}`,
    explicitName: false,
    network,
    node: 'n1',
    target: `netns:/run/netns/${id}`,
    sandbox: { path: `/run/netns/${id}`, cookie: '42', bootId: 'b' },
    ifname: 'eth0',
    hostIfname: `wfep${id.slice(0, 11)}`,
    mac: '02:00:00:00:00:2a',
    ip: '10.100.5.2/24',
    defaultRoute: true,
    aliases: [],
    publish: [],
    manager: 'weft',
    createdAt: '2026-11-21T00:00:00Z',
    ...more,
  };
}

/** The message with which a call fails. */
export function because(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing was thrown';
}
