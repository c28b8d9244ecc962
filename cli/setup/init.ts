// `weft init`: a cluster on its first host, with a controller, its etcd and its CA, and a node.
import { failedPrecondition, invalidArgument } from '../../core/errors.js';
import { checkEtcdAccess, readEtcdAccess } from '../../daemon/etcd-access.js';
import { byWhom, portOwner } from '../../daemon/port-owner.js';
import type { Token } from '../../proto/gen/weft/v1/identity.js';
import { connectorFor, WRITE_MS } from '../connect.js';
import type { Result } from '../output.js';
import { findProgram } from './find-program.js';
import type { SetupFile } from './files.js';
import { eventually } from './health.js';
import { CONTROLLER_STATE, CREDENTIALS, SetupHost, type SetupOptions } from './host.js';
import { AGENT_YAML, CONTROLLER_YAML, settingsText, type Settings } from './settings.js';
import { UNITS } from './units.js';

export interface InitOptions extends SetupOptions {
  /** Addresses that others are told. */
  advertise?: string[];
  /** An etcd of the user's; the other settings of it are for this one. */
  etcd?: string[];
  etcdCa?: string;
  etcdCert?: string;
  etcdKey?: string;
  etcdUsername?: string;
  etcdPasswordFile?: string;
}

/** Of an etcd of the user's: the settings that name files. */
const ETCD_FILES = [
  ['etcd-ca', 'etcdCa'],
  ['etcd-cert', 'etcdCert'],
  ['etcd-key', 'etcdKey'],
  ['etcd-password-file', 'etcdPasswordFile'],
] as const;

const ETCD_PORT = 2379;
/** Of the token for further hosts: its default, too. */
const TOKEN_SECONDS = 24 * 3600;

export async function init(options: InitOptions): Promise<Result> {
  const host = await SetupHost.open(options);
  host.mustBe('init');
  const hasOwnEtcd =
    options.etcd === undefined && (await host.setting('weft-controller', 'etcd')) === undefined;
  if (host.systemd !== undefined && hasOwnEtcd && !(await host.systemd.isActive('weft-controller')))
    await checkEtcd(host);
  const files = await host.write('init', [
    controllerFile(options, host.hasUnits),
    agentFile(options, await host.controllerAddress()),
    ...host.units(UNITS, credentialsOf(options)),
  ]);
  const { systemd, notStarted } = host;
  if (systemd === undefined) {
    const next = [...host.startCommands(UNITS), 'weft token create'];
    const head = `${notStarted}. Run, as root${options.start ? ', and keep the daemons running' : ''}:`;
    return {
      value: { controller: null, token: null, expires: null, files, next },
      text: () => [...(hasOwnEtcd ? [ALONE, ''] : []), head, ...next.map((line) => `  ${line}`)].join('\n'),
    };
  }
  await host.start(systemd, 'weft-controller');
  // The certificate of root is there a moment after the controller is ready.
  const token = await eventually('a token', () => createToken(host, options), 10_000);
  await host.start(systemd, 'weft-agent');
  const next = [`weft join ${token.controller} --token ${token.token}`];
  return {
    value: { controller: token.controller, token: token.token, expires: token.expires, files, next },
    text: () =>
      [
        `This host has a cluster: its controller is at ${token.controller}, and it is a node.`,
        ...(hasOwnEtcd ? [ALONE] : []),
        '',
        ...(options.etcd?.some((url) => url.startsWith('https:')) === true || options.etcdUsername
          ? [ETCD_OF_NODES]
          : []),
        'On every other host, within 24 hours (later with a new token: weft token create):',
        ...next.map((line) => `  ${line}`),
        '',
        'Then a network, and a container on it:',
        '  weft network create blue --subnet 10.100.0.0/16',
        '  weft attach blue TARGET',
      ].join('\n'),
  };
}

const ALONE = `Its etcd and its CA are on this host alone, a single point of failure: without it networks cannot be changed and no host can join; traffic goes on. Keep a copy of ${CONTROLLER_STATE}/ca. Several controllers need an etcd of yours.`;

/** What an agent does not learn from the controller. */
const ETCD_OF_NODES = `Every host needs its own way to that etcd: first write etcd-ca, etcd-cert, etcd-key or etcd-username, etcd-password-file into its ${AGENT_YAML}.`;

/** @param asCredentials the unit shows the files: its user may read none of root's */
function controllerFile(options: InitOptions, asCredentials: boolean): SetupFile {
  const settings: Settings = {
    ...(options.advertise !== undefined && { advertise: options.advertise }),
    ...etcdSettings(options, (key, path) => (asCredentials ? `${CREDENTIALS}/${key}` : path)),
  };
  return { path: CONTROLLER_YAML, text: settingsText('controller', 'init', settings), settings };
}

function agentFile(options: InitOptions, controller: string): SetupFile {
  const settings: Settings = {
    controller: [controller],
    'token-file': `${CONTROLLER_STATE}/node-token`,
    ...etcdSettings(options, (_key, path) => path),
  };
  return { path: AGENT_YAML, text: settingsText('agent', 'init', settings), settings };
}

function etcdSettings(options: InitOptions, pathOf: (key: string, path: string) => string): Settings {
  const { etcd, etcdUsername } = options;
  const files = ETCD_FILES.flatMap(([key, option]) => {
    const path = options[option];
    return path === undefined ? [] : [[key, pathOf(key, path)]];
  });
  return {
    ...(etcd !== undefined && { etcd }),
    ...(etcdUsername !== undefined && { 'etcd-username': etcdUsername }),
    ...Object.fromEntries(files),
  };
}

const credentialsOf = (options: InitOptions): string[] =>
  ETCD_FILES.flatMap(([key, option]) => {
    const path = options[option];
    return path === undefined ? [] : [`LoadCredential=${key}:${path}`];
  });

/** @throws WeftError INVALID_ARGUMENT, as the daemons would */
export function checkExternalEtcd(options: InitOptions): void {
  const { etcd, etcdCa, etcdCert, etcdKey, etcdUsername, etcdPasswordFile } = options;
  if (etcd === undefined) {
    const given = [...ETCD_FILES, ['etcd-username', 'etcdUsername'] as const].find(
      ([, option]) => options[option] !== undefined,
    );
    if (given === undefined) return;
    throw invalidArgument(
      `--${given[0]}: is for an etcd of yours, and none is named`,
      'Name it with --etcd.',
    );
  }
  const values = { etcdCa, etcdCert, etcdKey, etcdUsername, etcdPasswordFile };
  checkEtcdAccess(values, etcd, () => undefined);
  readEtcdAccess(values);
}

async function createToken(host: SetupHost, options: InitOptions): Promise<Token> {
  const connect = connectorFor(
    { ...options, controller: await host.controllerAddress() },
    true,
    () => undefined,
  );
  const request = { role: 'node', ttlSeconds: TOKEN_SECONDS, uses: undefined, node: undefined };
  return await connect.controller('IdentityService', (client) => client.createToken, request, WRITE_MS);
}

/** @throws WeftError FAILED_PRECONDITION where the controller could not run an etcd */
async function checkEtcd(host: SetupHost): Promise<void> {
  findProgram('etcd', 'etcd-server');
  const listen = await host.setting('weft-controller', 'etcd-listen');
  const port = listen === undefined ? ETCD_PORT : Number(new URL(listen).port);
  if ((await portOwner('0.0.0.0', port)) === undefined) return;
  throw failedPrecondition(
    `TCP ${port}, where the cluster's etcd is to serve, is in use${await byWhom('0.0.0.0', port)}`,
    'If it is the service of the package etcd-server: systemctl disable --now etcd. If it is an etcd for weft: --etcd URL.',
  );
}
