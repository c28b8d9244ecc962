// weft node rotate-key
import type { Command } from 'commander';

import type { Action } from '../action.js';
import { WRITE_MS } from '../connect.js';
import type { Result } from '../output.js';

export function rotateKeyCommand(node: Command, action: Action): void {
  node
    .command('rotate-key')
    .description('give this host a new key for its encrypted networks; connections go on')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const rotated = await connect.agent('KeyService', (client) => client.rotateKey, {}, WRITE_MS);
        return { value: rotated, text: () => rotated.publicKey };
      }),
    );
}
