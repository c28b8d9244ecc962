// Building blocks of etcd transactions, and the context of every writer.
import type { ICompare, IKeyValue, IRequestOp, IResponseOp } from 'etcd3';

import type { EtcdClient, StoreLog } from './client.js';
import { rangeOf, type Keys } from './keys.js';
import type { NetworkWriter } from './network-writer.js';
import type { Replica } from './replica.js';

/** What every writer of the store works with. */
export interface Context {
  client: EtcdClient;
  replica: Replica;
  keys: Keys;
  log: StoreLog;
  now: () => Date;
  /** Writes what makes and removes networks, where etcd refuses it to this process. */
  writer?: NetworkWriter | undefined;
  /** Called before the config of this network is written. @throws WeftError */
  beforeConfig?: ((network: string) => Promise<void>) | undefined;
  /** An authentication code by a key of this controller's; undefined: it has none. */
  seal?: ((text: string) => string) | undefined;
}

export const put = (key: string, value: string, etcdLease = '0'): IRequestOp => ({
  request_put: { key: Buffer.from(key), value: Buffer.from(value), lease: etcdLease },
});
/** A new value for an existing key, which keeps its etcd lease. */
export const update = (key: string, value: string): IRequestOp => ({
  request_put: { key: Buffer.from(key), value: Buffer.from(value), ignore_lease: true },
});
export const remove = (key: string): IRequestOp => ({ request_delete_range: { key: Buffer.from(key) } });
export const removeAll = (start: string): IRequestOp => ({ request_delete_range: rangeOf(start) });
export const get = (key: string): IRequestOp => ({ request_range: { key: Buffer.from(key) } });
export const getAll = (start: string): IRequestOp => ({ request_range: rangeOf(start) });

export const absent = (key: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Version',
  result: 'Equal',
  version: 0,
});
export const present = (key: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Version',
  result: 'Greater',
  version: 0,
});
/** No key has this prefix. */
export const noneOf = (start: string): ICompare => ({
  ...rangeOf(start),
  target: 'Version',
  result: 'Equal',
  version: 0,
});
/** Not written since this revision; 0: the key is absent. */
export const unchanged = (key: string, modRevision: string | number): ICompare => ({
  key: Buffer.from(key),
  target: 'Mod',
  result: 'Equal',
  mod_revision: modRevision,
});
export const holds = (key: string, value: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Value',
  result: 'Equal',
  value: Buffer.from(value),
});

/** What the n-th request of a transaction has read. */
export const rangeAt = (responses: readonly IResponseOp[], index: number): IKeyValue[] =>
  responses[index]?.response_range?.kvs ?? [];

/** The one key that the n-th request has read, if it exists. */
export const keyAt = (responses: readonly IResponseOp[], index: number): IKeyValue | undefined =>
  rangeAt(responses, index)[0];

/** etcd's limit for a transaction (--max-txn-ops). */
export const MAX_OPERATIONS = 128;

/** A linearizable read of one key. */
export async function read(client: EtcdClient, key: string): Promise<IKeyValue | undefined> {
  const { kvs } = await client.range({ key: Buffer.from(key) });
  return kvs[0];
}
