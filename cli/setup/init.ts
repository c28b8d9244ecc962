// `weft init`: a cluster on its first host, with a controller, its etcd and its CA, and a node.
import { failedPrecondition } from '../../core/errors.js';
import { byWhom, portOwner } from '../../daemon/port-owner.js';
import type { Token } from '../../proto/gen/weft/v1/identity.js';
import { connectorFor, WRITE_MS } from '../connect.js';
import type { Result } from '../output.js';
import { findProgram } from './find-program.js';
import type { SetupFile } from './files.js';
import { eventually } from './health.js';
import { CONTROLLER_STATE, SetupHost, type SetupOptions } from './host.js';
import { AGENT_YAML, CONTROLLER_YAML, settingsText, type Settings } from './settings.js';
import { UNITS } from './units.js';

export interface InitOptions extends SetupOptions {
  /** Addresses that others are told. */
  advertise?: string[];
}

const ETCD_PORT = 2379;
/** Of the token for further hosts: its default, too. */
const TOKEN_SECONDS = 24 * 3600;

export async function init(options: InitOptions): Promise<Result> {
  const host = await SetupHost.open(options);
  host.mustBe('init');
  const hasOwnEtcd = (await host.setting('weft-controller', 'etcd')) === undefined;
  if (host.systemd !== undefined && hasOwnEtcd && !(await host.systemd.isActive('weft-controller')))
    await checkEtcd(host);
  const files = await host.write('init', [
    controllerFile(options.advertise),
    agentFile(await host.controllerAddress()),
    ...host.units(UNITS),
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
  const token = await eventually(() => createToken(host, options), 10_000);
  await host.start(systemd, 'weft-agent');
  const next = [`weft join ${token.controller} --token ${token.token}`];
  return {
    value: { controller: token.controller, token: token.token, expires: token.expires, files, next },
    text: () =>
      [
        `This host has a cluster: its controller is at ${token.controller}, and it is a node.`,
        ...(hasOwnEtcd ? [ALONE] : []),
        '',
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

function controllerFile(advertise: readonly string[] | undefined): SetupFile {
  const settings: Settings = { ...(advertise !== undefined && { advertise }) };
  return { path: CONTROLLER_YAML, text: settingsText('controller', 'init', settings), settings };
}

function agentFile(controller: string): SetupFile {
  const settings: Settings = {
    controller: [controller],
    'token-file': `${CONTROLLER_STATE}/node-token`,
  };
  return { path: AGENT_YAML, text: settingsText('agent', 'init', settings), settings };
}

async function createToken(host: SetupHost, options: InitOptions): Promise<Token> {
  const connect = connectorFor({ ...options, controller: await host.controllerAddress() }, () => undefined);
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
    'If it is the service of the package etcd-server: systemctl disable --now etcd. If it is an etcd for weft: name it in /etc/weft/controller.yaml (etcd).',
  );
}
