// What a caller asks of a run, checked field by field before anything is done.
import { invalidArgument } from '../../core/errors.js';
import { parseName } from '../../core/network.js';
import { checkRun, RESTART_POLICIES, type RestartPolicy, type RunNetwork } from '../../core/run.js';
import type { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import type { RunRequest as WireRequest } from '../../proto/gen/weft/v1/runtime.js';

export interface RunRequest {
  id: string;
  network: RunNetwork;
  /** As it was written. */
  networkText: string;
  name?: string;
  attach: AttachRequest;
  command: string[];
  directory: string;
  environment: string[];
  pid: number;
  detached: boolean;
  remove: boolean;
  restart: RestartPolicy;
}

/** @throws WeftError INVALID_ARGUMENT that names the field and what is allowed */
export function parseRun(wire: WireRequest): RunRequest {
  const attach: AttachRequest = wire.attach ?? { ...NOTHING };
  if (!/^[0-9a-f]{16}$/.test(wire.id))
    throw invalidArgument(`id: "${wire.id}" is not one`, 'Give 16 hexadecimal digits.');
  if (wire.command.length === 0 || wire.command[0] === '')
    throw invalidArgument('command: not given', 'Write it behind --, as in `weft run -- sleep 60`.');
  const restart = RESTART_POLICIES.find((policy) => policy === wire.restart);
  if (restart === undefined)
    throw invalidArgument(`restart: "${wire.restart}" is not a policy`, 'Give no or always.');
  const { detached, remove } = wire;
  const network = checkRun({ network: wire.network, attach, detached, remove, restart });
  if (wire.pid < 2) throw invalidArgument(`pid: ${wire.pid} is not a process that waits`);
  if (!wire.directory.startsWith('/'))
    throw invalidArgument(`directory: "${wire.directory}" is not an absolute path`);
  for (const word of [...wire.command, ...wire.environment, wire.directory])
    if (word.includes('\0'))
      throw invalidArgument('command: a word has a zero byte, which no program can be given');
  return {
    id: wire.id,
    network,
    networkText: wire.network,
    ...(attach.name === undefined ? {} : { name: parseName(attach.name) }),
    attach,
    command: wire.command,
    directory: wire.directory,
    environment: wire.environment,
    pid: wire.pid,
    detached,
    remove,
    restart,
  };
}

/** An attach that asks for nothing. */
const NOTHING: AttachRequest = {
  network: '',
  target: '',
  name: undefined,
  aliases: [],
  ip: undefined,
  ip6: undefined,
  mac: undefined,
  ifname: undefined,
  noDefaultRoute: false,
  publish: [],
  publishEverywhere: false,
  vlan: undefined,
  dns: false,
};
