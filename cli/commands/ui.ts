// weft ui: the page that shows the cluster, on loopback, with the rights of the person who runs it.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Command } from 'commander';

import { invalidArgument } from '../../core/errors.js';
import { hostPort, type HostPort } from '../../daemon/kinds.js';
import type { Action } from '../action.js';
import { READ_MS } from '../connect.js';
import { onInterrupt } from '../foreground.js';
import { print } from '../output.js';

interface UiOptions {
  listen: string;
  /** By --no-open. */
  open: boolean;
}

export function uiCommand(program: Command, action: Action): void {
  program
    .command('ui')
    .description('a page that shows the cluster, in a browser on this host, until Ctrl-C')
    .option('--listen <host:port>', 'where the page is served; loopback alone', '127.0.0.1:0')
    .option('--no-open', 'only print the link, and open no browser')
    .addHelpText(
      'after',
      '\nThe page shows what your certificate may see, and changes nothing. The link counts once: after that the browser\n' +
        'that has opened it is known by a cookie, until the command ends. From another host, forward the port:\n' +
        '  weft ui --listen 127.0.0.1:7480 --no-open     there, and here: ssh -L 7480:127.0.0.1:7480 HOST',
    )
    .action(
      action(async ({ connect, format }, _words, options: UiOptions): Promise<undefined> => {
        const listen = loopback(options.listen);
        // An error of the controller's is told here, and not only on the page.
        await connect.controller('StatusService', (client) => client.getStatus, {}, READ_MS);
        const at = await connect.controllerAt();
        const { PageServer, Source } = await import('../../daemon/page/index.js');
        const page = await PageServer.start({ listen, source: new Source(() => at), flag: '--listen' });
        const { url } = page;
        await print({ value: { url }, text: () => url }, format);
        const close = options.open ? openBrowser(url) : () => undefined;
        await ended();
        close();
        await page.stop();
      }),
    );
}

function loopback(text: string): HostPort {
  const listen = hostPort({ listen: true }).parse(text, '--listen');
  if (/^(127(\.\d+){3}|::1|localhost)$/.test(listen.host)) return listen;
  throw invalidArgument(
    `--listen: ${text} is not on loopback, and the page has the rights of your certificate`,
    'Give 127.0.0.1:PORT and forward the port (ssh -L), or let a controller serve the page: weft controller --ui HOST:PORT.',
  );
}

/** Settles with Ctrl-C or SIGTERM. */
const ended = (): Promise<void> =>
  new Promise((resolve) => {
    onInterrupt(resolve);
    for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.once(signal, resolve);
  });

/**
 * Opens the link where there is a desktop. The browser gets a file that leads to the link: everybody sees the words that a
 * program is started with.
 * @returns what takes the file away
 */
function openBrowser(url: string): () => void {
  if (process.env['DISPLAY'] === undefined && process.env['WAYLAND_DISPLAY'] === undefined)
    return () => undefined;
  const folder = mkdtempSync(join(tmpdir(), 'weft-ui-'));
  const file = join(folder, 'open.html');
  writeFileSync(file, `<!doctype html><meta http-equiv="refresh" content="0;url=${url}">\n`, { mode: 0o600 });
  // Without a browser there is the link.
  spawn('xdg-open', [file], { stdio: 'ignore', detached: true })
    .once('error', () => undefined)
    .unref();
  return () => rmSync(folder, { recursive: true, force: true });
}
