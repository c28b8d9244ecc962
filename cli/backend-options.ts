// Options of a network's backend on the command line.
import { readFileSync } from 'node:fs';

import { Option, type Command } from 'commander';

import { BACKEND_TYPES, ENCRYPTED_BACKEND } from '../core/backends/types.js';
import { invalidArgument, messageOf } from '../core/errors.js';
import { backend } from './checks.js';

/** Adds --backend, --encrypted, --direct-routing and --backend-option. */
export function addBackendOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--backend <backend>', 'what carries an overlay between hosts')
        .choices(BACKEND_TYPES)
        // Also those that weft knows and does not serve: the controller says so.
        .argParser(backend),
    )
    .option('--encrypted', `encrypt what hosts send each other: --backend ${ENCRYPTED_BACKEND}`)
    .option('--direct-routing', 'no tunnel between hosts of one link (vxlan, ipip)')
    .option(
      '--backend-option <key=value>',
      'one of flannel’s words for the backend; @FILE as the value reads a file',
      backendOption,
    );
}

export interface BackendOptions {
  backend?: string;
  encrypted?: boolean;
  directRouting?: boolean;
  backendOption?: Record<string, string>;
}

/** The fields of a request. @throws WeftError INVALID_ARGUMENT */
export function backendRequest({ backend, encrypted, directRouting, backendOption }: BackendOptions): {
  backend: string | undefined;
  directRouting: boolean;
  backendOptions: Record<string, string>;
} {
  if (encrypted === true && backend !== undefined && backend !== ENCRYPTED_BACKEND) {
    throw invalidArgument(
      `encrypted: the backend ${backend} does not encrypt`,
      `Leave --backend out, or give --backend ${ENCRYPTED_BACKEND}.`,
    );
  }
  return {
    backend: encrypted === true ? ENCRYPTED_BACKEND : backend,
    directRouting: directRouting ?? false,
    backendOptions: backendOption ?? {},
  };
}

/** Adds KEY=VALUE to those before. A secret is best read from a file: every user of the host sees a command line. */
function backendOption(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [, key, value] = /^([A-Za-z][A-Za-z0-9]*)=(.+)$/s.exec(text) ?? [];
  if (key === undefined || value === undefined) {
    throw invalidArgument(
      'backend-option: it is not of the form KEY=VALUE',
      'Such as --backend-option PersistentKeepaliveInterval=25.',
    );
  }
  return { ...before, [key]: value.startsWith('@') ? contentOf(value.slice(1)) : value };
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw invalidArgument(
      `backend-option: the file ${path} cannot be read: ${messageOf(error)}`,
      'Give @ and the path of a file with the value.',
    );
  }
}
