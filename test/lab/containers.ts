// `weft run` on the hosts of a lab: starts and inspects containers as a user does.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import type { Cluster, EndpointJson } from './cluster.js';
import type { Outcome } from './exec.js';

export interface ContainerJson {
  id: string;
  name: string;
  network: string;
  state: string;
  pid: number | null;
  exitCode: number | null;
  restarts: number;
  log: string | null;
  error: string | null;
  endpoints: EndpointJson[];
}

export type RunJson = EndpointJson & { container: ContainerJson };

/** @param lab is read at each call, because a test file creates it before its first test */
export function containerCalls(lab: () => Cluster) {
  const weft = (...args: string[]): Promise<Outcome> => lab().weft('h1', ...args);
  const detached = async (host: string, options: string[], ...command: string[]): Promise<RunJson> => {
    const { code, stdout, stderr } = await lab().weft(host, 'run', '-d', ...options, '--', ...command);
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as RunJson;
  };
  const all = (host = 'h1'): Promise<ContainerJson[]> => lab().json<ContainerJson[]>(host, 'ps', '-a');
  const one = async (name: string, host = 'h1'): Promise<ContainerJson | undefined> =>
    (await all(host)).find((it) => it.name === name);
  const folders = (): string[] => {
    const path = join(lab().folder, 'h1', 'run', 'containers');
    return existsSync(path) ? readdirSync(path) : [];
  };
  const recordPath = (id: string): string => join(lab().folder, 'h1', 'state', 'containers', `${id}.json`);

  async function refused(
    t: ExecutionContext,
    args: string[],
    code: string,
    words: RegExp,
    exit = 1,
  ): Promise<void> {
    const at = args.indexOf('--');
    const asked = at < 0 ? [...args, '-o', 'json'] : [...args.slice(0, at), '-o', 'json', ...args.slice(at)];
    const { code: status, stdout, stderr } = await weft(...asked);
    t.is(status, exit, stderr);
    t.regex(stderr, words);
    t.true(stderr.trimEnd().split('\n').length <= 2, stderr);
    t.like(JSON.parse(stdout), { error: { code } });
  }

  /** Waits until no container, endpoint, file of a run or link exists. */
  async function nothingLeft(t: ExecutionContext): Promise<void> {
    await lab().until('nothing is left', async () => {
      if ((await all()).length > 0 || folders().length > 0) return false;
      if ((await lab().json<EndpointJson[]>('h1', 'endpoint', 'ls', '--node', 'h1')).length > 0) return false;
      return !(await lab().sh('h1', 'ip -br link')).includes('wfep');
    });
    t.pass();
  }

  return { weft, detached, all, one, recordPath, refused, nothingLeft };
}

/** Empty where it is absent; the mounts of a process that has ended cannot be read either. */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
