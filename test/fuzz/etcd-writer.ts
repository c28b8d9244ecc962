// Puts keys into an etcd, and deletes them again.
//
// `etcd-writer.js URL put|delete FILE`, where FILE is JSON, a list of [key, value, whether it is bound to a lease]. Started in
// the network namespace of etcd.
import { readFileSync } from 'node:fs';

import { Etcd3 } from 'etcd3';

const [, , url = '', what = '', file = ''] = process.argv;
const etcd = new Etcd3({ hosts: url });
const keys = JSON.parse(readFileSync(file, 'utf8')) as [key: string, value: string, leased: boolean][];
const lease = what === 'put' ? await etcd.lease(600, { autoKeepAlive: false }).grant() : '0';
for (const [key, value, leased] of keys) {
  if (what === 'delete') await etcd.delete().key(key);
  else if (leased) await etcd.put(key).value(value).lease(lease);
  else await etcd.put(key).value(value);
}
etcd.close();
