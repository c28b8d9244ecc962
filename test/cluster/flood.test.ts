// A controller with 384 MB outlives a flood: of strangers, of who has a certificate, and in plain text.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { CONTROLLER, INFRA, INFRA_IP, type Cluster } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { SecureCluster } from '../lab/secure-cluster.js';

const FLOOD = join(CHECKOUT, 'build/test/lab/flood.js');
const MOST_MB = 384;

let cluster: SecureCluster;
let lab: Cluster;
let controller: LabProcess;

shareAmongTests(
  test,
  async () => {
    cluster = await SecureCluster.create(2);
    ({ lab } = cluster);
    controller = await cluster.startController([], [`NODE_OPTIONS=--max-old-space-size=${MOST_MB}`]);
    await cluster.join('h1');
  },
  async () => {
    await lab?.lab.down();
  },
);

/** The most resident memory of a process since the last call, MB. */
function peak({ pid }: LabProcess): number {
  const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  return Number(found?.[1]) / 1024;
}

interface Target {
  process: LabProcess;
  address: string;
  isServing: () => Promise<boolean>;
}

async function outlives(
  t: ExecutionContext,
  { process, address, isServing }: Target,
  floods: readonly string[],
  trust: readonly string[] = [],
): Promise<void> {
  for (const flood of floods) {
    peak(process);
    await lab.sh('h2', `timeout 10 node ${FLOOD} ${address} ${flood} ${trust.join(' ')} || true`);
    const most = peak(process);
    t.log(`${flood}: ${Math.round(most)} MB`);
    t.true(process.isRunning, flood);
    t.true(most < MOST_MB, `${flood}: ${most} MB`);
    t.true(await isServing(), `${flood}: others are not served`);
  }
}

const secure = (): Target => ({
  process: controller,
  address: CONTROLLER,
  isServing: async () => (await cluster.weft(INFRA, ['network', 'ls'])).code === 0,
});

const trusted = (...files: readonly string[]): string[] =>
  files.map((file) => join(cluster.identityOf('h1'), file));

// Mode, connections, streams of each, seconds.
test.serial('of strangers', async (t) => {
  await outlives(t, secure(), ['partial 64 64 2', 'whole 16 64 2', 'silent 2000 0 2'], trusted('ca.crt'));
});

test.serial('of a node', async (t) => {
  const floods = ['partial 64 64 2', 'whole 16 64 2', 'unread 64 64 2', 'reset 16 64 2'];
  await outlives(t, secure(), floods, trusted('ca.crt', 'node.crt', 'node.key'));
});

test.serial('in plain text', async (t) => {
  const process = lab.spawn('plain', INFRA, [
    ...['env', `NODE_OPTIONS=--max-old-space-size=${MOST_MB}`, WEFT, 'controller', '--insecure'],
    ...[
      '--listen',
      `${INFRA_IP}:7500`,
      '--http',
      '127.0.0.1:7501',
      '--etcd-listen',
      'http://127.0.0.1:23790',
    ],
    ...['--state-dir', join(lab.folder, 'plain')],
  ]);
  await lab.says(process, 'the controller is ready');
  const isServing = async (): Promise<boolean> =>
    (await lab.try(INFRA, `${WEFT} --insecure --controller ${INFRA_IP}:7500 network ls`)).code === 0;
  const floods = ['partial 64 64 2', 'whole 16 64 2', 'unread 64 64 2', 'sessions 64 64 2'];
  await outlives(t, { process, address: `${INFRA_IP}:7500`, isServing }, floods);
});
