// Test lanes: which files each has, how they run, and what they need of a machine.
//
// A lane is what one asks for by name. In lanes of the parts one ava runs all files; in lanes of whole programs every file has
// an ava of its own, so that a file can run beside files of other lanes, and once more by itself. A test file is in exactly
// one lane.

export type LaneName =
  | 'check'
  | 'unit'
  | 'fuzz'
  | 'tools'
  | 'store'
  | 'kernel'
  | 'cluster'
  | 'faults'
  | 'crowds'
  | 'docker'
  | 'cni'
  | 'cnitool'
  | 'crictl'
  | 'browser'
  | 'podman'
  | 'clouds'
  | 'package'
  | 'upgrade'
  | 'prometheus'
  | 'vm'
  | 'vm-long';

/** Node.js versions that the project runs on besides the one that everything else is tested with. */
export const OTHER_NODES = ['22', '24'] as const;
export type OtherNode = (typeof OTHER_NODES)[number];

export type Need =
  | 'root'
  | 'etcd'
  | 'vxlan'
  | 'dockerd'
  | 'podman'
  | 'cnitool'
  | 'crictl'
  | 'chromium'
  | 'podman5'
  | 'moto'
  | 'packages'
  | 'last-release'
  | 'prometheus'
  | 'other-kernel'
  | `node-${OtherNode}`;

export interface Lane {
  name: LaneName | `${LaneName}@${OtherNode}`;
  about: string;
  /** Globs of test files, and of those that another lane has. Neither: the lane is `commands`. */
  files: readonly string[];
  except?: readonly string[];
  commands?: Readonly<Record<string, readonly string[]>>;
  /** One ava for all files, or one for each. */
  ava: 'once' | 'per file';
  /** Files at a time. */
  concurrency: number;
  /** Without a test that ends, ava ends the file. */
  timeout: string;
  environment?: Readonly<Record<string, string>>;
  needs: readonly Need[];
  /** Cores that one ava of it keeps busy, on average: under 0.5 it mostly waits. */
  load: number;
  /** It fills or measures the machine: nothing runs beside it. */
  alone?: true;
  /** In CI a file that fails is run once more by itself. Only where other programs and the clock have a say. */
  again?: true;
  node?: OtherNode;
  /** It takes long, and runs only where it is named. */
  named?: true;
}

const UNIT = {
  name: 'unit',
  about: 'the parts, on fakes: no root, no network, no etcd',
  files: ['test/{agent,cli,cloud,controller,core,daemon,fakes,plugin,web}/**/*.test.ts'],
  // These start a controller with an etcd.
  except: ['test/controller/{embedded-etcd,main}.test.ts', 'test/{agent,controller}/identity/*.test.ts'],
  ava: 'once',
  // Some files wait for most of their time.
  concurrency: 4,
  timeout: '2m',
  needs: [],
  load: 1.7,
} as const satisfies Lane;

/** Not in the unit lane, which people wait for; and it does not depend on the version of Node.js. */
const FUZZ = {
  ...UNIT,
  name: 'fuzz',
  about: 'random input at every door, on fakes',
  files: ['test/fuzz/*.test.ts'],
  // These start a controller with an etcd.
  except: ['test/fuzz/controller*.test.ts'],
} as const satisfies Lane;

/** Of the house and not of weft: once, with one version of Node.js. */
const TOOLS = {
  ...UNIT,
  name: 'tools',
  about: 'what builds, packs and tests weft',
  files: ['test/{bundle,lanes}/*.test.ts'],
  except: [],
  concurrency: 2,
} as const satisfies Lane;

const CLUSTER = {
  name: 'cluster',
  about: 'whole clusters on this machine, driven through the command line',
  files: ['test/cluster/*.test.ts'],
  ava: 'per file',
  concurrency: 2,
  timeout: '3m',
  needs: ['root', 'etcd', 'vxlan'],
  load: 0.65,
  again: true,
} as const satisfies Lane;

const VM = {
  name: 'vm',
  about: "Debian's own kernel, in emulated machines",
  files: ['test/vm/*.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '10m',
  // Deadlines of tests, not of weft; Node is ten to twenty times slower in there.
  environment: { WEFT_TEST_SLOWNESS: '15' },
  needs: ['root', 'etcd', 'other-kernel'],
  load: 1.7,
  again: true,
} as const satisfies Lane;

const DOCKER = {
  name: 'docker',
  about: 'real Docker engines on two hosts of a lab',
  files: ['test/docker/*.test.ts'],
  ava: 'per file',
  concurrency: 2,
  timeout: '5m',
  needs: ['root', 'etcd', 'vxlan', 'dockerd'],
  load: 0.7,
  again: true,
} as const satisfies Lane;

const CNITOOL = {
  name: 'cnitool',
  about: 'CNI’s own client, and CNI’s own plugins beside weft’s',
  files: ['test/cni/cnitool.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '3m',
  needs: ['root', 'etcd', 'vxlan', 'cnitool'],
  load: 0.7,
  again: true,
} as const satisfies Lane;

const CRICTL = {
  name: 'crictl',
  about: 'Kubernetes’ pods on containerd, by its own client',
  files: ['test/cni/crictl.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '3m',
  needs: ['root', 'etcd', 'vxlan', 'podman', 'crictl'],
  load: 0.7,
  again: true,
} as const satisfies Lane;

const CNI = {
  name: 'cni',
  about: 'real container runtimes on two hosts of a lab, by CNI',
  files: ['test/cni/*.test.ts'],
  except: [...CNITOOL.files, ...CRICTL.files],
  ava: 'per file',
  concurrency: 2,
  timeout: '5m',
  needs: ['root', 'etcd', 'vxlan', 'podman', 'dockerd'],
  load: 0.7,
  again: true,
} as const satisfies Lane;

const BROWSER = {
  name: 'browser',
  about: 'the page in Debian’s Chromium',
  files: ['test/browser/*.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '3m',
  needs: ['root', 'etcd', 'vxlan', 'chromium'],
  load: 1.2,
  again: true,
} as const satisfies Lane;

const PODMAN = {
  name: 'podman',
  about: 'podman 5 with netavark, in a root of Debian 13',
  files: ['test/podman5/*.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '5m',
  needs: ['root', 'etcd', 'vxlan', 'podman5'],
  load: 0.7,
  again: true,
  named: true,
} as const satisfies Lane;

const CLOUDS = {
  name: 'clouds',
  about: 'the route tables of clouds: AWS by moto, Google Cloud by a stand-in',
  files: ['test/clouds/*.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '5m',
  needs: ['root', 'etcd', 'vxlan', 'moto', 'dockerd'],
  load: 0.7,
  again: true,
  named: true,
} as const satisfies Lane;

const PACKAGE = {
  name: 'package',
  about: 'the packages, on Debian 12 and 13 without Node.js',
  files: ['test/package/*.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '5m',
  needs: ['root', 'etcd', 'vxlan', 'packages'],
  load: 0.7,
  again: true,
  named: true,
} as const satisfies Lane;

const UPGRADE = {
  name: 'upgrade',
  about: 'the last release and this one in one cluster',
  files: ['test/upgrade/*.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '5m',
  needs: ['root', 'etcd', 'vxlan', 'dockerd', 'podman', 'last-release'],
  load: 0.7,
  again: true,
  named: true,
} as const satisfies Lane;

const PROMETHEUS = {
  name: 'prometheus',
  about: 'names of metrics, alert rules and the dashboard, by a real Prometheus',
  files: ['test/prometheus/*.test.ts'],
  ava: 'per file',
  concurrency: 1,
  timeout: '5m',
  needs: ['root', 'etcd', 'vxlan', 'prometheus'],
  load: 0.7,
  again: true,
  named: true,
} as const satisfies Lane;

const unitWith = (node: OtherNode): Lane => ({
  ...UNIT,
  name: `unit@${node}`,
  about: `the unit lane with Node.js ${node}`,
  needs: [`node-${node}`],
  node,
});

/** bin/weft runs the bundles, also with a Node.js that their code cache is not for; with the oldest of these the plain build. */
const clusterWith = (node: OtherNode): Lane => ({
  ...CLUSTER,
  name: `cluster@${node}`,
  about: `one cluster test with Node.js ${node}${node === OTHER_NODES[0] ? ', on the plain build' : ''}`,
  files: ['test/cluster/basics.test.ts'],
  ...(node === OTHER_NODES[0] && { environment: { WEFT_BUILD: 'plain' } }),
  needs: [...CLUSTER.needs, `node-${node}`],
  node,
});

/** In the order in which they begin: what tells most the soonest, then what is longest beside what waits. */
export const LANES: readonly Lane[] = [
  {
    name: 'check',
    about: 'linter, format, generated code',
    files: [],
    commands: {
      lint: ['npm', 'run', '--silent', 'lint'],
      generated: ['bash', 'scripts/generate.sh', '--check'],
    },
    ava: 'once',
    concurrency: 1,
    timeout: '5m',
    needs: [],
    load: 1,
  },
  UNIT,
  VM,
  FUZZ,
  TOOLS,
  unitWith('22'),
  DOCKER,
  CNI,
  CNITOOL,
  CRICTL,
  BROWSER,
  PODMAN,
  CLOUDS,
  PACKAGE,
  UPGRADE,
  PROMETHEUS,
  unitWith('24'),
  {
    name: 'store',
    about: 'the store and the controller with a real etcd',
    files: ['test/store/*.test.ts', ...UNIT.except, ...FUZZ.except],
    ava: 'once',
    concurrency: 2,
    timeout: '2m',
    needs: ['etcd'],
    load: 0.9,
  },
  {
    name: 'kernel',
    about: 'rtnetlink, firewall and lab in real namespaces',
    files: ['test/{kernel,lab}/*.test.ts'],
    ava: 'once',
    concurrency: 2,
    timeout: '2m',
    needs: ['root', 'vxlan'],
    load: 1.1,
  },
  {
    name: 'faults',
    about: 'what breaks under traffic, in the short form',
    files: ['test/cluster/faults/*.test.ts'],
    ava: 'per file',
    concurrency: 2,
    timeout: '3m',
    needs: ['root', 'etcd', 'vxlan'],
    load: 0.75,
    again: true,
  },
  CLUSTER,
  ...OTHER_NODES.map(clusterWith),
  {
    name: 'crowds',
    about: 'the faults that take many nodes, containers or callers',
    files: ['test/cluster/faults/crowds/*.test.ts'],
    ava: 'per file',
    concurrency: 1,
    timeout: '3m',
    needs: ['root', 'etcd', 'vxlan'],
    load: 2,
    alone: true,
    again: true,
  },
  {
    ...VM,
    name: 'vm-long',
    about: 'every backend in full on another kernel: Docker, faults and drift',
    files: ['test/vm/long/*.test.ts'],
    timeout: '40m',
    named: true,
  },
];

/** What runs where nothing is named. */
export const USUAL_LANES = LANES.filter(({ named }) => named !== true);

/** What a name on the command line stands for. */
export function lanesNamed(name: string, lanes: readonly Lane[] = LANES): Lane[] {
  return lanes.filter((lane) => lane.name === name || (name === 'faults' && lane.name === 'crowds'));
}

export function filesOf(lane: Lane, testFiles: readonly string[]): string[] {
  return testFiles.filter(
    (file) => matches(lane.files, file) && (lane.except === undefined || !matches(lane.except, file)),
  );
}

/** The lane whose file it is; what other Node.js versions repeat is not theirs. */
export const laneOf = (file: string, lanes: readonly Lane[] = LANES): Lane | undefined =>
  lanes.find((lane) => lane.node === undefined && filesOf(lane, [file]).length > 0);

const matches = (globs: readonly string[], path: string): boolean =>
  globs.some((glob) => expression(glob).test(path));

/** Of globs with `**`, `*` and `{a,b}`: node:path has them from Node.js 22 on. */
function expression(glob: string): RegExp {
  const source = glob.replace(/\*\*\/|[*{},.]/g, (sign) => SIGNS[sign] ?? sign);
  return new RegExp(`^${source}$`);
}

const SIGNS: Readonly<Record<string, string>> = {
  '**/': '(?:.*/)?',
  '*': '[^/]*',
  '{': '(?:',
  '}': ')',
  ',': '|',
  '.': '\\.',
};
