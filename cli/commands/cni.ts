// weft cni install | uninstall | ls: the CNI plugin's files on this host. Asks nobody.
import { Option, type Command } from 'commander';

import { absolutePath, networkNames } from '../checks.js';
import {
  DEFAULT_SOCKET,
  installCni,
  listCni,
  uninstallCni,
  type CniFile,
  type CniFolders,
} from '../cni-files.js';
import type { Action } from '../action.js';
import { printWarning, table, type Result } from '../output.js';

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

  withFolders(cni.command('ls').alias('list'))
    .description('list what `weft cni install` made')
    .action(action((_context, _words, folders: CniFolders) => Promise.resolve(shown(listCni(folders)))));
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

const shown = (files: readonly CniFile[]): Result => ({
  value: files,
  text: () =>
    table(
      ['PATH', 'NETWORK', 'STATE'],
      files.map(({ path, network, state }) => [path, network ?? '', state]),
    ),
});
