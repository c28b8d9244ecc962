// libnftables, the library behind the `nft` command, called in this process.
//
// A transaction takes half a millisecond where starting `nft` takes sixteen. A context belongs to the network namespace that it
// was created in.
import { readdirSync } from 'node:fs';

import koffi from 'koffi';

import { failedPrecondition, messageOf } from '../../../core/errors.js';
import { RulesetProbe } from './ruleset-probe.js';

/** What nft prints with --json: one object for each table, chain, set or rule (libnftables-json(5)). */
export interface NftObject {
  table?: NftNamed;
  chain?: NftChain;
  set?: NftSet;
  map?: NftMap;
  counter?: NftCounter;
  rule?: NftRule;
  metainfo?: { version?: string };
  [kind: string]: unknown;
}

export interface NftNamed {
  family: string;
  name: string;
  table?: string;
  handle?: number;
  flags?: unknown;
}

export interface NftChain extends NftNamed {
  table: string;
  type?: string;
  hook?: string;
  prio?: number;
  policy?: string;
}

export interface NftSet extends NftNamed {
  table: string;
  type: unknown;
  elem?: unknown[];
  size?: number;
  timeout?: number;
  stmt?: unknown;
}

export interface NftCounter extends NftNamed {
  packets?: number;
}

export interface NftMap extends NftSet {
  /** The types of a map's values. */
  map: unknown;
}

export interface NftRule {
  family: string;
  table: string;
  chain: string;
  handle?: number;
  comment?: string;
  expr?: Record<string, unknown>[];
}

/** NFT_CTX_OUTPUT_JSON (nftables/libnftables.h). */
const OUTPUT_JSON = 1 << 4;
/** NFT_CTX_OUTPUT_TERSE: without the elements of sets. */
const OUTPUT_TERSE = 1 << 11;
/** NFT_CTX_OUTPUT_HANDLE. */
const OUTPUT_HANDLE = 1 << 3;
/** F_SETFD and FD_CLOEXEC (fcntl(2)). */
const F_SETFD = 2;
const FD_CLOEXEC = 1;

function load() {
  const library = koffi.load('libnftables.so.1');
  const libc = koffi.load('libc.so.6');
  const context = koffi.pointer(koffi.opaque());
  return {
    create: library.func('nft_ctx_new', context, ['uint32']),
    free: library.func('nft_ctx_free', 'void', [context]),
    bufferOutput: library.func('nft_ctx_buffer_output', 'int', [context]),
    bufferError: library.func('nft_ctx_buffer_error', 'int', [context]),
    output: library.func('nft_ctx_get_output_buffer', 'str', [context]),
    error: library.func('nft_ctx_get_error_buffer', 'str', [context]),
    setFlags: library.func('nft_ctx_output_set_flags', 'void', [context, 'uint']),
    setDryRun: library.func('nft_ctx_set_dry_run', 'void', [context, 'bool']),
    run: library.func('nft_run_cmd_from_buffer', 'int', [context, 'str']),
    fcntl: libc.func('fcntl', 'int', ['int', 'int', 'int']),
  };
}

let bindings: ReturnType<typeof load> | undefined;

export class Nftables {
  readonly #api: ReturnType<typeof load>;
  readonly #context: unknown;
  readonly #probe = new RulesetProbe();
  #closed = false;

  /** @throws WeftError FAILED_PRECONDITION where the library is not installed */
  constructor() {
    try {
      this.#api = bindings ??= load();
    } catch (error) {
      throw failedPrecondition(
        `nftables: libnftables.so.1 cannot be loaded (${messageOf(error)})`,
        'Install it: apt-get install libnftables1.',
        { cause: error },
      );
    }
    const before = new Set(readdirSync('/proc/self/fd'));
    this.#context = this.#api.create(0);
    // The library opens its netlink socket without close-on-exec; a command started by the agent would inherit it.
    for (const fd of readdirSync('/proc/self/fd')) {
      if (!before.has(fd)) this.#api.fcntl(Number(fd), F_SETFD, FD_CLOEXEC);
    }
    this.#api.bufferOutput(this.#context);
    this.#api.bufferError(this.#context);
  }

  /** Runs all commands as one transaction. @throws WeftError FAILED_PRECONDITION with the library's message */
  run(commands: string): void {
    this.#api.setFlags(this.#context, 0);
    this.#execute(commands);
  }

  /**
   * Validates the commands in the kernel without committing them, on another thread: the kernel waits for an RCU grace period.
   * The library must not be used otherwise until it settles. @throws WeftError FAILED_PRECONDITION
   */
  async check(commands: string): Promise<void> {
    this.#throwIfClosed();
    this.#api.setFlags(this.#context, 0);
    this.#api.setDryRun(this.#context, true);
    try {
      const status = await new Promise<number>((resolve, reject) =>
        this.#api.run.async(this.#context, commands, (error: Error | null, result: number) =>
          error === null ? resolve(result) : reject(error),
        ),
      );
      this.#outputOf(status);
    } finally {
      this.#api.setDryRun(this.#context, false);
    }
  }

  /**
   * Everything in one table, or all but the elements of its sets. A library before 1.1.0 prints the flag of a table that has a single one from freed memory, and so
   * returns nothing, or crashes the process: there such a table cannot be listed.
   * @throws WeftError FAILED_PRECONDITION
   */
  listTable(family: string, name: string, { elements } = { elements: true }): NftObject[] {
    const flags = this.#probe.tableFlags(family, name) ?? 0;
    if (flags !== 0 && !this.#printsFlags()) {
      throw failedPrecondition(
        `nftables: the table ${family} ${name} has flags, and this libnftables cannot list it`,
        'Install libnftables 1.1.0 or newer, or remove the flags.',
      );
    }
    return this.list(`list table ${family} ${name}`, elements ? 0 : OUTPUT_TERSE);
  }

  #printsFlags(): boolean {
    const version = this.list('list counters').find(({ metainfo }) => metainfo !== undefined)?.metainfo
      ?.version;
    const [major = 0, minor = 0] = (version ?? '').split('.').map(Number);
    return major > 1 || (major === 1 && minor >= 1);
  }

  /**
   * The output of a `list …` command that prints no table: for a table use listTable.
   * @throws WeftError FAILED_PRECONDITION, also where the object does not exist
   */
  list(command: string, flags = 0): NftObject[] {
    this.#api.setFlags(this.#context, OUTPUT_JSON | flags);
    const output = this.#execute(command);
    if (output === '') return [];
    // The library's own format; callers check the fields that they read.
    return (JSON.parse(output) as { nftables: NftObject[] }).nftables;
  }

  /** A rule as nft prints it; undefined where there is none of that handle. @throws WeftError FAILED_PRECONDITION */
  ruleText(table: string, chain: string, handle: number): string | undefined {
    this.#api.setFlags(this.#context, OUTPUT_HANDLE);
    const mark = ` # handle ${handle}`;
    const line = this.#execute(`list chain ${table} ${chain}`)
      .split('\n')
      .find((text) => text.endsWith(mark));
    return line?.slice(0, -mark.length).trim();
  }

  #execute(commands: string): string {
    this.#throwIfClosed();
    return this.#outputOf(this.#api.run(this.#context, commands) as number);
  }

  /** A library call on a freed context would crash the process. */
  #throwIfClosed(): void {
    if (this.#closed) throw failedPrecondition('nftables: the firewall is closed');
  }

  #outputOf(status: number): string {
    // Reading a buffer empties it, so both are read every time.
    const output = (this.#api.output(this.#context) as string | null) ?? '';
    const error = (this.#api.error(this.#context) as string | null) ?? '';
    if (status !== 0) {
      const [cause = '', command = ''] = error.trim().split('\n');
      throw failedPrecondition(
        `nftables: ${cause.replace(/^Error: /, '') || 'the commands were refused'}${quote(command)}`,
        'The agent needs CAP_NET_ADMIN and Linux 5.6 or newer with nf_tables; `nft list ruleset` shows the present rules.',
      );
    }
    return output;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#probe.close();
    this.#api.free(this.#context);
  }
}

const quote = (command: string): string =>
  command.trim() === ''
    ? ''
    : ` in "${command.trim().slice(0, 100)}${command.trim().length > 100 ? '…' : ''}"`;
