// weft dns add | rm | ls | lookup
import type { Command } from 'commander';

import type { LookupNameResponse, Name } from '../../proto/gen/weft/v1/agent.js';
import { dnsName, ipList, lookupName, networkName, recordType, target } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import { listOf } from '../context.js';
import type { Action } from '../action.js';
import { lists } from '../lists.js';
import { block, indentedTable, listing, type Result } from '../output.js';

/** Longer than the agent waits for other name servers. */
const LOOKUP_MS = 10_000;

interface NetworkOption {
  network?: string;
}

export function dnsCommands(program: Command, action: Action): void {
  const dns = program.command('dns').description('names that containers can ask for');

  dns
    .command('add')
    .description('give a network a name for addresses of your choice')
    .argument('<name>', 'the name: letters, digits, _, - and dots', dnsName)
    .argument('<ip...>', 'what it stands for; added to what it has', ipList)
    .option('--network <name>', 'the network that has it (default: the only one)', networkName)
    .action(
      action(async ({ connect }, [name], { network = '' }: NetworkOption, [, ips]): Promise<Result> => {
        const request = { name, ips: listOf(ips), network };
        const made = await connect.agent('NameService', (client) => client.addName, request, WRITE_MS);
        return {
          value: nameShape(made),
          text: () => `${made.name}.${made.network}.weft: ${made.addresses.join(', ')}`,
        };
      }),
    );

  dns
    .command('rm')
    .alias('remove')
    .description('take a name, or some of its addresses, away again')
    .argument('<name>', 'the name', dnsName)
    .argument('[ip...]', 'only these of its addresses', ipList)
    .option('--network <name>', 'the network that has it (default: the only one that does)', networkName)
    .action(
      action(async ({ connect }, [name], { network = '' }: NetworkOption, [, ips]): Promise<Result> => {
        const request = { name, ips: listOf(ips), network };
        const gone = await connect.agent('NameService', (client) => client.removeName, request, WRITE_MS);
        return { value: { name, network: gone.network }, text: () => `${name}.${gone.network}.weft` };
      }),
    );

  lists(dns.command('ls'), nameShape(NO_NAME))
    .alias('list')
    .description('list every name that this node answers')
    .option('--network <name>', 'only of this network', networkName)
    .action(
      action(async ({ connect }, _words, { network = '' }: NetworkOption): Promise<Result> => {
        const { names } = await connect.agent(
          'NameService',
          (client) => client.listNames,
          { network },
          READ_MS,
        );
        return nameList(names);
      }),
    );

  dns
    .command('lookup')
    .description('ask as a container would, and see where the answer comes from')
    .argument('<name>', 'a name, or an address to find the name of', lookupName)
    .option(
      '--from <target>',
      'as this container of this host (default: this host, on all its networks)',
      target,
    )
    .option('--type <type>', 'A, AAAA, PTR, TXT, … (default: A and AAAA)', recordType)
    .action(
      action(
        async (
          { connect },
          [name],
          { from = '', type = '' }: { from?: string; type?: string },
        ): Promise<Result> => {
          const found = await connect.agent(
            'NameService',
            (client) => client.lookupName,
            { name, from, type },
            LOOKUP_MS,
          );
          // A name without addresses is a failure, as in host(1) and getent(1).
          if (found.answers.length === 0) process.exitCode = 1;
          return { value: found, text: () => lookupText(found) };
        },
      ),
    );
}

const nameShape = (it: Name): object => ({
  name: it.name,
  network: it.network,
  addresses: it.addresses,
  kind: it.kind,
  endpoint: it.endpoint ?? null,
  node: it.node ?? null,
  target: it.target ?? null,
  state: it.state,
});

const NO_NAME: Name = { name: '', network: '', addresses: [], kind: '', state: '' };

const nameList = (names: readonly Name[]): Result =>
  listing(names, {
    shape: nameShape,
    name: ({ name, network }) => `${name}.${network}`,
    columns: {
      NAME: ({ name }) => name,
      NETWORK: ({ network }) => network,
      ADDRESSES: ({ addresses }) => addresses.join(', '),
      KIND: ({ kind }) => kind,
      NODE: ({ node }) => node ?? '',
      STATE: ({ state }) => state,
      TARGET: ({ target }) => target ?? '',
    },
  });

async function lookupText({ name, status, answers, networks, source }: LookupNameResponse): Promise<string> {
  const head = block([
    ['Name', name],
    ['Status', status],
    ['From', source],
    ['Looked in', networks.length === 0 ? 'no network' : networks.join(', ')],
  ]);
  if (answers.length === 0) return head;
  const rows = answers.map((it) => [it.type, it.data, it.ttl, it.whose]);
  return `${head}\n\nAnswers:\n${await indentedTable(['TYPE', 'DATA', 'TTL', 'WHOSE'], rows)}`;
}
