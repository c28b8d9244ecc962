// Ends all containers of `weft run` and deletes their files, for --cleanup.
import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { ContainerState } from './container-state.js';
import { killAll } from './processes.js';

/** @returns how many were still running */
export function clearContainers(stateDir: string, runDir: string): number {
  const folders = new ContainerState(stateDir, runDir).folders();
  for (const folder of folders) killAll(folder);
  for (const dir of [stateDir, runDir]) rmSync(join(dir, 'containers'), { recursive: true, force: true });
  return folders.length;
}
