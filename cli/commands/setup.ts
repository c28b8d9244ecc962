// weft init | join | leave: a host's part in a cluster, with systemd
import { type Command, Option } from 'commander';

import { invalidArgument } from '../../core/errors.js';
import type { Action } from '../action.js';
import { addressList, controllerOf, etcdList, filePath, integer, name as nameOf } from '../checks.js';
import type { Result } from '../output.js';
import type { InitOptions } from '../setup/init.js';
import type { JoinOptions } from '../setup/join.js';
import type { LeaveOptions } from '../setup/leave.js';
import { tokenOf } from './token.js';

export function setupCommands(program: Command, action: Action): void {
  const init = program
    .command('init')
    .description('make a cluster, with this host as its first: settings, systemd units, start')
    .option(
      '--advertise <ip>',
      'address of this host that others are told (several: with commas)',
      addressList,
    )
    .option('--etcd <url>', 'an etcd of yours in place of one on this host (several: with commas)', etcdList)
    .option('--etcd-ca <file>', 'CA that its certificate is of', filePath)
    .option('--etcd-cert <file>', 'certificate to show to it', filePath)
    .option('--etcd-key <file>', 'its private key', filePath)
    .option('--etcd-username <name>', 'user of an etcd with authentication')
    .option('--etcd-password-file <file>', 'file with the user’s password', filePath);
  common(init, 'write the files and start nothing').action(
    action(async ({ connect }, _words, options: InitOptions): Promise<Result> => {
      checkSecure(options);
      const { checkExternalEtcd, init: run } = await import('../setup/init.js');
      checkExternalEtcd(options);
      connect.asking();
      return await run(options);
    }),
  );

  const join = program
    .command('join')
    .description('make this host a node of a cluster: settings, systemd unit, start')
    .argument('<host:port>', 'a controller of the cluster', controllerOf)
    .option('--token <token>', 'as `weft init` and `weft token create` print it (WEFT_TOKEN)')
    .option('--token-file <file>', 'a file with it')
    .addOption(
      new Option('--role <role>', 'what this host becomes').choices(['node', 'controller']).default('node'),
    )
    .option('--node <name>', 'name of the node (default: the hostname)', nameOf('node'));
  common(join, 'write the files and start nothing').action(
    action(
      async (
        { connect },
        [address],
        options: JoinOptions & { token?: string; tokenFile?: string },
      ): Promise<Result> => {
        const token = tokenOf(options);
        checkSecure(options);
        if (options.role !== 'node' && options.node !== undefined)
          throw invalidArgument(`--node: is for the role node, not ${options.role}`, 'Leave it out.');
        connect.asking();
        const { join: run } = await import('../setup/join.js');
        return await run(address, token, options);
      },
    ),
  );

  const leave = program
    .command('leave')
    .description('take this host out of its cluster: undoes init and join')
    .option('--force', 'although other nodes need this host, or the cluster does not answer', false);
  common(leave, 'delete the files and stop nothing').action(
    action(async ({ connect }, _words, options: LeaveOptions): Promise<Result> => {
      checkSecure(options);
      connect.asking();
      const { leave: run } = await import('../setup/leave.js');
      return await run(options);
    }),
  );
}

function common(command: Command, noStart: string): Command {
  return command
    .option('--no-start', noStart)
    .option('--root <dir>', 'put the files below this folder', '/')
    .option('--wait <seconds>', 'how long each daemon has until it is ready', integer('wait', 1, 3600), 60);
}

/** @throws WeftError INVALID_ARGUMENT */
function checkSecure({ insecure }: { insecure: boolean }): void {
  if (!insecure) return;
  throw invalidArgument(
    '--insecure: these clusters have certificates',
    'Leave it out (WEFT_INSECURE, too). Plain text is a setting of each daemon that you start yourself.',
  );
}
