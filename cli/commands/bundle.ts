// weft bundle: one archive of what somebody needs who looks for a fault from afar. Secrets are taken out.
import { invalidArgument, messageOf, WeftError } from '../../core/errors.js';
import { redact } from '../../core/redact.js';
import type { Command } from 'commander';

import { version } from '../../daemon/version.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import type { Action } from '../action.js';
import { READ_MS, type Connector } from '../connect.js';
import { openFile } from '../file-writer.js';
import { askNode, forEachNode, listNodes } from '../nodes.js';
import { printNote, type Result } from '../output.js';
import { endpointShape, networkShape, nodeShape } from '../shapes.js';
import { tarEnd, tarEntry } from '../tar.js';

type File = [name: string, content: string | Buffer];

export function bundleCommand(program: Command, action: Action): void {
  program
    .command('bundle')
    .description('write what helps to find a fault into one tar file, without secrets')
    .requiredOption('-w, --write <file>', 'the tar file; - is standard output')
    .option('--all', 'of every node that is up, through the controller; else of this host')
    .action(
      action(
        async (
          { connect },
          _words,
          { all, write }: { all?: true; write: string },
        ): Promise<Result | undefined> => {
          if (/\.(t?gz|zip|xz|zst)$/.test(write))
            throw invalidArgument(`-w ${write}: a plain tar file is written`, 'Call it .tar.');
          const file = openFile(write);
          const now = new Date();
          const folder = `weft-bundle-${now.toISOString().replaceAll(/[:.]/g, '-')}`;
          const names: string[] = [];
          const add = async ([name, content]: File): Promise<void> => {
            names.push(name);
            await file.write(tarEntry(`${folder}/${name}`, Buffer.from(content), now));
          };
          try {
            await add(['bundle.json', json({ weft: version, time: now.toISOString(), all: all === true })]);
            for (const one of await clusterFiles(connect)) await add(one);
            const failures = all === true ? await addAll(connect, add) : await addOwn(connect, add);
            await file.write(tarEnd());
            if (failures > 0) process.exitCode = 1;
          } finally {
            file.close();
          }
          if (write === '-') return undefined;
          return { value: { file: write, files: names }, text: () => `${write}: ${names.length} files` };
        },
      ),
    );
}

const json = (value: unknown): string => redact(`${JSON.stringify(value, undefined, 2)}\n`);

/** What the controller says. Without it the rest is useful, too. */
async function clusterFiles(connect: Connector): Promise<File[]> {
  const everything = { network: '', node: '' };
  const asked: Record<string, () => Promise<unknown>> = {
    status: async () =>
      Status.toJSON(await connect.controller('StatusService', (client) => client.getStatus, {}, READ_MS)),
    nodes: async () => (await listNodes(connect)).map(nodeShape),
    networks: async () =>
      (await connect.controller('NetworkService', (client) => client.listNetworks, {}, READ_MS)).networks.map(
        networkShape,
      ),
    endpoints: async () =>
      (
        await connect.controller('EndpointService', (client) => client.listEndpoints, everything, READ_MS)
      ).endpoints.map(endpointShape),
  };
  return await Promise.all(
    Object.entries(asked).map(async ([name, ask]): Promise<File> => {
      try {
        return [`cluster/${name}.json`, json(await ask())];
      } catch (error) {
        return [`cluster/${name}.txt`, `${messageOf(error)}\n`];
      }
    }),
  );
}

type Add = (file: File) => Promise<void>;

async function addOwn(connect: Connector, add: Add): Promise<number> {
  for (const file of await nodeFiles(connect, undefined)) await add(file);
  return 0;
}

/** @returns how many nodes could not be asked */
async function addAll(connect: Connector, add: Add): Promise<number> {
  const up = (await listNodes(connect)).filter(({ state }) => state === 'up').map(({ name }) => name);
  let done = 0;
  const answers = await forEachNode(up, async (node) => {
    const files = await nodeFiles(connect, node);
    done++;
    printNote(`${node}: ${files.length} files (${done} of ${up.length} nodes)`);
    return files;
  });
  let failures = 0;
  for (const { node, result } of answers) {
    if (result instanceof WeftError) {
      failures++;
      printNote(`${node}: ${result.message}`);
      await add([`nodes/${node}/failed.txt`, `${result.message}\n`]);
    } else for (const file of result) await add(file);
  }
  return failures;
}

/** @param node undefined: this host's */
async function nodeFiles(connect: Connector, node: string | undefined): Promise<File[]> {
  const files = new Map<string, Buffer[]>();
  const asking = { node, question: { $case: 'bundle', value: {} }, method: 'operate' } as const;
  await askNode(connect, asking, (answer) => {
    if (answer.$case !== 'file') return;
    const { name, bytes } = answer.value;
    // A node chooses no place outside of its folder.
    const plain = name.replaceAll(/[^A-Za-z0-9._-]/g, '_');
    files.set(plain, [...(files.get(plain) ?? []), Buffer.from(bytes)]);
  });
  const folder = node === undefined ? 'node' : `nodes/${node}`;
  return [...files].map(([name, parts]) => [`${folder}/${name}`, Buffer.concat(parts)]);
}
