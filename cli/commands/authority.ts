// weft ca show | init | rotate | issue
import { type Command, Option } from 'commander';

import { invalidArgument } from '../../core/errors.js';
import { IdentityFolder } from '../../daemon/identity-folder.js';
import type { Authority } from '../../proto/gen/weft/v1/identity.js';
import type { Action } from '../action.js';
import { networkName } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import { block, relative, type Result } from '../output.js';
import { authorityShape } from '../shapes.js';

export function authorityCommands(program: Command, action: Action): void {
  const ca = program.command('ca').description('the certificate authority of the cluster');

  ca.command('show')
    .description('show its certificate, its hash, and nodes without a certificate')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const shown = await connect.controller(
          'IdentityService',
          (client) => client.getAuthority,
          {},
          READ_MS,
        );
        return { value: authorityShape(shown), text: () => authorityText(shown) };
      }),
    );

  ca.command('init')
    .description('move a cluster from plain text to certificates: both are served until every node has one')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const made = await connect.controller(
          'IdentityService',
          (client) => client.initAuthority,
          {},
          WRITE_MS,
        );
        return { value: authorityShape(made), text: () => [authorityText(made), '', NEXT].join('\n') };
      }),
    );

  ca.command('rotate')
    .description('replace the CA by a new one, while traffic and control go on')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const made = await connect.controller(
          'IdentityService',
          (client) => client.rotateAuthority,
          {},
          WRITE_MS,
        );
        return { value: authorityShape(made), text: () => [authorityText(made), '', ROTATING].join('\n') };
      }),
    );

  ca.command('issue')
    .description('write a certificate for a flanneld, for etcdctl, or for a further controller')
    .addOption(
      new Option('--role <role>', 'whose').choices(['flannel', 'admin', 'controller']).makeOptionMandatory(),
    )
    .option('--network <name>', 'the network of the flanneld', networkName)
    .requiredOption('--out <dir>', 'the folder for ca.crt, ROLE.crt and ROLE.key')
    .action(
      action(
        async (
          { connect },
          _words,
          { role, network, out }: { role: string; network?: string; out: string },
        ): Promise<Result> => {
          if ((role === 'flannel') !== (network !== undefined))
            throw invalidArgument(
              `--network: ${role === 'flannel' ? 'not given' : `is for the role flannel, not ${role}`}`,
              'A flanneld is of one network: --role flannel --network NAME.',
            );
          const folder = new IdentityFolder(out, role);
          const publicKey = folder.publicKey();
          const made = await connect.controller(
            'IdentityService',
            (client) => client.issueCertificate,
            { role, network: network ?? '', publicKey },
            WRITE_MS,
          );
          folder.save(made);
          const { ca: authority, cert, key } = folder.paths;
          return {
            value: { role, ca: authority, cert, key },
            text: () => [authority, cert, key].join('\n'),
          };
        },
      ),
    );
}

const NEXT =
  'Now, for each node: weft token create --node NAME, then its agent with --token in place of --insecure. Plain text ends with the last one.';

const ROTATING =
  'Nodes get their certificates by themselves: see weft ca show. Those that weft ca issue wrote are to be issued again. The former CA is dropped after the last one.';

function authorityText(authority: Authority): string {
  const { certificate, hash, expires, nodesWithout, servesPlainText, former, waitsFor } = authority;
  const head = block([
    ['CA', hash],
    ['Replaces', former ?? ''],
    ['Waits for', waitsFor.join(', ')],
    ['Expires', relative(expires)],
    ['Plain text', servesPlainText ? 'served, too' : 'not served'],
    ['Nodes without', nodesWithout.join(', ')],
  ]);
  return `${head}\n\n${certificate.trim()}`;
}
