// From changed paths, and from words on the command line, to lanes and files.
import { join } from 'node:path';

import test from 'ava';

import { readArguments } from './arguments.js';
import { choose, importsOf, reaching } from './changed.js';
import { USUAL_LANES } from './table.js';

const SOURCES = new Map([
  ['core/plan.ts', "import { x } from './objects.js';"],
  ['core/objects.ts', ''],
  ['store/keys.ts', "import type { O } from '../core/objects.js';"],
  ['agent/main.ts', "import { plan } from '../core/plan.js';\nexport * from './loop.js';"],
  ['agent/loop.ts', ''],
  ['programs/agent.ts', "import { main } from '../agent/main.js';"],
  ['programs/controller.ts', "export { main as run } from '../controller/main.js';"],
  ['controller/main.ts', "const { Store } = await import('../store/keys.js');"],
  ['test/lab/lab.ts', "export const WEFT = join(CHECKOUT, 'bin/weft');"],
  ['test/core/plan.test.ts', "import { plan } from '../../core/plan.js';"],
  ['test/store/keys.test.ts', "import { key } from '../../store/keys.js';"],
  ['test/cli/answers.test.ts', "import { WEFT } from '../lab/lab.js';"],
  ['test/cluster/basics.test.ts', "import { WEFT } from '../lab/lab.js';"],
  ['test/cluster/faults/etcd.test.ts', "import { WEFT } from '../../lab/lab.js';"],
  ['test/docker/ports.test.ts', "import { DockerCluster } from './cluster.js';"],
  ['test/docker/cluster.ts', "import {\n  WEFT,\n} from '../lab/lab.js';"],
]);
const IMPORTS = importsOf(SOURCES);
const TESTS = [...SOURCES.keys()].filter((file) => file.endsWith('.test.ts'));

const chosen = (...changed: string[]): Record<string, readonly string[] | 'all'> =>
  Object.fromEntries(choose(changed, TESTS, IMPORTS).map(({ lane, files }) => [lane.name, files ?? 'all']));

test('imports are followed at any distance, types and dynamic ones too', (t) => {
  t.deepEqual([...reaching(['core/objects.ts'], IMPORTS)].sort(), [
    'agent/main.ts',
    'controller/main.ts',
    'core/objects.ts',
    'core/plan.ts',
    'programs/agent.ts',
    'programs/controller.ts',
    'store/keys.ts',
    'test/cli/answers.test.ts',
    'test/cluster/basics.test.ts',
    'test/cluster/faults/etcd.test.ts',
    'test/core/plan.test.ts',
    'test/docker/cluster.ts',
    'test/docker/ports.test.ts',
    'test/lab/lab.ts',
    'test/store/keys.test.ts',
  ]);
});

test('a change of the parts: the tests that import it, and whole clusters', (t) => {
  t.deepEqual(chosen('core/plan.ts'), {
    check: 'all',
    unit: ['test/core/plan.test.ts', 'test/cli/answers.test.ts'],
    cluster: 'all',
  });
  t.deepEqual(chosen('store/keys.ts'), {
    check: 'all',
    unit: ['test/cli/answers.test.ts'],
    store: ['test/store/keys.test.ts'],
    cluster: 'all',
    faults: 'all',
    crowds: 'all',
  });
});

test('a change of a test or of its helper: the files that have it', (t) => {
  t.deepEqual(chosen('test/docker/cluster.ts'), { check: 'all', docker: ['test/docker/ports.test.ts'] });
  t.deepEqual(chosen('test/cluster/faults/etcd.test.ts'), {
    check: 'all',
    faults: ['test/cluster/faults/etcd.test.ts'],
  });
});

test('a change of documents is checked; none needs nothing', (t) => {
  t.deepEqual(chosen('README.md'), { check: 'all' });
  t.deepEqual(chosen(), {});
});

const read = (...args: string[]): unknown => {
  const { lanes, avaOptions } = readArguments(args, process.cwd());
  return [lanes.map(({ lane, files }) => [lane.name, ...(files ?? [])]), avaOptions];
};

test('arguments: lanes, files in the lane that they belong to, and what is ava’s', (t) => {
  t.deepEqual(read(), [USUAL_LANES.map(({ name }) => [name]), []]);
  t.deepEqual(read('podman'), [[['podman']], []]);
  t.deepEqual(read('unit', 'faults'), [[['unit'], ['faults'], ['crowds']], []]);
  const files = ['test/core/plan.test.ts', 'test/core/run.test.ts:7,9-12', 'test/docker/ports.test.ts'];
  t.deepEqual(read(...files, '--match', '*x*', '-s'), [
    [
      ['unit', ...files.slice(0, 2)],
      ['docker', ...files.slice(2)],
    ],
    ['--match', '*x*', '-s'],
  ]);
  t.deepEqual(read(join(process.cwd(), 'test/vm/lane.test.ts')), [[['vm', 'test/vm/lane.test.ts']], []]);
  t.throws(() => read('units'), { message: 'units: neither a lane nor a test file' });
});
