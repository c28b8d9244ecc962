// weft trace
import type { Command } from 'commander';

import { WeftError } from '../../core/errors.js';
import type { Hop, TraceResult } from '../../proto/gen/weft/v1/trace.js';
import type { Action } from '../action.js';
import { integer } from '../checks.js';
import type { Connector } from '../connect.js';
import { ExitError } from '../exit.js';
import { bothHere } from '../find.js';
import { block, indentedTable, type Result } from '../output.js';

/** Longer than a trace takes, in milliseconds. */
const TRACE_MS = 10_000;

interface TraceOptions {
  tcp?: number;
  udp?: number;
  size?: number;
}

export function traceCommand(program: Command, action: Action): void {
  program
    .command('trace')
    .description(
      'send a packet from one container or node to another: where it goes, where it stops, and why',
    )
    .argument('<from>', 'TARGET, id, address, NAME or NAME.NETWORK of an endpoint, or a node')
    .argument('<to>', 'the same, or any address')
    .option(
      '--tcp <port>',
      'a connection to this TCP port (default: ICMP, as ping sends)',
      integer('tcp', 1, 65_535),
    )
    .option('--udp <port>', 'a datagram to this UDP port', integer('udp', 1, 65_535))
    .option('--size <bytes>', 'of this many bytes, with the IP header', integer('size', 64, 65_535))
    .addHelpText(
      'after',
      '\nExit status: 0 where the answer has come back, 1 where it has not, 2 for a word that means several things.',
    )
    .action(
      action(async ({ connect }, [from, to], options: TraceOptions): Promise<Result> => {
        connect.checkController();
        if (options.tcp !== undefined && options.udp !== undefined)
          throw new WeftError('INVALID_ARGUMENT', '--tcp and --udp exclude each other', 'Give one of them.');
        const result = await ask(connect, from, to, options);
        if (result.verdict !== 'reached') process.exitCode = 1;
        return { value: traceShape(result), text: () => traceText(result, from, to, options) };
      }),
    );
}

async function ask(
  connect: Connector,
  from: string,
  to: string,
  { tcp, udp, size = 0 }: TraceOptions,
): Promise<TraceResult> {
  const request = {
    ...{ from, to, size, ...(await bothHere(connect, from, to)) },
    protocol: tcp !== undefined ? 'tcp' : udp !== undefined ? 'udp' : 'icmp',
    port: tcp ?? udp ?? 0,
  };
  try {
    return await connect.controller('TraceService', (client) => client.trace, request, TRACE_MS);
  } catch (error) {
    // What the words mean is found only by asking.
    if (error instanceof WeftError && error.code === 'INVALID_ARGUMENT')
      throw new ExitError(error.code, 2, error.message, error.next);
    throw error;
  }
}

const hopShape = ({ node, point, seen, detail }: Hop): object => ({
  ...{ node: node ?? null, point, seen: seen ?? null, detail },
});

const traceShape = ({ verdict, node, reason, why, fix, hops, back, ...sent }: TraceResult): object => ({
  ...{ verdict, node: node ?? null, reason: reason ?? null, why, fix },
  ...{ hops: hops.map(hopShape), back: back.map(hopShape) },
  ...{ source: sent.source, destination: sent.destination, size: sent.size },
});

async function traceText(
  { verdict, node, reason, why, fix, hops, back, ...sent }: TraceResult,
  from: string,
  to: string,
  { tcp, udp }: TraceOptions,
): Promise<string> {
  const kind = tcp !== undefined ? `TCP port ${tcp}` : udp !== undefined ? `UDP port ${udp}` : 'ICMP';
  const head = block([
    ['Trace', `${from} to ${to}: ${sent.source} to ${sent.destination}, ${kind}, ${sent.size} bytes`],
    ['Verdict', node === undefined ? verdict : `${verdict} on ${node}`],
    ['Reason', reason],
    ['Why', why],
    ['Next', fix],
  ]);
  return [head, '', 'There:', await hopTable(hops), '', 'Back:', await hopTable(back)].join('\n');
}

const SEEN = { true: 'yes', false: 'no' } as const;

const hopTable = (hops: readonly Hop[]): Promise<string> =>
  indentedTable(
    ['NODE', 'POINT', 'SEEN', 'DETAIL'],
    hops.map(({ node = '', point, seen, detail }) => [
      node,
      point,
      seen === undefined ? 'unknown' : SEEN[seen ? 'true' : 'false'],
      detail,
    ]),
  );
