// `weft join`: this host becomes a node of a cluster, or a further controller of it.
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

import { alreadyExists, failedPrecondition } from '../../core/errors.js';
import { formatToken, parseToken } from '../../core/identity.js';
import { authorityHashesOf } from '../../daemon/certificate.js';
import { readCluster, saveCluster, type Cluster } from '../../daemon/cluster-file.js';
import { IdentityFolder } from '../../daemon/identity-folder.js';
import { replaceFile, stateError } from '../../daemon/state-file.js';
import type { Result } from '../output.js';
import { notSilently } from '../waiting.js';
import type { SetupFile } from './files.js';
import { say } from './health.js';
import { AGENT_STATE, CREDENTIALS, SetupHost, type SetupOptions } from './host.js';
import { AGENT_YAML, CONTROLLER_YAML, settingsText, type Settings } from './settings.js';
import type { Unit } from './units.js';

export interface JoinOptions extends SetupOptions {
  role: 'node' | 'controller';
  /** Name of the node; by default the hostname. */
  node?: string;
}

const TOKEN_FILE = '/etc/weft/token';
const CONTROLLER_IDENTITY = '/etc/weft/controller';
const CHAIN = 'chain.crt';

/** @param address HOST:PORT of a controller @param token as `weft token create` printed it */
export function join(address: string, token: string, options: JoinOptions): Promise<Result> {
  return options.role === 'node'
    ? joinAsNode(address, token, options)
    : joinAsController(address, token, options);
}

async function joinAsNode(address: string, token: string, options: JoinOptions): Promise<Result> {
  const host = await SetupHost.open(options);
  host.mustBe('join');
  const { systemd } = host;
  const { node = hostname() } = options;
  const settings: Settings = {
    controller: [address],
    ...(options.node !== undefined && { node }),
  };
  const text = settingsText('agent', 'join', { ...settings, 'token-file': TOKEN_FILE });
  const files: SetupFile[] = [{ path: AGENT_YAML, text, settings }, ...host.units(['weft-agent'])];
  const folder = new IdentityFolder(host.files.at(`${AGENT_STATE}/identity`), 'node');
  const has = isMember(folder, token, node);
  await host.files.check(files);

  // Before anything is written or started: what is wrong with the token is said here, not in the log of a service.
  const isNew = systemd !== undefined && !has;
  if (isNew) await enrolAs('node', { address, token, node, folder });
  else if (!has)
    files.push({
      ...{ path: TOKEN_FILE, text: `${formatToken(parseToken(token, 'token'))}\n`, mode: 0o600 },
      renewable: true,
    });
  const written = await host.write('join', files);
  if (systemd === undefined) return notStarted(host, 'weft-agent', written, options);
  // One that runs has the certificate that it began with.
  if (isNew && (await systemd.isActive('weft-agent'))) await systemd.restart('weft-agent');
  await host.start(systemd, 'weft-agent');
  const next = ['weft attach NETWORK TARGET', 'weft status'];
  return {
    value: { controller: address, node, files: written, next },
    text: () =>
      [
        `This host is node ${node} of the cluster of ${address}. Now:`,
        ...next.map((line) => `  ${line}`),
      ].join('\n'),
  };
}

async function joinAsController(address: string, token: string, options: JoinOptions): Promise<Result> {
  const host = await SetupHost.open(options);
  host.mustBe('join');
  const folder = new IdentityFolder(host.files.at(CONTROLLER_IDENTITY), 'controller');
  // A controller has no setting for a token, so that it has its certificate from here in any case.
  const isNew = !isMember(folder, token);
  if (isNew) await enrolAs('controller', { address, token, node: '', folder });
  const cluster = readCluster(folder);
  if (cluster === undefined)
    throw failedPrecondition(
      `${folder.path} has a certificate, and nothing that says where etcd is`,
      'Move that folder away, and join again with a new token.',
    );
  writeChain(folder);
  const named = ['ca.crt', CHAIN, 'controller.key'];
  const inUnit = host.hasUnits ? CREDENTIALS : CONTROLLER_IDENTITY;
  const settings = controllerSettings(
    address,
    cluster,
    named.map((name) => `${inUnit}/${name}`),
  );
  const credentials = named.map((name) => `LoadCredential=${name}:${CONTROLLER_IDENTITY}/${name}`);
  const text = settingsText('controller', 'join', settings);
  const written = await host.write('join', [
    { path: CONTROLLER_YAML, text, settings },
    ...host.units(['weft-controller'], credentials),
  ]);
  if (host.systemd === undefined) return notStarted(host, 'weft-controller', written, options);
  if (isNew && (await host.systemd.isActive('weft-controller')))
    await host.systemd.restart('weft-controller');
  await host.start(host.systemd, 'weft-controller');
  const { to } = folder.read().info;
  return {
    value: { controller: address, node: null, expires: to.toISOString(), files: written, next: [] },
    text: () =>
      `This host has a further controller of the cluster of ${address}, which renews its certificate before that ends (${to.toISOString()}).`,
  };
}

/** The certificate with its CA behind it: commands see which CA it is of, and choose theirs. */
function writeChain({ path, paths: { ca, cert } }: IdentityFolder): void {
  try {
    replaceFile(`${path}/${CHAIN}`, readFileSync(cert, 'utf8') + readFileSync(ca, 'utf8'), { sync: true });
  } catch (error) {
    throw stateError(`the certificate ${path}/${CHAIN} cannot be written`, error);
  }
}

const controllerSettings = (
  authority: string,
  { etcd, prefix }: Cluster,
  [ca = '', cert = '', key = '']: readonly string[],
): Settings => ({
  etcd,
  ...(prefix !== '/weft' && { prefix }),
  ...{ 'tls-ca': ca, 'tls-cert': cert, 'tls-key': key, authority },
});

function notStarted(host: SetupHost, unit: Unit, files: string[], { start }: JoinOptions): Result {
  const next = host.startCommands([unit]);
  return {
    value: { controller: null, node: null, files, next },
    text: () =>
      [
        `${host.notStarted}. Run, as root${start ? ', and keep it running' : ''}:`,
        ...next.map((line) => `  ${line}`),
      ].join('\n'),
  };
}

/**
 * Whether this host has a certificate of the token's cluster that has not ended.
 * @throws WeftError ALREADY_EXISTS where it is of another cluster, or of another name
 */
function isMember(folder: IdentityFolder, token: string, node?: string): boolean {
  if (!folder.exists) return false;
  const { tls, info } = folder.read();
  if (info.to.getTime() <= Date.now()) return false;
  const { authority } = parseToken(token, 'token');
  if (!authorityHashesOf(tls.ca).includes(authority))
    throw alreadyExists(
      `${folder.path}: this host is in another cluster than the token is of (${authority})`,
      'Take it out of that one first: weft leave.',
    );
  const { identity } = info;
  if (identity.role === 'node' && identity.node !== node)
    throw alreadyExists(
      `${folder.path}: this host is node ${identity.node}, and not ${node}`,
      `Give --node ${identity.node}, or take it out of the cluster first: weft leave.`,
    );
  return true;
}

interface Enrolling {
  address: string;
  token: string;
  node: string;
  folder: IdentityFolder;
}

/** @throws WeftError UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED, ALREADY_EXISTS, FAILED_PRECONDITION */
async function enrolAs(role: JoinOptions['role'], { folder, ...how }: Enrolling): Promise<void> {
  const { enrol } = await import('../../daemon/enrolment.js');
  const asked = { ...how, roles: [role], folder: () => folder };
  saveCluster(folder, await notSilently(`the controller at ${how.address}`, () => enrol(asked)));
  say(`got a certificate from ${how.address}`);
}
