// Parses a run request, field by field, before anything is done.
import { invalidArgument } from '../../core/errors.js';
import { parseName } from '../../core/network.js';
import { checkRun, RESTART_POLICIES, type RestartPolicy, type RunNetwork } from '../../core/run.js';
import type { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import type { RunRequest as RunMessage } from '../../proto/gen/weft/v1/runtime.js';

export interface RunRequest {
  id: string;
  network: RunNetwork;
  /** As written by the caller. */
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
export function parseRun(message: RunMessage): RunRequest {
  const attach: AttachRequest = message.attach ?? { ...NOTHING };
  if (!/^[0-9a-f]{16}$/.test(message.id))
    throw invalidArgument(`id: "${message.id}" is not one`, 'Give 16 hexadecimal digits.');
  if (message.command.length === 0 || message.command[0] === '')
    throw invalidArgument('command: not given', 'Write it behind --, as in `weft run -- sleep 60`.');
  const restart = RESTART_POLICIES.find((policy) => policy === message.restart);
  if (restart === undefined)
    throw invalidArgument(`restart: "${message.restart}" is not a policy`, 'Give no or always.');
  const { detached, remove } = message;
  const network = checkRun({ network: message.network, attach, detached, remove, restart });
  if (message.pid < 2) throw invalidArgument(`pid: ${message.pid} is not a process that waits`);
  if (!message.directory.startsWith('/'))
    throw invalidArgument(`directory: "${message.directory}" is not an absolute path`);
  for (const word of [...message.command, ...message.environment, message.directory])
    if (word.includes('\0'))
      throw invalidArgument('command: a word has a zero byte, which no program can be given');
  return {
    id: message.id,
    network,
    networkText: message.network,
    ...(attach.name === undefined ? {} : { name: parseName(attach.name) }),
    attach,
    command: message.command,
    directory: message.directory,
    environment: message.environment,
    pid: message.pid,
    detached,
    remove,
    restart,
  };
}

/** An attach request without options. */
const NOTHING: AttachRequest = {
  network: '',
  target: '',
  name: undefined,
  aliases: [],
  allowedAddresses: [],
  labels: {},
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
