// weft cni, weft netavark: install | uninstall | ls, the plugins' files on this host. They ask nobody.
import { Option, type Command } from 'commander';

import { absolutePath, networkNames } from '../checks.js';
import {
  DEFAULT_SOCKET,
  installCni,
  installNetavark,
  listCni,
  listNetavark,
  uninstallCni,
  uninstallNetavark,
  type CniFolders,
  type PluginFile,
} from '../plugin-files.js';
import type { Action } from '../action.js';
import { lists } from '../lists.js';
import { listing, printWarning, type Result } from '../output.js';

export function cniCommands(program: Command, action: Action): void {
  const cni = program
    .command('cni')
    .description('the plugin for podman 4, containerd, nerdctl, CRI-O and Nomad');

  withFolders(cni.command('install'))
    .description('put the plugin in its place, with a configuration for each network that is named')
    .option('--network <name>', 'a network that runtimes may use, several times', networkNames)
    .option('--socket <path>', 'the agent’s --cni-socket', absolutePath, DEFAULT_SOCKET)
    .action(
      action((_context, _words, options: CniFolders & { network?: string[]; socket: string }) => {
        const { network: networks = [], socket, ...folders } = options;
        const files = installCni(folders, networks, socket);
        for (const { path, state } of files)
          if (state === 'edited') printWarning(`${path} was edited, and stays as it is`);
        return Promise.resolve(shown(files));
      }),
    );

  withFolders(cni.command('uninstall'))
    .description('delete what `weft cni install` made; other files stay')
    .action(action((_context, _words, folders: CniFolders) => Promise.resolve(shown(uninstallCni(folders)))));

  withFolders(lists(cni.command('ls'), NO_FILE).alias('list'))
    .description('list what `weft cni install` made')
    .action(action((_context, _words, folders: CniFolders) => Promise.resolve(shown(listCni(folders)))));
}

export function netavarkCommands(program: Command, action: Action): void {
  const netavark = program.command('netavark').description('the plugin for podman 4.5 and later (netavark)');
  const withDir = (command: Command): Command =>
    command.addOption(
      new Option('--dir <dir>', 'where podman looks for plugins (netavark_plugin_dirs)')
        .argParser(absolutePath)
        .default('/usr/local/libexec/netavark'),
    );

  withDir(netavark.command('install'))
    .description('put the plugin in its place: podman network create -d weft')
    .option('--socket <path>', 'the agent’s --cni-socket', absolutePath, DEFAULT_SOCKET)
    .action(
      action((_context, _words, { dir, socket }: { dir: string; socket: string }) =>
        Promise.resolve(shown(installNetavark(dir, socket))),
      ),
    );

  withDir(netavark.command('uninstall'))
    .description('delete what `weft netavark install` made; other files stay')
    .action(
      action((_context, _words, { dir }: { dir: string }) => Promise.resolve(shown(uninstallNetavark(dir)))),
    );

  withDir(lists(netavark.command('ls'), NO_FILE).alias('list'))
    .description('list what `weft netavark install` made')
    .action(
      action((_context, _words, { dir }: { dir: string }) => Promise.resolve(shown(listNetavark(dir)))),
    );
}

const withFolders = (command: Command): Command =>
  command
    .addOption(
      new Option('--bin-dir <dir>', 'where runtimes look for plugins')
        .argParser(absolutePath)
        .default('/opt/cni/bin'),
    )
    .addOption(
      new Option('--conf-dir <dir>', 'where they look for configurations')
        .argParser(absolutePath)
        .default('/etc/cni/net.d'),
    );

const NO_FILE: PluginFile = { path: '', network: null, state: 'made' };

const shown = (files: readonly PluginFile[]): Result =>
  listing(files, {
    shape: (file) => file,
    name: ({ path }) => path,
    columns: {
      PATH: ({ path }) => path,
      NETWORK: ({ network }) => network ?? '',
      STATE: ({ state }) => state,
    },
  });
