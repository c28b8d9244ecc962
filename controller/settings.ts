// The settings of `weft controller`: one table, from which flags, environment, file and --help come.
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';

import { invalidArgument } from '../core/errors.js';
import { ETCD_ACCESS, GCE_ENDPOINT, GRPC_TLS, INSECURE, LOG, PREFIX } from '../daemon/common-settings.js';
import * as kinds from '../daemon/kinds.js';
import { optional, setting, type Program, type Values } from '../daemon/settings.js';
import { checkEtcdAccess } from '../daemon/etcd-access.js';
import { checkEtcdTls, checkTls } from '../daemon/tls.js';
import { hasAuthority } from './ca/authority.js';

export const controllerSettings = {
  listen: setting(kinds.hostPort({ listen: true }), {
    default: '0.0.0.0:7400',
    help: 'gRPC, for agents and commands',
    group: 'Service',
  }),
  advertise: optional(kinds.addresses, {
    help: 'addresses of this controller that others are told',
    shownDefault: 'that of --listen, or of the default route',
    group: 'Service',
  }),
  http: setting(kinds.hostPort({ listen: true }), {
    default: '127.0.0.1:7401',
    help: '/metrics, /healthz and /readyz',
    group: 'Service',
  }),
  ui: optional(kinds.hostPort({ listen: true }), {
    help: 'a page that shows the cluster, for browsers with a certificate of its CA',
    group: 'Service',
  }),
  etcd: optional(kinds.orNone(kinds.etcdUrls), {
    help: 'where etcd serves; without it the controller starts and supervises an etcd of its own',
    shownDefault: 'none',
    group: 'Cluster',
  }),
  prefix: PREFIX,
  'gce-endpoint': GCE_ENDPOINT,
  'state-dir': setting(kinds.path('DIR'), {
    default: '/var/lib/weft',
    help: 'the embedded etcd’s data is in DIR/etcd, the certificate authority in DIR/ca',
    group: 'Embedded etcd',
  }),
  'etcd-listen': optional(kinds.etcdUrl, {
    help: 'where the embedded etcd serves',
    shownDefault: 'https://0.0.0.0:2379, and with --insecure http://127.0.0.1:2379',
    group: 'Embedded etcd',
  }),
  ...ETCD_ACCESS,
  ...GRPC_TLS,
  authority: optional(kinds.hostPort({ listen: false }), {
    help: 'the controller that is the certificate authority, and renews --tls-cert',
    shownDefault: 'none: it is not renewed',
    group: 'TLS between weft’s parts',
  }),
  insecure: INSECURE,
  'admin-dir': setting(kinds.path('DIR'), {
    default: '/etc/weft/admin',
    help: 'directory of the certificate with which root of this host manages the cluster',
    group: 'Certificate authority',
  }),
  'certificate-ttl': setting(kinds.duration({ min: 5000, max: 3650 * 24 * 3_600_000, wholeSeconds: true }), {
    default: '90d',
    help: 'life of a certificate; it is renewed after 50 to 80 % of it',
    group: 'Certificate authority',
  }),
  'node-token': optional(kinds.path('FILE'), {
    help: 'a token for one node is written there, for the agent of this host (its --token-file)',
    shownDefault: 'none',
    group: 'Certificate authority',
  }),
  ...LOG,
};

export type ControllerSettings = Values<typeof controllerSettings>;

/** Whether this controller is its own certificate authority, or would be if its state directory were empty. */
export const isAuthority = ({ insecure, tlsCa }: Pick<ControllerSettings, 'insecure' | 'tlsCa'>): boolean =>
  !insecure && tlsCa === undefined;

/** An embedded etcd that was made in plain text: it stays so until `weft ca init`. */
export const isOlder = ({ stateDir }: Pick<ControllerSettings, 'stateDir'>): boolean =>
  existsSync(join(stateDir, 'etcd', 'member')) && !hasAuthority(stateDir);

/** Where the embedded etcd serves. */
export const etcdListenOf = (values: ControllerSettings): string =>
  values.etcdListen ??
  (isAuthority(values) && !isOlder(values) ? 'https://0.0.0.0:2379' : 'http://127.0.0.1:2379');

export const controllerProgram: Program<typeof controllerSettings> = {
  name: 'controller',
  summary: 'The controller of a cluster: checks and writes what people ask for, and shows the whole cluster.',
  defaultFile: '/etc/weft/controller.yaml',
  settings: controllerSettings,
  check(values, origin) {
    checkTls(values, origin);
    if (values.ui !== undefined && values.insecure)
      throw invalidArgument(
        `${origin('ui') ?? '--ui'}: the page is served by mutual TLS alone, and --insecure is plain text`,
        'Leave one of them out; weft ui shows the page of any controller on loopback.',
      );
    if (values.authority !== undefined && values.tlsCert === undefined)
      throw invalidArgument(
        `${origin('authority') ?? '--authority'}: renews the certificate of --tls-cert, and there is none`,
        'Set --tls-ca, --tls-cert and --tls-key, or leave it out.',
      );
    if (values.etcd !== undefined) {
      if (origin('etcd-listen') !== undefined) {
        throw invalidArgument(
          `${origin('etcd-listen')}: is for the embedded etcd, but ${origin('etcd') ?? 'etcd'} names another`,
          'Leave one of them out.',
        );
      }
      checkEtcdAccess(values, values.etcd, origin);
      return;
    }
    for (const user of ['etcd-username', 'etcd-password-file']) {
      if (origin(user) === undefined) continue;
      throw invalidArgument(
        `${origin(user)}: is for an etcd with authentication, and the embedded etcd has none`,
        'Leave it out, or name your etcd with --etcd.',
      );
    }
    const listen = etcdListenOf(values);
    const secure = listen.startsWith('https:');
    const where = origin('etcd-listen') ?? '--etcd-listen';
    checkEtcdListen(listen, where);
    // A cluster that was moved to TLS may still be asked to serve plain text: it serves TLS at that address.
    const mayBePlain = values.insecure || isOlder(values) || hasAuthority(values.stateDir);
    if (!secure && values.etcdListen !== undefined && !mayBePlain) {
      throw invalidArgument(
        `${where}: ${listen} is plain text, and this cluster is not to have any`,
        `Write ${listen.replace('http:', 'https:')}, or add --insecure on every daemon and command.`,
      );
    }
    // The authority's own certificates serve where none are named.
    const { etcdCa, etcdCert, etcdKey } = values;
    const ownCertificates =
      isAuthority(values) && [etcdCa, etcdCert, etcdKey].every((it) => it === undefined);
    if (!secure || !ownCertificates) checkEtcdTls(values, [listen], origin, 'etcd-listen');
    if (secure && !ownCertificates && etcdCert === undefined) {
      throw invalidArgument(
        `${where}: ${listen} needs certificates`,
        'Set --etcd-ca, --etcd-cert and --etcd-key: the embedded etcd serves with them and accepts clients of that CA alone.',
      );
    }
  },
};

function checkEtcdListen(etcdListen: string, where: string): void {
  const { hostname, port } = new URL(etcdListen);
  // etcd binds to addresses alone ("expected IP in URL for binding"); localhost is resolved before etcd starts.
  if (isIP(hostname.replaceAll(/[[\]]/g, '')) === 0 && hostname !== 'localhost') {
    throw invalidArgument(
      `${where}: ${etcdListen} has a name as its host, and etcd listens on addresses alone`,
      'Give an address of this host, or http://0.0.0.0:2379.',
    );
  }
  if (port === '0')
    throw invalidArgument(`${where}: ${etcdListen} has no valid port (0)`, 'Ports are 1 to 65535.');
}
