// The iptables commands of this host: lookup, reading and writing tables.
//
// There are two variants (iptables-nft, which writes nf_tables, and iptables-legacy), each with tables of its own, and a packet
// passes both.
import { execFile } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import type { Family } from '../../../core/address.js';
import { failedPrecondition, messageOf } from '../../../core/errors.js';

export type Variant = 'nft' | 'legacy';

export interface SavedChain {
  /** Of built-in chains only. */
  policy?: string;
  /** Rules in iptables-save's form, without `-A CHAIN `. */
  rules: string[];
}

/** By chain. */
export type SavedTable = Map<string, SavedChain>;

/** Seconds to wait for the lock that all iptables commands share. */
const LOCK_SECONDS = '5';
const DEADLINE_MS = 20_000;

export class Xtables {
  readonly name: string;
  /** The command that changes a rule, as one types it. */
  readonly command: string;

  constructor(
    readonly family: Family,
    readonly variant: Variant,
    readonly saveCommand: string,
    readonly restoreCommand: string,
  ) {
    this.name = `${baseName(family)} (${variant})`;
    this.command = basename(saveCommand).replace(/-save$/, '');
  }

  /** All tables, or the named one. @throws WeftError FAILED_PRECONDITION */
  async save(table?: string): Promise<Map<string, SavedTable>> {
    return parseSaved(await execute(this.saveCommand, table === undefined ? [] : ['-t', table]));
  }

  /** Runs an iptables-restore script, atomically for each table; tables that it does not name stay. */
  async restore(script: string): Promise<void> {
    await execute(this.restoreCommand, ['-w', LOCK_SECONDS, '--noflush'], script);
  }
}

/** Parses the output of iptables-save. */
export function parseSaved(text: string): Map<string, SavedTable> {
  const tables = new Map<string, SavedTable>();
  let table: SavedTable = new Map();
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      table = new Map();
      tables.set(line.slice(1).trim(), table);
    } else if (line.startsWith(':')) {
      const [name = '', policy = '-'] = line.slice(1).split(' ');
      table.set(name, policy === '-' ? { rules: [] } : { policy, rules: [] });
    } else if (line.startsWith('-A ')) {
      const space = line.indexOf(' ', 3);
      table
        .get(line.slice(3, space === -1 ? undefined : space))
        ?.rules.push(space === -1 ? '' : line.slice(space + 1).trimEnd());
    }
  }
  return tables;
}

function execute(command: string, args: string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { timeout: DEADLINE_MS, maxBuffer: 256 << 20, env: { ...process.env, LC_ALL: 'C' } },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const said = stderr
          .split('\n')
          .filter((line) => line.trim() !== '' && !line.startsWith('#'))
          .slice(0, 2)
          .join('; ');
        reject(
          failedPrecondition(
            `${command}: ${said || messageOf(error)}`,
            `Run \`${[command, ...args].join(' ')}\` by hand to see why it fails.`,
            { cause: error },
          ),
        );
      },
    );
    // A command that ends before it has read everything reports why itself.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}

/** System services often run without the sbin folders in their PATH. */
function findCommand(name: string): string | undefined {
  for (const folder of [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/local/sbin']) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (folder !== '') return path;
    } catch {
      continue;
    }
  }
  return undefined;
}

const baseName = (family: Family): string => (family === 4 ? 'iptables' : 'ip6tables');

/** The commands of one variant, under the plain names where those are this variant, else under its own. */
export async function findXtables(family: Family, variant: Variant): Promise<Xtables | undefined> {
  const plain = await findDefaultXtables(family);
  if (plain?.variant === variant) return plain;
  const base = baseName(family);
  const save = findCommand(`${base}-${variant}-save`);
  const restore = findCommand(`${base}-${variant}-restore`);
  return save === undefined || restore === undefined
    ? undefined
    : new Xtables(family, variant, save, restore);
}

/** The commands that this host uses by default. */
export async function findDefaultXtables(family: Family): Promise<Xtables | undefined> {
  const base = baseName(family);
  const [command, save, restore] = [base, `${base}-save`, `${base}-restore`].map(findCommand);
  if (command === undefined || save === undefined || restore === undefined) return undefined;
  // Before 1.8 there was only the variant now called legacy, and its version did not name it.
  const variant = (await execute(command, ['-V'])).includes('nf_tables') ? 'nft' : 'legacy';
  return new Xtables(family, variant, save, restore);
}

/**
 * The tables of iptables-legacy that are in use in this network namespace. Running iptables-legacy itself would create the tables
 * and load their modules.
 */
export function legacyTables(family: Family): string[] {
  try {
    // Read on the main thread: no other work can move it to another network namespace meanwhile.
    return readFileSync(`/proc/self/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`, 'utf8')
      .split('\n')
      .filter(Boolean);
  } catch {
    return [];
  }
}
