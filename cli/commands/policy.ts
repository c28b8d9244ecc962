// weft policy allow | isolate | open | ls | inspect | rm | test
import type { Command } from 'commander';

import { invalidArgument, WeftError } from '../../core/errors.js';
import { parsePolicy, parsePorts, formatPorts } from '../../core/policy/policy.js';
import { parseSelector } from '../../core/policy/selector.js';
import type { ListPoliciesResponse, NodeGap, Policy } from '../../proto/gen/weft/v1/controller.js';
import type { Action } from '../action.js';
import { checked, integer, name, networkName } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import { ExitError } from '../exit.js';
import { bothHere } from '../find.js';
import { lists } from '../lists.js';
import { block, listing, printWarning, type Result } from '../output.js';

/** The controller waits for the nodes, a few seconds at most. */
const SETTLE_MS = WRITE_MS + 5000;

const selectors = (text: string, before: string[] = []): string[] => [
  ...before,
  checked((word) => parseSelector(word).text)(text),
];
const ports = (text: string, before: string[] = []): string[] => [
  ...before,
  checked((word) => formatPorts(parsePorts(word)))(text),
];

interface AllowOptions {
  from?: string[];
  to?: string[];
  port?: string[];
}

export function policyCommands(program: Command, action: Action): void {
  const policy = program.command('policy').description('who may speak to whom');

  policy
    .command('allow')
    .description('allow one more: what --to selects admits only what is allowed from now on')
    .argument('[name]', 'its name (default: made from what it says)', name())
    .option(
      '--from <selector...>',
      'who may: KEY=VALUE of a label, name=N, network=N, node=N, cidr=C, host or any; with a comma between, all must hold',
      selectors,
    )
    .option(
      '--to <selector...>',
      'to which containers, in the same words; host: to hosts, for what containers send there',
      selectors,
    )
    .option(
      '--port <[tcp|udp/]port[-port]...>',
      'at which ports of theirs (default: all, of every protocol)',
      ports,
    )
    .action(
      action(async ({ connect }, [called], options: AllowOptions): Promise<Result> => {
        const request = {
          ...{ name: called, from: options.from ?? [], to: options.to ?? [], ports: options.port ?? [] },
        };
        parsePolicy(request);
        const made = await connect.controller(
          'PolicyService',
          (client) => client.createPolicy,
          request,
          SETTLE_MS,
        );
        warnOf(made.pending);
        return { value: policyShape(made), text: () => made.name };
      }),
    );

  for (const [verb, open, about] of [
    ['isolate', false, 'close a network: its containers admit only what a policy allows'],
    ['open', true, 'open a network again; what policies select stays closed'],
  ] as const)
    policy
      .command(verb)
      .description(about)
      .argument('<network>', 'the network', networkName)
      .action(
        action(async ({ connect }, [network]): Promise<Result> => {
          const { pending } = await connect.controller(
            'PolicyService',
            (client) => client.isolateNetwork,
            { network, open },
            SETTLE_MS,
          );
          warnOf(pending);
          return { value: { network, isolated: !open, pending: pending.map(gapShape) }, text: () => network };
        }),
      );

  lists(policy.command('ls'), policyShape(NO_POLICY))
    .alias('list')
    .description('list the policies, and the isolated networks')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const answer = await connect.controller(
          'PolicyService',
          (client) => client.listPolicies,
          {},
          READ_MS,
        );
        warnOf(answer.pending);
        return policyList(answer);
      }),
    );

  policy
    .command('inspect')
    .description('show one policy, and which nodes do not enforce it')
    .argument('<name>', 'its name', name())
    .action(
      action(async ({ connect }, [called]): Promise<Result> => {
        const found = await connect.controller(
          'PolicyService',
          (client) => client.getPolicy,
          { name: called },
          READ_MS,
        );
        return { value: policyShape(found), text: () => policyBlock(found) };
      }),
    );

  policy
    .command('rm')
    .alias('remove')
    .description('remove a policy')
    .argument('<name>', 'its name', name())
    .action(
      action(async ({ connect }, [called]): Promise<Result> => {
        const { pending } = await connect.controller(
          'PolicyService',
          (client) => client.deletePolicy,
          { name: called },
          SETTLE_MS,
        );
        warnOf(pending);
        return { value: { name: called, pending: pending.map(gapShape) }, text: () => called };
      }),
    );

  policy
    .command('test')
    .description('whether the policies allow a connection, and which of them; nothing is sent')
    .argument('<a>', 'who begins: an id, an address, NAME, NAME.NETWORK, a TARGET, or a node')
    .argument('<b>', 'to whom; host is the host of the other one')
    .option('--tcp <port>', 'to this port', integer('tcp', 1, 65_535))
    .option('--udp <port>', 'to this port', integer('udp', 1, 65_535))
    .action(
      action(async ({ connect }, [from, to], options: { tcp?: number; udp?: number }): Promise<Result> => {
        const { tcp, udp } = options;
        if (tcp !== undefined && udp !== undefined)
          throw invalidArgument('--tcp and --udp: a packet has one protocol', 'Leave one of them out.');
        const protocol = tcp === undefined ? (udp === undefined ? '' : 'udp') : 'tcp';
        const here = await bothHere(connect, from, to);
        const request = { from, to, protocol, port: tcp ?? udp ?? 0, ...here };
        const {
          verdict,
          policy: by = null,
          why,
        } = await connect
          .controller('PolicyService', (client) => client.testPolicy, request, READ_MS)
          .catch(asWrongCall);
        if (verdict !== 'allowed') process.exitCode = 1;
        return { value: { verdict, policy: by, why }, text: () => `${verdict}: ${why}` };
      }),
    );
}

/** A word that means several is a wrong call. */
function asWrongCall(error: unknown): never {
  if (error instanceof WeftError && error.code === 'INVALID_ARGUMENT')
    throw new ExitError(error.code, 2, error.message, error.next);
  throw error;
}

function warnOf(pending: readonly NodeGap[]): void {
  for (const { node, why } of pending) printWarning(`node ${node} does not enforce everything: ${why}`);
}

const gapShape = ({ node, why }: NodeGap): object => ({ node, why });

const policyShape = ({ pending, ...policy }: Policy): object => ({
  name: policy.name,
  from: policy.from,
  to: policy.to,
  ports: policy.ports,
  createdAt: policy.createdAt,
  pending: pending.map(gapShape),
});

const NO_POLICY: Policy = { name: '', from: [], to: [], ports: [], createdAt: '', pending: [] };

const policyList = ({ policies, isolated, pending }: ListPoliciesResponse): Result =>
  listing(policies, {
    shape: policyShape,
    name: ({ name }) => name,
    columns: {
      NAME: ({ name }) => name,
      FROM: ({ from }) => from.join(' '),
      TO: ({ to }) => to.join(' '),
      PORTS: ({ ports }) => ports.join(' ') || 'all',
    },
    whole: (items) => ({ policies: items, isolated, pending: pending.map(gapShape) }),
    foot: isolated.length === 0 ? [] : [`isolated: ${isolated.join(', ')}`],
  });

const policyBlock = (it: Policy): string =>
  block([
    ['Name', it.name],
    ['From', it.from.join('  ')],
    ['To', it.to.join('  ')],
    ['Ports', it.ports.join(', ') || 'all, of every protocol'],
    ['Created', it.createdAt],
    ['Not enforced', it.pending.map(({ node, why }) => `on ${node}: ${why}`).join('; ') || undefined],
  ]);
