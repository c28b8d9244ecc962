// The tables of backends, whole, inside a machine whose kernel has WireGuard: a cluster's, Docker's, that of IPv6 alone, and
// where there is a flanneld, an overlay of each backend with it.
//
// One emulated machine has all of a test's hosts as its network namespaces. It takes half an hour, and so has a lane that
// `npm test` does not run.
import { join } from 'node:path';

import test from 'ava';

import { CHECKOUT } from '../../lab/lab.js';
import { FLANNELD } from '../../lab/flanneld.js';
import { shareAmongTests } from '../../lab/fresh.js';
import { slowness } from '../../lab/wait.js';
import type { Machine } from '../machine.js';
import { Machines } from '../machines.js';

const FILES = [
  'test/docker/backends.test.ts',
  ...(FLANNELD === undefined ? [] : ['test/cluster/flanneld.test.ts']),
  'test/cluster/ipv6-alone.test.ts',
  'test/cluster/backends.test.ts',
];
const ENVIRONMENT = FLANNELD === undefined ? {} : { WEFT_FLANNELD: FLANNELD };
/** How much slower whole programs are in there, with all of them on one machine. */
const SLOWNESS = '15';
/** Of one file; the lane's slowness counts, too. */
const TIMEOUT_MS = 100_000;

/** What an engine needs of the kernel. */
const PREPARE = `
  mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup /sys/fs/cgroup
  for module in tun br_netfilter xt_conntrack xt_addrtype xt_MASQUERADE iptable_nat ip6table_nat; do modprobe $module; done; true`;

let machines: Machines;

async function setUp(): Promise<void> {
  machines = await Machines.boot({ count: 1, memoryMb: 3072, cpus: 2 });
  await machine().sh(PREPARE);
}

const machine = (): Machine => machines.host(1);

shareAmongTests(test, setUp, async () => machines?.down());

for (const file of FILES)
  test.serial(`${file} with WireGuard`, async (t) => {
    // Its output can be read while it runs.
    const run = await machine().start(
      file.replaceAll('/', '-'),
      [process.execPath, join(CHECKOUT, 'node_modules/ava/entrypoints/cli.mjs'), '--timeout', '20m', file],
      { ...ENVIRONMENT, WEFT_TEST_SLOWNESS: SLOWNESS, WEFT_INSECURE: '1' },
    );
    const late = setTimeout(() => void run.signal('SIGKILL'), TIMEOUT_MS * slowness);
    const code = await run.ended;
    clearTimeout(late);
    t.is(code, 0, run.log());
    t.log(run.log().trim());
  });
