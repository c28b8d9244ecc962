// The settings of `weft agent`.
//
// One table makes flags, environment variables, the file's keys and --help.
import { hostname } from 'node:os';
import { join as pathIn } from 'node:path';

import { invalidArgument } from '../core/errors.js';
import {
  DOCKER,
  ETCD_ACCESS,
  GCE_ENDPOINT,
  GRPC_TLS,
  INSECURE,
  LOG,
  PREFIX,
} from '../daemon/common-settings.js';
import * as kinds from '../daemon/kinds.js';
import type { Plugin } from '../daemon/plugin-host.js';
import { dnsServers } from './dns/index.js';
import { nodeIdentityFolder } from './identity/index.js';
import { parseToken } from '../core/identity.js';
import { optional, setting, type Origin, type Program, type Values } from '../daemon/settings.js';
import { checkEtcdAccess } from '../daemon/etcd-access.js';
import { checkTls } from '../daemon/tls.js';

const HOUR = 3_600_000;

export const agentSettings = {
  node: setting(kinds.nodeName, {
    default: hostname,
    shownDefault: 'the hostname',
    help: 'name of this node, unique in the cluster',
    group: 'Cluster',
  }),
  etcd: optional(kinds.etcdUrls, {
    help: 'URLs of etcd; learnt from the controller with a token',
    group: 'Cluster',
  }),
  prefix: PREFIX,
  controller: optional(kinds.orNone(kinds.controllers), {
    help: 'controllers to report to; the agent works without them',
    shownDefault: 'none',
    group: 'Cluster',
  }),
  'gce-endpoint': GCE_ENDPOINT,
  'underlay-ip': optional(kinds.underlayIp, {
    help: 'addresses of this host that it sends from',
    shownDefault: 'at first what the kernel sends from by the default route, then the same',
    group: 'Node',
  }),
  'underlay-iface': optional(kinds.linkName, {
    help: 'interface with the addresses that this host sends from',
    group: 'Node',
  }),
  'public-ip': optional(kinds.underlayIp, {
    help: 'addresses that other nodes send to, where NAT leads from them to the underlay addresses',
    shownDefault: 'the underlay addresses',
    group: 'Node',
  }),
  join: setting(kinds.orNone(kinds.networkNames), {
    default: 'none',
    help: 'networks to join at start, not at the first attach',
    group: 'Node',
  }),
  'subnet-only': setting(kinds.orNone(kinds.networkNames), {
    default: 'none',
    help: 'networks to join at start whose bridge and gateway are another program’s (dockerd --bip)',
    group: 'Node',
  }),
  firewall: setting(kinds.choice('auto', 'nftables', 'iptables'), {
    default: 'auto',
    help: 'firewall that holds the rules',
    group: 'Node',
  }),
  'max-connections': optional(kinds.wholeNumber({ min: 1, max: 16_777_216 }), {
    help: 'connections that one container may have open outside its network',
    shownDefault: 'any number',
    group: 'Node',
  }),
  'close-etcd': setting(kinds.choice('on', 'off'), {
    default: 'off',
    help: 'whether containers are kept from the etcd of --etcd; a controller’s own always is',
    group: 'Node',
  }),
  'endpoint-metrics': setting(kinds.choice('on', 'off'), {
    default: 'off',
    help: 'whether /metrics has the traffic of each container, too',
    group: 'Node',
  }),
  flannel: setting(kinds.choice('on', 'off'), {
    default: 'on',
    help: 'whether flannelds may be nodes of the networks; off: only leases that their nodes confirm count',
    group: 'Node',
  }),
  'subnet-ttl': setting(kinds.duration({ min: 2000, max: 365 * 24 * HOUR, wholeSeconds: true }), {
    default: '24h',
    help: 'how long a subnet stays reserved for a node that is down',
    group: 'Node',
  }),
  'node-ttl': setting(kinds.duration({ min: 1000, max: HOUR, wholeSeconds: true }), {
    default: '3s',
    help: 'how long a silent node counts as up',
    group: 'Node',
  }),
  'run-dir': setting(kinds.path('DIR'), {
    default: '/run/weft',
    help: 'directory of agent.sock and subnets/NETWORK.env',
    group: 'Node',
  }),
  'state-dir': setting(kinds.path('DIR'), {
    default: '/var/lib/weft',
    help: 'directory of what must survive a restart',
    group: 'Node',
  }),
  'cni-socket': optional(kinds.orNone(kinds.path('PATH')), {
    help: 'socket of the CNI plugin’s shim; none turns it off',
    shownDefault: 'cni.sock in --run-dir',
    group: 'Node',
  }),
  docker: DOCKER,
  dns: setting(kinds.choice('on', 'off'), {
    default: 'on',
    help: 'whether the gateway addresses answer DNS queries',
    group: 'Names',
  }),
  'dns-server': optional(dnsServers, {
    help: 'DNS servers for names outside weft, for all or for one domain',
    shownDefault: 'those of /etc/resolv.conf',
    group: 'Names',
  }),
  http: setting(kinds.hostPort({ listen: true }), {
    default: '127.0.0.1:7402',
    help: '/metrics, /healthz and /readyz',
    group: 'Node',
  }),
  ...ETCD_ACCESS,
  ...GRPC_TLS,
  token: optional(kinds.word('TOKEN'), {
    help: 'gets this node’s certificate from the controller at the first start',
    group: 'TLS between weft’s parts',
  }),
  'token-file': optional(kinds.file, {
    help: 'a file with the token',
    group: 'TLS between weft’s parts',
  }),
  insecure: INSECURE,
  ...LOG,
  cleanup: setting(kinds.toggle, {
    default: 'false',
    help: 'delete everything weft made on this node, release its leases, and exit',
    flagOnly: true,
  }),
  'dry-run': setting(kinds.toggle, {
    default: 'false',
    help: 'print the steps that the agent would take on this node, take none of them, and end',
    // An action: a file must not keep the agent from starting.
    flagOnly: true,
  }),
  output: setting(kinds.choice('text', 'json'), {
    default: 'text',
    help: 'how --dry-run prints',
    flagOnly: true,
    short: 'o',
  }),
};

/** `controller`, `join` and `subnetOnly` may be empty, as `etcd` and `prefix` until they are learnt. */
export type AgentSettings = Omit<
  Values<typeof agentSettings>,
  'etcd' | 'controller' | 'join' | 'subnetOnly' | 'prefix' | 'cniSocket'
> & {
  readonly etcd: readonly string[];
  readonly controller: readonly kinds.HostPort[];
  readonly join: readonly string[];
  readonly subnetOnly: readonly string[];
  readonly prefix: string;
  /** Absent: none. */
  readonly cniSocket?: string | undefined;
  /** Whether the user has named the prefix. */
  readonly hasPrefix: boolean;
};

export const agentProgram: Program<typeof agentSettings> = {
  name: 'agent',
  summary: 'The daemon of a node: makes the kernel match the records in etcd, and attaches containers.',
  defaultFile: '/etc/weft/agent.yaml',
  settings: agentSettings,
  check(values, origin) {
    const hasIdentity = nodeIdentityFolder(values.stateDir).exists;
    const mayLearn = hasIdentity || values.token !== undefined || values.tokenFile !== undefined;
    if (values.etcd === undefined && !mayLearn) {
      throw invalidArgument(
        'etcd: not set, and the agent needs it',
        'Give --etcd http://HOST:2379, WEFT_ETCD, or the key etcd in /etc/weft/agent.yaml; or --token and --controller.',
      );
    }
    checkToken(values, origin);
    const isTrusted = mayLearn || values.insecure || values.tlsCa !== undefined;
    if (values.controller !== undefined && !isTrusted && !values.cleanup && !values.dryRun) {
      throw invalidArgument(
        `${origin('controller') ?? '--controller'}: needs a way to trust each other`,
        'Give --token TOKEN (weft token create), or --tls-ca, --tls-cert and --tls-key, or --insecure for plain text.',
      );
    }
    if (values.underlayIp !== undefined && values.underlayIface !== undefined) {
      throw invalidArgument(
        `${origin('underlay-ip') ?? 'underlay-ip'} and ${origin('underlay-iface') ?? 'underlay-iface'}: only one of the two can set the underlay address`,
        'Leave one of them out.',
      );
    }
    if (values.dryRun && values.cleanup) {
      throw invalidArgument(
        `flag --cleanup: it changes what ${origin('dry-run') ?? '--dry-run'} leaves as it is`,
        'Leave one of them out.',
      );
    }
    if (!values.dryRun && origin('output') !== undefined) {
      throw invalidArgument('flag --output: it is for --dry-run alone', 'Add --dry-run, or leave it out.');
    }
    checkTls(values, origin);
    // The node's own certificate serves for an etcd with TLS where none is named.
    const named = [values.etcdCa, values.etcdCert, values.etcdKey].some((path) => path !== undefined);
    if (values.etcd !== undefined && (named || !mayLearn)) checkEtcdAccess(values, values.etcd, origin);
  },
};

/** The agent's program with the settings of its plugins. */
export const agentProgramWith = (plugins: readonly Plugin[]): Program<typeof agentSettings> => ({
  ...agentProgram,
  settings: plugins.reduce((table, { settings }) => ({ ...table, ...settings, ...table }), agentSettings),
});

/** @throws WeftError INVALID_ARGUMENT */
function checkToken({ token, tokenFile, controller }: Values<typeof agentSettings>, origin: Origin): void {
  const [given] = ['token', 'token-file'].flatMap((key) => origin(key) ?? []);
  if (given === undefined) return;
  if (token !== undefined && tokenFile !== undefined)
    throw invalidArgument(`${given}: there are --token and --token-file`, 'Leave one of them out.');
  if (token !== undefined) parseToken(token, given);
  if (controller === undefined)
    throw invalidArgument(`${given}: needs a controller to use it at`, 'Give --controller HOST:PORT.');
}

/** The values as the agent uses them, after `check`. */
export function agentSettingsFrom(
  values: Values<typeof agentSettings>,
  origin: Origin = () => undefined,
): AgentSettings {
  const { etcd = [], controller = [], join = [], subnetOnly = [] } = values;
  const isCniOff = values.cniSocket === undefined && origin('cni-socket') !== undefined;
  return {
    ...values,
    ...{ etcd, controller, join, subnetOnly },
    cniSocket: isCniOff ? undefined : (values.cniSocket ?? pathIn(values.runDir, 'cni.sock')),
    hasPrefix: origin('prefix') !== undefined,
  };
}
