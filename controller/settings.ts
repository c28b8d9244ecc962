// The settings of `weft controller`: one table, from which flags, environment, file and --help come.
import { isIP } from 'node:net';

import { invalidArgument } from '../core/errors.js';
import { ETCD_ACCESS, GRPC_TLS, LOG, PREFIX } from '../daemon/common-settings.js';
import * as kinds from '../daemon/kinds.js';
import { optional, setting, type Program, type Values } from '../daemon/settings.js';
import { checkEtcdAccess } from '../daemon/etcd-access.js';
import { checkEtcdTls, checkTls } from '../daemon/tls.js';

export const controllerSettings = {
  listen: setting(kinds.hostPort({ listen: true }), {
    default: '0.0.0.0:7400',
    help: 'gRPC, for agents and commands',
    group: 'Service',
  }),
  http: setting(kinds.hostPort({ listen: true }), {
    default: '127.0.0.1:7401',
    help: '/metrics, /healthz and /readyz',
    group: 'Service',
  }),
  etcd: optional(kinds.orNone(kinds.etcdUrls), {
    help: 'where etcd serves; without it the controller starts and supervises an etcd of its own',
    shownDefault: 'none',
    group: 'Cluster',
  }),
  prefix: PREFIX,
  'state-dir': setting(kinds.path('DIR'), {
    default: '/var/lib/weft',
    help: 'the embedded etcd’s data is in DIR/etcd',
    group: 'Embedded etcd',
  }),
  'etcd-listen': setting(kinds.etcdUrl, {
    default: 'http://127.0.0.1:2379',
    help: 'where the embedded etcd serves',
    group: 'Embedded etcd',
  }),
  ...ETCD_ACCESS,
  ...GRPC_TLS,
  ...LOG,
};

export type ControllerSettings = Values<typeof controllerSettings>;

export const controllerProgram: Program<typeof controllerSettings> = {
  name: 'controller',
  summary: 'The controller of a cluster: checks and writes what people ask for, and shows the whole cluster.',
  defaultFile: '/etc/weft/controller.yaml',
  settings: controllerSettings,
  check(values, origin) {
    checkTls(values, origin);
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
    checkEtcdTls(values, [values.etcdListen], origin, 'etcd-listen');
    checkEtcdListen(values, origin('etcd-listen') ?? '--etcd-listen');
  },
};

function checkEtcdListen({ etcdListen, etcdCa, etcdCert }: ControllerSettings, where: string): void {
  const { protocol, hostname, port } = new URL(etcdListen);
  // etcd binds to addresses alone ("expected IP in URL for binding"); localhost is resolved before etcd starts.
  if (isIP(hostname.replaceAll(/[[\]]/g, '')) === 0 && hostname !== 'localhost') {
    throw invalidArgument(
      `${where}: ${etcdListen} has a name as its host, and etcd listens on addresses alone`,
      'Give an address of this host, or http://0.0.0.0:2379.',
    );
  }
  if (port === '0')
    throw invalidArgument(`${where}: ${etcdListen} has no valid port (0)`, 'Ports are 1 to 65535.');
  if (protocol === 'https:' && (etcdCa === undefined || etcdCert === undefined)) {
    throw invalidArgument(
      `${where}: ${etcdListen} needs certificates`,
      'Set --etcd-ca, --etcd-cert and --etcd-key: the embedded etcd serves with them and accepts clients of that CA alone.',
    );
  }
}
