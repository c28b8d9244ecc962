// A controller that is its own certificate authority, as a process, with clients of each role.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { authorityHashOf } from '../../../daemon/certificate.js';
import { enrol } from '../../../daemon/enrolment.js';
import { call, channel } from '../../../daemon/grpc.js';
import { IdentityFolder } from '../../../daemon/identity-folder.js';
import type { ClientTls } from '../../../daemon/tls.js';
import type { Role } from '../../../core/identity.js';
import { CreateTokenRequest, IdentityServiceClient } from '../../../proto/gen/weft/v1/identity.js';
import { freePort } from '../../lab/free-port.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';
import { until } from '../../lab/wait.js';
import { startController, type TestProcess } from '../processes.js';

/** What a plain controller is started with, to be moved. */
export const PLAIN = { WEFT_INSECURE: '1' };
export const SECURE = { WEFT_INSECURE: '' };

export const WITHIN = { peer: 'the controller', deadlineMs: 10_000 };

export interface SecureController {
  process: TestProcess;
  folder: string;
  stateDir: string;
  address: string;
  http: string;
  /** The embedded etcd's. */
  etcdUrl: string;
  /** The identity that the controller has written for root. */
  admin: ClientTls;
  /** The controller's own identity: etcd's superuser. */
  authority(): IdentityFolder;
  identity(tls?: ClientTls): IdentityServiceClient;
  token(request?: Partial<CreateTokenRequest>): Promise<string>;
  /** A certificate of this role; of a node of this name. */
  member(role: Role, node?: string): Promise<{ tls: ClientTls; folder: IdentityFolder }>;
}

/** @param flags of the controller; with `--etcd` it has no etcd of its own */
export async function startSecure(
  t: ExecutionContext,
  flags: readonly string[] = [],
  at: { folder?: string; ports?: readonly [grpc: number, http: number, etcd: number] } = {},
): Promise<SecureController> {
  const folder = at.folder ?? temporaryFolder(t, 'weft-secure-');
  const stateDir = join(folder, 'state');
  const adminDir = join(folder, 'admin');
  const [grpc, web, etcd] = at.ports ?? [await freePort(), await freePort(), await freePort()];
  const [address, http] = [`127.0.0.1:${grpc}`, `127.0.0.1:${web}`];
  const etcdUrl = `https://127.0.0.1:${etcd}`;
  const process = startController(
    [
      ...['--listen', address, '--http', http, '--state-dir', stateDir, '--admin-dir', adminDir],
      ...(flags.includes('--etcd') ? [] : ['--etcd-listen', etcdUrl]),
      ...flags,
    ],
    SECURE,
  );
  t.teardown(() => process.stop());
  await until('the controller is ready', () => process.output.includes('the controller is ready'), {
    context: () => process.output,
  });
  const hash = authorityHashOf(new IdentityFolder(join(stateDir, 'ca'), 'controller').read().tls.ca);
  const adminFolder = new IdentityFolder(join(adminDir, hash), 'client');
  await until('the certificate of root', () => adminFolder.exists && adminFolder.read().info.to > new Date());
  const admin = adminFolder.read().tls;
  const clients: IdentityServiceClient[] = [];
  t.teardown(() => clients.forEach((client) => client.close()));
  const identity = (tls: ClientTls = admin): IdentityServiceClient => {
    const client = new IdentityServiceClient(address, ...channel(address, tls));
    clients.push(client);
    return client;
  };
  const token = async (request: Partial<CreateTokenRequest> = {}): Promise<string> => {
    const client = identity();
    const wanted = CreateTokenRequest.fromPartial({ role: 'node', ttlSeconds: 3600, ...request });
    return (await call(client.createToken.bind(client), wanted, WITHIN)).token;
  };
  let members = 0;
  const member: SecureController['member'] = async (role, node = '') => {
    const own = new IdentityFolder(join(folder, `member-${++members}`), 'client');
    const given = await token({ role });
    await enrol({ address, token: given, node, roles: [role], folder: () => own });
    return { tls: own.read().tls, folder: own };
  };
  const authority = (): IdentityFolder => new IdentityFolder(join(stateDir, 'ca'), 'controller');
  return { process, folder, stateDir, address, http, etcdUrl, admin, authority, identity, token, member };
}

/** etcdctl as the holder of this identity. */
export function etcdctl({ etcdUrl }: SecureController, folder: IdentityFolder, ...args: string[]): string {
  const { ca, cert, key } = folder.paths;
  try {
    return execFileSync(
      'etcdctl',
      ['--endpoints', etcdUrl, '--cacert', ca, '--cert', cert, '--key', key, ...args],
      { env: { ...process.env, ETCDCTL_API: '3' }, encoding: 'utf8', stdio: 'pipe' },
    ).trim();
  } catch (error) {
    return (error as { stderr: string }).stderr;
  }
}

/** Keys and values below a start, as the controller's own certificate reads them. */
export function etcdKeys(controller: SecureController, start: string): string {
  return etcdctl(controller, controller.authority(), 'get', '--prefix', start);
}
