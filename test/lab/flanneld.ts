// A real flanneld, where one exists: on the PATH, or named by WEFT_FLANNELD.
import { accessSync, constants, mkdirSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';

import type { Cluster } from './cluster.js';
import type { LabProcess } from './process.js';

/** Its path; undefined: there is none. */
export const FLANNELD = find();

export const NO_FLANNELD = 'not run: no flanneld on the PATH; name one by WEFT_FLANNELD';

function find(): string | undefined {
  const named = process.env['WEFT_FLANNELD'];
  const places = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'flanneld'));
  return (named === undefined ? places : [named]).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Starts it as a node of a network of weft's; a host may have one for each network. @returns the process, and the variables of its env file once it has a subnet */
export async function startFlanneld(
  lab: Cluster,
  host: string,
  network: string,
  flags: readonly string[] = [],
): Promise<{ flanneld: LabProcess; env: Map<string, string> }> {
  const folder = join(lab.folder, host, 'flannel');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${network}.env`);
  // Of an earlier one.
  rmSync(file, { force: true });
  const flanneld = lab.spawn(`flanneld-${host}-${network}`, host, [
    // Of WireGuard; elsewhere it would be the whole machine's.
    ...['env', `WIREGUARD_KEY_FILE=${join(folder, `${network}.key`)}`, FLANNELD ?? 'flanneld'],
    ...[`-etcd-endpoints=${lab.etcd}`, `-etcd-prefix=/weft/networks/${network}`, `-subnet-file=${file}`],
    ...flags,
  ]);
  const text = await lab.until('flanneld has a subnet', async () => {
    const { code, stdout } = await lab.try(host, `cat ${file}`);
    return code === 0 && stdout;
  });
  const pairs = text.split('\n').flatMap((line) => {
    const [, name, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value] as const];
  });
  return { flanneld, env: new Map(pairs) };
}
