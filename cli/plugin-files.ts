// Files of the plugins for other programs on this host: shims, and for CNI a configuration for each network.
//
// Only what carries weft's mark is replaced or deleted; a configuration that was edited since stays as it is.
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { alreadyExists, failedPrecondition, messageOf } from '../core/errors.js';
import { errnoOf } from '../daemon/errno.js';
import { replaceFile } from '../daemon/state-file.js';
import { ownFile } from '../daemon/version.js';

export interface CniFolders {
  binDir: string;
  confDir: string;
}

export interface PluginFile {
  path: string;
  /** weft's network; null for a shim. */
  network: string | null;
  state: 'made' | 'unchanged' | 'edited' | 'old' | 'deleted';
}

/** The shim's name is the plugin's type for CNI, and the driver for podman. */
const SHIM = 'weft';
const MARKS = {
  cni: '#!/bin/sh\n# The CNI plugin of weft:',
  netavark: '#!/bin/sh\n# The netavark plugin of weft:',
};
type Kind = keyof typeof MARKS;
const CONF_MARK = 'weft cni install';
const SUFFIX = '.conflist';
/** The agent's socket where neither the configuration nor the environment names one. */
export const DEFAULT_SOCKET = '/run/weft/cni.sock';

/** @throws WeftError ALREADY_EXISTS if a file is not weft's; then nothing was changed */
export function installCni(
  { binDir, confDir }: CniFolders,
  networks: readonly string[],
  socket = DEFAULT_SOCKET,
): PluginFile[] {
  return install([
    { path: join(binDir, SHIM), network: null, text: ownShim('cni'), mode: 0o755, isOwn: isShim('cni') },
    ...networks.map((network) => ({
      path: join(confDir, `${network}${SUFFIX}`),
      ...{ network, text: confOf(network, socket), mode: 0o644, isOwn: isConf },
    })),
  ]);
}

/** podman passes no configuration to the shim: another socket is written into it. @throws WeftError ALREADY_EXISTS */
export const installNetavark = (dir: string, socket = DEFAULT_SOCKET): PluginFile[] =>
  install([
    {
      ...{ path: join(dir, SHIM), network: null, text: ownShim('netavark', socket), mode: 0o755 },
      isOwn: isShim('netavark'),
    },
  ]);

interface Wanted {
  path: string;
  network: string | null;
  text: string;
  mode: number;
  isOwn: (text: string) => boolean;
}

function install(files: readonly Wanted[]): PluginFile[] {
  const wanted = files.map((file) => ({ ...file, there: readIfThere(file.path) }));
  for (const { path, there, isOwn } of wanted) {
    if (there === undefined || isOwn(there)) continue;
    throw alreadyExists(
      `${path} is there, and weft has not made it`,
      'Move it away, or name another folder (see --help).',
    );
  }
  return wanted.map(({ path, network, text, mode, there }) => {
    if (there === text) return { path, network, state: 'unchanged' };
    if (there !== undefined && network !== null) return { path, network, state: 'edited' };
    write(path, text, mode);
    return { path, network, state: 'made' };
  });
}

export const listCni = ({ binDir, confDir }: CniFolders): PluginFile[] => [
  ...listShim('cni', binDir),
  ...namesIn(confDir).flatMap((name): PluginFile[] => {
    const path = join(confDir, name);
    const text = name.endsWith(SUFFIX) ? readIfThere(path) : undefined;
    if (text === undefined || !isConf(text)) return [];
    const { network, socket } = settingsIn(text);
    return [{ path, network, state: text === confOf(network, socket) ? 'unchanged' : 'edited' }];
  }),
];

export const listNetavark = (dir: string): PluginFile[] => listShim('netavark', dir);

function listShim(kind: Kind, folder: string): PluginFile[] {
  const path = join(folder, SHIM);
  const text = readIfThere(path);
  if (text === undefined || !isShim(kind)(text)) return [];
  // With whichever socket.
  const isSame = text.replace(SOCKET_LINE, () => `default_socket=${DEFAULT_SOCKET}`) === ownShim(kind);
  return [{ path, network: null, state: isSame ? 'unchanged' : 'old' }];
}

/** Deletes what weft made, edited or not; what is not there is no error. */
export const uninstallCni = (folders: CniFolders): PluginFile[] => deleted(listCni(folders));
export const uninstallNetavark = (dir: string): PluginFile[] => deleted(listNetavark(dir));

const deleted = (files: readonly PluginFile[]): PluginFile[] =>
  files.map((file) => {
    rmSync(file.path, { force: true });
    return { ...file, state: 'deleted' };
  });

const SOCKET_LINE = /^default_socket=(.*)$/m;

const ownShim = (kind: Kind, socket = DEFAULT_SOCKET): string =>
  ownFile(`bin/weft-${kind}`).replace(SOCKET_LINE, () => `default_socket=${quoted(socket)}`);

/** As the shell reads it. */
const quoted = (word: string): string =>
  /^[A-Za-z0-9/_.:@+-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

const isShim =
  (kind: Kind) =>
  (text: string): boolean =>
    text.startsWith(MARKS[kind]);

/** Bandwidth is not among them: weft limits none. */
const CAPABILITIES = { portMappings: true, ips: true, mac: true, aliases: true, dns: true };

/**
 * Older clients take the first version, newer ones the highest of the list. With 1.1.0 alone podman 4 and containerd 1.7 refuse
 * the result.
 */
const confOf = (network: string, socket: string): string =>
  `${JSON.stringify(
    {
      cniVersion: '1.0.0',
      cniVersions: ['1.0.0', '1.1.0'],
      name: network,
      madeBy: CONF_MARK,
      plugins: [
        {
          type: SHIM,
          network,
          ...(socket !== DEFAULT_SOCKET && { socket }),
          capabilities: CAPABILITIES,
        },
      ],
    },
    undefined,
    2,
  )}\n`;

const isConf = (text: string): boolean => fieldOf(parsed(text), 'madeBy') === CONF_MARK;

/** What a configuration of weft's was made from, as far as an edited one still says so. */
function settingsIn(text: string): { network: string; socket: string } {
  const conf = parsed(text);
  const plugins = fieldOf(conf, 'plugins');
  const own: unknown = Array.isArray(plugins) ? plugins[0] : undefined;
  const word = (value: unknown, otherwise: string): string =>
    typeof value === 'string' && value !== '' ? value : otherwise;
  const network = word(fieldOf(own, 'network'), word(fieldOf(conf, 'name'), ''));
  return { network, socket: word(fieldOf(own, 'socket'), DEFAULT_SOCKET) };
}

const fieldOf = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @throws WeftError FAILED_PRECONDITION if it cannot be read */
function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw failedPrecondition(`${path} cannot be read: ${messageOf(error)}`, 'Run it as root.', {
      cause: error,
    });
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).toSorted();
  } catch {
    return [];
  }
}

function write(path: string, text: string, mode: number): void {
  try {
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o755 });
    replaceFile(path, text, { mode });
  } catch (error) {
    throw failedPrecondition(
      `${path} cannot be written: ${messageOf(error)}`,
      'Run it as root, or name another folder (see --help).',
      { cause: error },
    );
  }
}
