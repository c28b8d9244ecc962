// weft check: what this node needs, looked at one after the other, and everything that `weft status` warns of.
import { containerMtu } from '../../core/compile.js';
import { driverOf } from '../../core/drivers/index.js';
import { messageOf } from '../../core/errors.js';
import { sysctlName, type SysctlObject } from '../../core/objects/index.js';
import { portOwner } from '../../daemon/port-owner.js';
import { answers } from '../../daemon/unix-socket.js';
import type { Check } from '../../proto/gen/weft/v1/inspection.js';
import type { Status } from '../../proto/gen/weft/v1/types.js';
import type { Problem, ProblemKind, Problems } from '../health/index.js';
import type { InspectOptions } from './options.js';

/** In the order of the answer. */
export const GROUPS = [
  'kernel',
  'firewall',
  'ports',
  'mtu',
  'clock',
  'etcd',
  'controller',
  'versions',
  'certificates',
  'plugins',
  'addresses',
  'paths',
  'networks',
  'containers',
] as const;
type Group = (typeof GROUPS)[number];

/** Where a problem is told. */
const GROUP_OF: Record<ProblemKind, Group> = {
  name: 'addresses',
  removed: 'etcd',
  'first-list': 'etcd',
  publishing: 'etcd',
  'state-file': 'etcd',
  gateway: 'networks',
  'routed-network': 'networks',
  'awaited-network': 'networks',
  certificate: 'certificates',
  clock: 'clock',
  'plain-text': 'certificates',
  'subnet-only': 'networks',
  comparison: 'kernel',
  conflict: 'kernel',
  step: 'kernel',
  contested: 'kernel',
  namespace: 'containers',
  address: 'addresses',
  peer: 'paths',
  'neighbour-table': 'kernel',
  'router-advertisements': 'kernel',
  'duplicate-address': 'addresses',
  'public-address': 'addresses',
  rules: 'firewall',
  'port-security': 'firewall',
  policy: 'firewall',
  listener: 'ports',
  'forwarding-loop': 'networks',
  unanswered: 'networks',
  lease: 'networks',
  renewal: 'networks',
  'peer-lease': 'networks',
  'peer-claim': 'addresses',
  restoration: 'etcd',
  'moved-subnet': 'networks',
  config: 'networks',
  parent: 'networks',
  claim: 'addresses',
  'subnet-env': 'networks',
  overlap: 'addresses',
  'allowed-overlap': 'addresses',
  'containing-route': 'addresses',
  'cloud-routes': 'networks',
  'foreign-port': 'ports',
  removal: 'containers',
  'inside-route': 'containers',
  'inside-address': 'containers',
  'published-port': 'containers',
  recovery: 'containers',
  publication: 'etcd',
  port: 'ports',
  start: 'containers',
  supervision: 'containers',
  'plugin-socket': 'plugins',
  'plugin-network': 'plugins',
  'plugin-engine': 'plugins',
  'controller-version': 'versions',
};

/** A certificate that ends sooner should have been renewed. */
const CERTIFICATE_MS = 3 * 86_400_000;

export async function checkNode(options: InspectOptions): Promise<Check[]> {
  const status = await options.status();
  const looks: Record<Group, () => Promise<Check[]> | Check[]> = {
    kernel: () => kernelChecks(options),
    firewall: () => firewallChecks(options),
    ports: () => portChecks(options),
    mtu: () => mtuChecks(options, status),
    clock: () => clockChecks(options, status),
    etcd: () => [etcdCheck(status)],
    controller: () => [controllerCheck(status)],
    versions: () => [versionCheck(options)],
    certificates: () => [certificateCheck(status)],
    plugins: () => pluginChecks(status),
    addresses: () => [],
    paths: () => [pathCheck(status)],
    networks: () => status.networks.map(({ name }) => passed('networks', name, `network ${name}`)),
    containers: () => {
      const count = options.endpoints.list().length;
      return [passed('containers', 'count', `${count} ${count === 1 ? 'container' : 'containers'}`)];
    },
  };
  const found: Check[] = [];
  for (const group of GROUPS) {
    const told = toldIn(group, options.problems);
    const own = await looks[group]();
    // What is told says more than what was found.
    const failed = told.filter(({ ok }) => ok === false).map(({ what }) => what);
    found.push(...own.filter(({ ok, what }) => ok !== false || !failed.includes(what)), ...told);
    if (own.length + told.length === 0) found.push(passed(group, group, NOTHING[group] ?? group));
  }
  return found;
}

const NOTHING: Partial<Record<Group, string>> = {
  ports: 'no network needs a port',
  mtu: 'no network is here',
  plugins: 'no plugin is served',
  addresses: 'nobody else has an address of this node or its containers',
  networks: 'no network is here',
};

const toldIn = (group: Group, problems: Pick<Problems, 'all'>): Check[] =>
  problems
    .all()
    .filter(({ kind }) => GROUP_OF[kind] === group)
    .map(({ kind, isWarning, problem }) => ({
      ...ofProblem(group, kind, problem),
      ok: isWarning ? undefined : false,
    }));

const ofProblem = (group: Group, name: string, { what, why, fix }: Problem): Check => ({
  ...{ group, name, what, why, fix },
  ok: false,
});

const passed = (group: Group, name: string, what: string, why = ''): Check => ({
  ...{ group, name, what, why, fix: '' },
  ok: true,
});

/** It does not matter here, or cannot be known. */
const open = (group: Group, name: string, what: string, why: string): Check => ({
  ...passed(group, name, what, why),
  ok: undefined,
});

async function kernelChecks({ kernel, memberships, node, reconciler }: InspectOptions): Promise<Check[]> {
  const needed = new Set(
    memberships.list().flatMap(({ network }) => [...driverOf(network).needs(network, node)]),
  );
  const capabilities = kernel.capabilities().map(({ name, available, why }): Check => {
    const what = `the kernel's ${name}`;
    if (available) return passed('kernel', name, what);
    return needed.has(name)
      ? ofProblem('kernel', name, {
          what,
          why,
          fix: 'Use a kernel that has it, or another backend or driver.',
        })
      : open('kernel', name, what, `${why}; no network here needs it`);
  });
  try {
    const { node: plan, containers } = await reconciler.preview();
    const steps = [plan, ...containers.map((one) => one.plan)].flatMap((one) => one.steps);
    const wrong = steps.flatMap((step) =>
      step.do === 'put' && step.object.kind === 'sysctl' ? step.object : [],
    );
    const count = steps.length - wrong.length;
    return [
      ...capabilities,
      settingsCheck(wrong),
      count === 0
        ? passed('kernel', 'objects', OBJECTS)
        : ofProblem('kernel', 'objects', {
            what: OBJECTS,
            why: `${count} of them are not as they should be`,
            fix: 'See weft diff; the agent puts them right.',
          }),
    ];
  } catch (error) {
    return [...capabilities, open('kernel', 'objects', OBJECTS, messageOf(error))];
  }
}

const OBJECTS = 'links, addresses and routes of weft';

/** @param wrong as they should be */
function settingsCheck(wrong: readonly SysctlObject[]): Check {
  const what = 'settings of the kernel (sysctl)';
  if (wrong.length === 0) return passed('kernel', 'sysctls', what);
  const wanted = wrong.map(({ path, value }) => `${sysctlName(path)}=${value}`);
  const named = wanted.slice(0, 5).join(', ');
  return ofProblem('kernel', 'sysctls', {
    what,
    why: `these are not as they should be: ${named}${wanted.length > 5 ? ` and ${wanted.length - 5} more` : ''}`,
    fix: `The agent sets them within 10 seconds, unless it is not allowed to: sysctl -w ${wanted.join(' ')}.`,
  });
}

async function firewallChecks({ kernel, reconciler, problems }: InspectOptions): Promise<Check[]> {
  const what = `weft's rules (${kernel.firewall.kind})`;
  // The comparison looks at them whenever somebody changes rules; what it finds is told as it was.
  const isTold = problems.all().some(({ kind }) => kind === 'rules');
  const foreign = isTold
    ? []
    : [passed('firewall', 'foreign', 'rules of other programs', 'they drop none of weft’s traffic')];
  try {
    const { firewall } = await reconciler.preview();
    return firewall.length === 0
      ? [passed('firewall', 'own', what), ...foreign]
      : [ofProblem('firewall', 'own', { what, why: firewall.join('; '), fix: 'See weft diff.' }), ...foreign];
  } catch (error) {
    return [ofProblem('firewall', 'own', { what, why: messageOf(error), fix: 'See the log of the agent.' })];
  }
}

async function portChecks({ memberships }: InspectOptions): Promise<Check[]> {
  const ports = new Set(memberships.list().flatMap(({ network }) => driverOf(network).udpPorts(network)));
  return await Promise.all(
    [...ports].map(async (port): Promise<Check> => {
      const what = `UDP port ${port} of the networks`;
      // The kernel's own tunnels have no process.
      const owner = await portOwner('0.0.0.0', port, 'udp').catch(() => undefined);
      if (owner === undefined || owner.command.startsWith('weft'))
        return passed('ports', `udp ${port}`, what);
      const why = `${owner.command} (pid ${owner.pid}) has it`;
      return ofProblem('ports', `udp ${port}`, {
        what,
        why,
        fix: 'End it, or use networks of another --port.',
      });
    }),
  );
}

const mtuChecks = ({ memberships }: InspectOptions, { peers }: Status): Check[] =>
  memberships.list().map((membership): Check => {
    const { network, underlay } = membership;
    const size = containerMtu(membership);
    const what = `MTU of network ${network.name}`;
    const narrow = peers.flatMap(({ node, publicIp, paths }) =>
      paths
        .filter((path) => path.network === network.name && path.state === 'mtu')
        .map(({ mtu }) => `${node === '' ? publicIp : node} is reached with ${mtu ?? 'fewer'} bytes at most`),
    );
    return narrow.length === 0
      ? passed('mtu', network.name, what, `${size}, on ${underlay.link} with ${underlay.mtu}`)
      : ofProblem('mtu', network.name, {
          what,
          why: `it is ${size}, and ${narrow.join(', ')}`,
          fix: 'Mend the path, or create the network with a smaller --mtu.',
        });
  });

const clockChecks = ({ problems }: InspectOptions, { controller }: Status): Check[] => {
  if (problems.all().some(({ kind }) => kind === 'clock')) return [];
  return controller?.state === 'connected'
    ? [passed('clock', 'controller', 'the clock of this host', 'within a minute of the controller’s')]
    : [open('clock', 'controller', 'the clock of this host', 'there is no controller to compare it with')];
};

function etcdCheck({ store }: Status): Check {
  const what = `etcd at ${store?.endpoints.join(', ') ?? ''}`;
  if (store?.state !== 'connected')
    return ofProblem('etcd', 'connection', {
      what,
      why: store?.error === undefined || store.error === '' ? 'it does not answer' : store.error,
      fix: 'Start it, or check --etcd.',
    });
  return store.pending === 0
    ? passed('etcd', 'connection', what, `revision ${store.revision}`)
    : open('etcd', 'connection', what, `${store.pending} changes of this node are not there yet`);
}

function controllerCheck({ controller }: Status): Check {
  if (controller === undefined || controller.state === 'none')
    return open('controller', 'session', 'a controller', 'this agent reports to none');
  const what = `the controller at ${controller.address}`;
  return controller.state === 'connected'
    ? passed('controller', 'session', what)
    : ofProblem('controller', 'session', {
        what,
        why: controller.error,
        fix: 'Start it, or check --controller.',
      });
}

function versionCheck({ store, version }: InspectOptions): Check {
  const others = [...store.view.nodes.values()].filter((one) => one.version !== version);
  const named = others.slice(0, 5).map(({ name, version }) => `${name} ${version}`);
  return others.length === 0
    ? passed('versions', 'nodes', `version ${version}`, 'that of every node')
    : open(
        'versions',
        'nodes',
        `version ${version}`,
        `others run ${named.join(', ')}${others.length > 5 ? ', …' : ''}`,
      );
}

function certificateCheck({ node }: Status): Check {
  const expires = node?.certificateExpires;
  if (expires === undefined) return open('certificates', 'node', 'the certificate', 'this node has none');
  const what = 'the certificate of this node';
  return Date.parse(expires) - Date.now() > CERTIFICATE_MS
    ? passed('certificates', 'node', what, `ends ${expires}`)
    : ofProblem('certificates', 'node', {
        what,
        why: `it ends ${expires}`,
        fix: 'See why it is not renewed: the log.',
      });
}

const pluginChecks = ({ plugins }: Status): Promise<Check[]> =>
  Promise.all(
    plugins.map(async ({ manager, socket }): Promise<Check> => {
      const what = `the socket for ${manager}, ${socket}`;
      return (await answers(socket))
        ? passed('plugins', manager, what)
        : ofProblem('plugins', manager, {
            what,
            why: 'nothing answers there: the file was deleted or replaced',
            fix: 'Restart the agent.',
          });
    }),
  );

function pathCheck({ peers }: Status): Check {
  const paths = peers.flatMap((peer) => peer.paths.map((path) => ({ ...path, peer })));
  const bad = paths.filter(({ state }) => state !== 'ok' && state !== 'node-down' && state !== 'unknown');
  const what = `${paths.length} ${paths.length === 1 ? 'path' : 'paths'} to other nodes`;
  const named = bad.slice(0, 5).map(({ peer, network, state }) => `${peer.node} by ${network}: ${state}`);
  return bad.length === 0
    ? passed('paths', 'peers', what)
    : ofProblem('paths', 'peers', { what, why: named.join(', '), fix: 'See weft status, and weft ping.' });
}
