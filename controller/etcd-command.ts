// The command line and environment of the embedded etcd, the same for etcd 3.4 (Debian 12) and 3.5.
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

import { failedPrecondition } from '../core/errors.js';
import type { EtcdTlsPaths } from '../daemon/tls.js';
import type { EtcdPorts } from './etcd-front.js';

export interface EtcdAddresses {
  /** What etcd binds to. */
  listen: string;
  /** How this controller reaches it. */
  client: string;
  /** What clients see in the member list. */
  advertise: string;
}

/** @param listen the URL of --etcd-listen @param thisHost an address by which others reach this host */
export function etcdAddresses(listen: string, thisHost: string): EtcdAddresses {
  const url = new URL(listen);
  const at = (host: string): string => `${url.protocol}//${host}:${url.port}`;
  if (url.hostname === 'localhost') return { listen: at('127.0.0.1'), client: listen, advertise: listen };
  if (url.hostname === '0.0.0.0') return { listen, client: at('127.0.0.1'), advertise: at(thisHost) };
  if (url.hostname === '[::]') return { listen, client: at('[::1]'), advertise: at(thisHost) };
  return { listen, client: listen, advertise: listen };
}

/** etcd's own default, given here so that an upgrade of etcd does not change it. */
const QUOTA_BYTES = 2 * 1024 ** 3;

export function etcdArguments(options: {
  dataDir: string;
  addresses: EtcdAddresses;
  peerPort: number;
  tls: EtcdTlsPaths;
  /** Serve plain text, too: both on these ports of 127.0.0.1, behind an EtcdFront. */
  behindFront: EtcdPorts | undefined;
  /** Common name of the only certificate that counts at the peer address; absent: any of the CA. */
  peerName?: string;
}): string[] {
  const { dataDir, addresses, peerPort, tls, behindFront, peerName } = options;
  const listen =
    behindFront === undefined
      ? addresses.listen
      : `https://127.0.0.1:${behindFront.tls},http://127.0.0.1:${behindFront.plain}`;
  const plain = addresses.advertise.replace('https:', 'http:');
  const advertise = behindFront === undefined ? addresses.advertise : `${addresses.advertise},${plain}`;
  const isSecure =
    addresses.listen.startsWith('https:') &&
    tls.etcdCa !== undefined &&
    tls.etcdCert !== undefined &&
    tls.etcdKey !== undefined;
  // A single member has no peers, but etcd insists on a peer address, and asks nobody there who he is.
  const peer = `${isSecure ? 'https' : 'http'}://127.0.0.1:${peerPort}`;
  const secure = isSecure
    ? [
        `--cert-file=${tls.etcdCert}`,
        `--key-file=${tls.etcdKey}`,
        `--trusted-ca-file=${tls.etcdCa}`,
        '--client-cert-auth',
        `--peer-cert-file=${tls.etcdCert}`,
        `--peer-key-file=${tls.etcdKey}`,
        `--peer-trusted-ca-file=${tls.etcdCa}`,
        '--peer-client-cert-auth',
        ...(peerName === undefined ? [] : [`--peer-cert-allowed-cn=${peerName}`]),
        // JSON over HTTP: it asks etcd by the server's own certificate.
        '--enable-grpc-gateway=false',
      ]
    : [];
  return [
    '--name=weft',
    `--data-dir=${dataDir}`,
    `--listen-client-urls=${listen}`,
    `--advertise-client-urls=${advertise}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=weft=${peer}`,
    // Milliseconds. It waits this long for a leader before it elects itself, and has nobody to hear from.
    '--heartbeat-interval=20',
    '--election-timeout=100',
    // An hour of history is more than any watch needs to catch up.
    '--auto-compaction-mode=periodic',
    '--auto-compaction-retention=1h',
    `--quota-backend-bytes=${QUOTA_BYTES}`,
    '--logger=zap',
    '--log-outputs=stderr',
    '--log-level=warn',
    ...secure,
  ];
}

/** etcd reads ETCD_* variables as settings: they are left out. */
export function etcdEnvironment(path: string): Record<string, string> {
  // etcd 3.4 refuses to start on arm64 unless this variable says that it is meant.
  return { PATH: path, ...(process.arch === 'x64' ? {} : { ETCD_UNSUPPORTED_ARCH: process.arch }) };
}

/** PATH with the administrators' folders, which a service manager's may lack. */
export function searchPath(path = process.env['PATH'] ?? ''): string {
  const folders = path.split(delimiter).filter((folder) => folder !== '');
  return [...new Set([...folders, '/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'])].join(
    delimiter,
  );
}

/** @throws WeftError FAILED_PRECONDITION saying how to install it */
export async function findProgram(name: string, debianPackage: string, path: string): Promise<string> {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, name);
    const found = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return file;
  }
  throw failedPrecondition(
    `${name}: this program, which the embedded etcd needs, is not installed (looked in ${path})`,
    `Install it: apt-get install ${debianPackage}. Or name an etcd that runs: --etcd http://HOST:2379.`,
  );
}
