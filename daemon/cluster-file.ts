// What a controller has told of the cluster: a file beside the certificate that came with it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Membership } from '../proto/gen/weft/v1/identity.js';
import type { IdentityFolder } from './identity-folder.js';
import { etcdUrl } from './kinds.js';
import { replaceFile } from './state-file.js';

export interface Cluster {
  /** URLs. */
  readonly etcd: readonly string[];
  readonly prefix: string;
}

const fileIn = (folder: IdentityFolder): string => join(folder.path, 'cluster.json');

/** @throws WeftError INVALID_ARGUMENT for a URL that cannot be used; Error of the system call that failed */
export function saveCluster(folder: IdentityFolder, { etcd, prefix }: Membership): void {
  // The controller is trusted; a URL of another form would end the daemon at each start.
  const urls = etcd.map((url) => etcdUrl.parse(url, 'the controller'));
  replaceFile(fileIn(folder), `${JSON.stringify({ etcd: urls, prefix })}\n`, { sync: true });
}

/** Undefined where there is none that can be read: then the certificate was put there by somebody else. */
export function readCluster(folder: IdentityFolder): Cluster | undefined {
  try {
    const read = JSON.parse(readFileSync(fileIn(folder), 'utf8')) as Partial<Record<keyof Cluster, unknown>>;
    const { etcd, prefix } = read;
    if (!Array.isArray(etcd) || typeof prefix !== 'string') return undefined;
    return { etcd: etcd.map((url) => etcdUrl.parse(String(url), fileIn(folder))), prefix };
  } catch {
    return undefined;
  }
}
