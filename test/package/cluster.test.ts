// A cluster whose daemons are the single executable: what starts further processes, and its native parts in use.
import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster } from '../lab/cluster.js';
import { executablePath } from './packages.js';

test('vxlan and udp, whose pump is the executable, too, and goes on while the agent restarts', async (t) => {
  const lab = await Cluster.create(2);
  t.teardown(() => lab.lab.down());
  lab.program = executablePath();
  await lab.addContainers('c1', 'c2');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  for (const [network, subnet, backend] of [
    ['blue', '10.100.0.0/16', 'vxlan'],
    ['old', '10.101.0.0/16', 'udp'],
  ] as const) {
    await lab.json('h1', 'network', 'create', network, '--subnet', subnet, '--backend', backend);
    const [, far] = await Promise.all([lab.attach('h1', network, 'c1'), lab.attach('h2', network, 'c2')]);
    await lab.until(`${network}: c1 reaches c2`, () => lab.reaches('c1', bare(far.ip)));
    if (backend !== 'udp') continue;
    const file = join(lab.lab.host(1).runDir, 'pumps/wfud-old.json');
    const pump = (): number => (JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid;
    const before = pump();
    t.is(readlinkSync(`/proc/${before}/exe`), executablePath());
    await lab.process('agent-h1').stop();
    t.true(await lab.reaches('c1', bare(far.ip)));
    await lab.startAgents(['h1']);
    t.true(await lab.reaches('c1', bare(far.ip)));
    t.is(pump(), before);
  }
});
