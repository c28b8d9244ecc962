// Arguments of `weft run`: networks, modes, and their valid combinations.
//
// The command line and the agent use the same checks; the command line finds a wrong call before it contacts the agent.
import { invalidArgument, WeftError } from './errors.js';
import { parseName, parseNetworkName } from './network.js';

export type RunNetwork =
  | { kind: 'network'; name: string }
  /** A namespace with nothing but the loopback device. */
  | { kind: 'none' }
  /** The host's own network. */
  | { kind: 'host' }
  /** The network namespace and hostname of another container of weft's. */
  | { kind: 'container'; name: string };

/** Names of modes, which no network can have. */
export const RUN_MODES: readonly string[] = ['none', 'host'];

/** @throws WeftError INVALID_ARGUMENT */
export function parseRunNetwork(text: string): RunNetwork {
  if (text === 'none' || text === 'host') return { kind: text };
  const [, name] = /^container:(.*)$/s.exec(text) ?? [];
  if (name !== undefined) return { kind: 'container', name: parseName(name, 'network: container') };
  try {
    return { kind: 'network', name: parseNetworkName(text) };
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    throw invalidArgument(
      `network: "${text}" is not a network`,
      'Give the name of a network, host, none or container:NAME.',
    );
  }
}

/** Names a container in the records of attached endpoints, and as a TARGET. */
export const runTarget = (container: string): string => `run:${container}`;

/** Parses the name of a new network: not that of a mode. @throws WeftError INVALID_ARGUMENT */
export function parseNewNetworkName(text: string): string {
  const name = parseNetworkName(text);
  if (!RUN_MODES.includes(name)) return name;
  throw invalidArgument(
    `name: "${name}" is reserved: it is a mode of \`weft run --network\``,
    'Choose another name.',
  );
}

export const RESTART_POLICIES = ['no', 'always'] as const;
export type RestartPolicy = (typeof RESTART_POLICIES)[number];

/** Options of an attach. */
export interface AttachWords {
  aliases: readonly string[];
  allowedAddresses: readonly string[];
  labels: Readonly<Record<string, string>>;
  ip?: string | undefined;
  ip6?: string | undefined;
  mac?: string | undefined;
  ifname?: string | undefined;
  publish: readonly string[];
  noDefaultRoute: boolean;
  dns: boolean;
  vlan?: number | undefined;
}

export interface RunWords {
  /** As written by the caller. */
  network: string;
  attach: AttachWords;
  detached: boolean;
  remove: boolean;
  restart: RestartPolicy;
}

/** @throws WeftError INVALID_ARGUMENT for options that exclude each other */
export function checkRun({ network, attach, detached, remove, restart }: RunWords): RunNetwork {
  if (restart === 'always' && remove) {
    throw invalidArgument(
      'restart: always and --rm exclude each other',
      'A command that restarts must be kept: leave one of them out.',
    );
  }
  if (restart === 'always' && !detached)
    throw invalidArgument('restart: always is for commands that run detached', 'Give -d, too.');
  const mode = parseRunNetwork(network);
  if (mode.kind !== 'network') refuseAttachWords(network, attach);
  return mode;
}

/** @throws WeftError INVALID_ARGUMENT */
function refuseAttachWords(network: string, attach: AttachWords): void {
  const given = [
    attach.aliases.length > 0 ? '--alias' : '',
    attach.ip === undefined ? '' : '--ip',
    attach.ip6 === undefined ? '' : '--ip6',
    attach.mac === undefined ? '' : '--mac',
    attach.ifname === undefined ? '' : '--ifname',
    attach.publish.length > 0 ? '--publish' : '',
    attach.noDefaultRoute ? '--no-default-route' : '',
    attach.dns ? '--dns' : '',
    attach.vlan === undefined ? '' : '--vlan',
    attach.allowedAddresses.length > 0 ? '--allowed-address' : '',
    Object.keys(attach.labels).length > 0 ? '--label' : '',
  ].filter((option) => option !== '');
  if (given.length === 0) return;
  throw invalidArgument(
    `${given.join(', ')}: with --network ${network} the command is attached to nothing`,
    `Name a network with --network, or leave ${given.length === 1 ? 'it' : 'them'} out.`,
  );
}
