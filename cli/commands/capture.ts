// weft capture: packets of containers, from both hosts, in one file.
import type { Command } from 'commander';

import { invalidArgument } from '../../core/errors.js';
import type { Found } from '../../core/find.js';
import type { CaptureQuery } from '../../proto/gen/weft/v1/inspection.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import type { Action } from '../action.js';
import { integer } from '../checks.js';
import { openFile, type FileWriter } from '../file-writer.js';
import { findOne, readCluster } from '../find.js';
import { onInterrupt } from '../foreground.js';
import { askNode } from '../nodes.js';
import type { Connector } from '../connect.js';
import { block, printNote, type Result } from '../output.js';
import { interfaceBlock, packetBlock, sectionHeader } from '../pcapng.js';

interface CaptureOptions {
  write: string;
  seconds?: number;
  snapLength: number;
}

export function captureCommand(program: Command, action: Action): void {
  program
    .command('capture')
    .description(
      'write the packets of a container, or between two, at every point that they pass on their hosts',
    )
    .argument('<a>', 'an endpoint: its name, NAME.NETWORK, id, address, or TARGET')
    .argument('[b]', 'only packets between the two')
    .requiredOption('-w, --write <file>', 'pcapng, for Wireshark or tcpdump -r; - is standard output')
    .option('--seconds <n>', 'how long (default: until Ctrl-C)', integer('seconds', 1, 86_400))
    .option('--snap-length <bytes>', 'of each packet (default: all)', integer('snap-length', 14, 65_535), 0)
    .action(
      action(async ({ connect }, [a, b], options: CaptureOptions): Promise<Result | undefined> => {
        const cluster = await readCluster(connect);
        const from = endpointOf(a, await findOne(connect, a, cluster));
        const to = b === '' ? undefined : endpointOf(b, await findOne(connect, b, cluster));
        const query = {
          of: addressesOf(from),
          with: to === undefined ? [] : addressesOf(to),
          snapLength: options.snapLength,
        };
        const nodes = [...new Set([from.node, ...(to === undefined ? [] : [to.node])])];
        const file = openFile(options.write);
        try {
          const captured = await capture(connect, nodes, query, file, options.seconds);
          if (options.write === '-') return undefined;
          const { points, packets, missed } = captured;
          return {
            value: { file: options.write, ...captured },
            text: () =>
              block([
                ['File', options.write],
                ['Points', points.map(({ name }) => name).join(', ')],
                ['Packets', packets],
                ['Missed', missed > 0 ? missed : undefined],
              ]),
          };
        } finally {
          file.close();
        }
      }),
    );
}

function endpointOf(word: string, found: Found<Endpoint>): Endpoint {
  if (found.kind === 'endpoint') return found.endpoint;
  throw invalidArgument(
    `${word}: is a node, and containers are captured`,
    'Name an endpoint: weft endpoint ls.',
  );
}

const addressesOf = ({ ip, ip6 }: Endpoint): string[] =>
  [ip, ip6 ?? ''].filter((text) => text !== '').map((text) => text.replace(/\/\d+$/, ''));

interface Captured {
  points: { name: string; description: string }[];
  packets: number;
  /** Packets that came too fast. */
  missed: number;
}

async function capture(
  connect: Connector,
  nodes: readonly string[],
  value: CaptureQuery,
  file: FileWriter,
  seconds: number | undefined,
): Promise<Captured> {
  const end = new AbortController();
  onInterrupt(() => end.abort());
  const timer = seconds === undefined ? undefined : setTimeout(() => end.abort(), seconds * 1000);
  const captured: Captured = { points: [], packets: 0, missed: 0 };
  await file.write(sectionHeader());
  printNote(`capturing ${seconds === undefined ? 'until Ctrl-C' : `for ${seconds} s`}`);
  try {
    await Promise.all(
      nodes.map(async (node) => {
        /** By the node's own number of a point: that of its interface in the file. */
        const interfaces = new Map<number, number>();
        const question = { $case: 'capture', value } as const;
        const asking = { node, question, signal: end.signal, method: 'operate' } as const;
        await askNode(connect, asking, (answer) => {
          if (answer.$case === 'point') {
            const { index, name, description } = answer.value;
            interfaces.set(index, captured.points.length);
            captured.points.push({ name, description });
            void file.write(interfaceBlock(answer.value));
          } else if (answer.$case === 'packets') {
            captured.missed += answer.value.missed;
            captured.packets += answer.value.packets.length;
            const blocks = answer.value.packets.map(({ point, ...packet }) =>
              packetBlock({ ...packet, interface: interfaces.get(point) ?? 0 }),
            );
            void file.write(Buffer.concat(blocks));
          }
        });
      }),
    );
  } finally {
    clearTimeout(timer);
    end.abort();
  }
  return captured;
}
