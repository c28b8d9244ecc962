// weft token create | ls | rm, weft login
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';

import { invalidArgument, messageOf } from '../../core/errors.js';
import { parseToken, ROLES } from '../../core/identity.js';
import { hideSecret } from '../../daemon/process-title.js';
import type { Token } from '../../proto/gen/weft/v1/identity.js';
import type { Action } from '../action.js';
import { controllerOf, integer, name as nameOf, secondsOf } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import { ownFolder } from '../identity.js';
import { lists } from '../lists.js';
import { listing, relative, type Result } from '../output.js';
import { tokenShape } from '../shapes.js';
import { notSilently } from '../waiting.js';

interface CreateOptions {
  role: string;
  ttl?: number;
  uses?: number;
  node?: string;
}

const YEAR_MS = 365 * 24 * 3_600_000;

export function tokenCommands(program: Command, action: Action): void {
  const token = program.command('token').description('tokens, by which nodes and people get certificates');

  token
    .command('create')
    .description('make a token, and print it with the command that uses it')
    .addOption(new Option('--role <role>', 'what its holder becomes').choices([...ROLES]).default('node'))
    .option(
      '--ttl <duration>',
      'how long it can be used (default: 24h)',
      secondsOf('ttl', { min: 1000, max: YEAR_MS }),
    )
    .option('--uses <n>', 'how often (default: any number)', integer('uses', 1, 1_000_000))
    .option('--node <name>', 'only by the node of this name', nameOf('node'))
    .action(
      action(async ({ connect }, _words, options: CreateOptions): Promise<Result> => {
        const { role, ttl = 24 * 3600, uses, node } = options;
        if (node !== undefined && role !== 'node')
          throw invalidArgument(`--node: is for the role node, not ${role}`, 'Leave it out.');
        const made = await connect.controller(
          'IdentityService',
          (client) => client.createToken,
          { role, ttlSeconds: ttl, uses, node },
          WRITE_MS,
        );
        return { value: { ...tokenShape(made), token: made.token }, text: () => tokenText(made) };
      }),
    );

  lists(token.command('ls'), tokenShape(NO_TOKEN))
    .alias('list')
    .description('list tokens, without their secrets')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const { tokens } = await connect.controller(
          'IdentityService',
          (client) => client.listTokens,
          {},
          READ_MS,
        );
        return tokenList(tokens);
      }),
    );

  token
    .command('rm')
    .alias('remove')
    .description('delete a token; the certificates that it gave stay')
    .argument('<id>', 'its id')
    .action(
      action(async ({ connect }, [id]): Promise<Result> => {
        await connect.controller('IdentityService', (client) => client.deleteToken, { id }, WRITE_MS);
        return { value: { id }, text: () => id };
      }),
    );

  program
    .command('login')
    .description('get a certificate of your own, in ~/.config/weft, with a token')
    .argument('<host:port>', 'the controller', controllerOf)
    .option('--token <token>', 'as `weft token create` printed it (WEFT_TOKEN)')
    .option('--token-file <file>', 'a file with it')
    .action(
      action(
        async ({ connect }, [address], options: { token?: string; tokenFile?: string }): Promise<Result> => {
          const token = tokenOf(options);
          connect.asking();
          const { authority } = parseToken(token, 'token');
          const roles = ['admin', 'viewer'] as const;
          const { enrol } = await import('../../daemon/enrolment.js');
          const how = { address, token, node: '', roles, folder: ownFolder };
          const made = await notSilently(`the controller at ${address}`, () => enrol(how));
          const { path } = ownFolder(authority);
          return {
            value: { role: made.role, authority, folder: path },
            text: () => `${made.role} at ${address}, by the certificate in ${path}`,
          };
        },
      ),
    );
}

/** @throws WeftError INVALID_ARGUMENT */
export function tokenOf({ token, tokenFile }: { token?: string; tokenFile?: string }): string {
  const text = token ?? (tokenFile === undefined ? process.env['WEFT_TOKEN'] : readToken(tokenFile));
  hideSecret(token);
  if (text === undefined)
    throw invalidArgument('token: not given', 'Give --token, --token-file or WEFT_TOKEN.');
  parseToken(text, 'token');
  return text.trim();
}

function readToken(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw invalidArgument(`--token-file: ${messageOf(error)}`, 'Name a file that can be read.', {
      cause: error,
    });
  }
}

function tokenText({ token, role, controller, node }: Token): string {
  const lines = [`Token:  ${token}`, '', `Use it:  ${commandFor(role, token, controller, node)}`];
  // On hosts whose daemons somebody else starts.
  if (role === 'node')
    lines.push(`   or:  weft agent --token ${token} --controller ${controller}${named(node)}`);
  return lines.join('\n');
}

function commandFor(role: string, token: string, controller: string, node: string | undefined): string {
  if (role === 'node') return `weft join ${controller} --token ${token}${named(node)}`;
  if (role === 'controller') return `weft join ${controller} --token ${token} --role controller`;
  return `weft login --token ${token} ${controller}`;
}

const named = (node: string | undefined): string => (node === undefined ? '' : ` --node ${node}`);

const NO_TOKEN: Token = { id: '', token: '', role: '', expires: '', controller: '' };

const tokenList = (tokens: readonly Token[]): Result =>
  listing(tokens, {
    shape: tokenShape,
    name: ({ id }) => id,
    columns: {
      ID: ({ id }) => id,
      ROLE: ({ role }) => role,
      NODE: ({ node }) => node ?? '',
      'USES LEFT': ({ uses }) => uses ?? 'any',
      EXPIRES: ({ expires }) => relative(expires),
    },
  });
