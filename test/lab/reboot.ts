// What a reboot is to an agent: weft's links and rules and /run are gone, and the boot id that its files name is another than
// the kernel's. What ran on the host is its owner's to end.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';

/** @param host whose agent was killed */
export async function reboot(cluster: Cluster, host: string): Promise<void> {
  const { runDir, stateDir } = cluster.lab.host(Number(host.slice(1)));
  await cluster.sh(
    host,
    'for l in $(ip -br link | grep -o "^wf[a-z0-9-]*"); do ip link del $l || :; done; nft flush ruleset',
  );
  rmSync(runDir, { recursive: true });
  mkdirSync(runDir);
  for (const name of readdirSync(stateDir, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.json')) continue;
    const path = join(stateDir, name);
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.replaceAll(/"bootId":"[^"]*"/g, '"bootId":"another-boot"'));
  }
}
