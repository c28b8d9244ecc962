// Secrets of the command line do not stay in the process list.

/** Shown in place of a secret; shorter than any of them, since a title has only the room of the first arguments. */
const SHOWN = '…';

/** Takes a secret, and what is as long in the environment, out of what others see of this process. */
export function hideSecret(secret: string | undefined): void {
  delete process.env['WEFT_TOKEN'];
  if (secret === undefined || secret === '') return;
  process.title = process.argv.map((word) => word.replaceAll(secret, SHOWN)).join(' ');
}
