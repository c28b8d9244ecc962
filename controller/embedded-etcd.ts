// The embedded etcd: started, supervised, restarted, and ended with the controller.
//
// It ends with the controller also where the controller is killed.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, mkdir } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

import { Backoff } from '../core/backoff.js';
import { withDeadline } from '../core/deadline.js';
import { failedPrecondition, messageOf } from '../core/errors.js';
import type { EtcdTlsPaths } from '../daemon/tls.js';
import { errnoOf } from '../daemon/errno.js';
import type { Logger } from '../daemon/log.js';
import { byWhom } from '../daemon/port-owner.js';
import { etcdAddresses, etcdArguments, etcdEnvironment, findProgram, searchPath } from './etcd-command.js';
import { EtcdFront, type EtcdPorts } from './etcd-front.js';

export interface EmbeddedEtcd {
  /** For clients on this host. */
  readonly url: string;
  readonly pid: number | undefined;
  /** How often it was restarted. */
  readonly restarts: number;
  /** Ends it and starts it again with these. Settles when it serves again, or has not for too long. */
  reconfigure(how: EtcdServing): Promise<void>;
  stop(): Promise<void>;
}

/** Where and how it serves. */
export interface EtcdServing {
  /** --etcd-listen. */
  listen: string;
  tls: EtcdTlsPaths;
  /** Plain text at the same address, too. */
  plainToo?: boolean;
  /** Common name of the only certificate that counts at the peer address; absent: any of the CA. */
  peerName?: string;
}

export interface EmbeddedEtcdOptions extends EtcdServing {
  stateDir: string;
  log: Logger;
}

/** How long a predecessor that is ending may still hold the address. */
const PREDECESSOR_MS = 5000;
const START_WITHIN_MS = 20_000;
const STARTS = 3;
const KILL_AFTER_MS = 3000;
const BACKOFF = { firstMs: 200, lastMs: 10_000 } as const;
/** After this long in service the restart delay begins anew. */
const HEALTHY_AFTER_MS = 60_000;

/** @throws WeftError FAILED_PRECONDITION where etcd is not installed, does not start, or its address is taken */
export async function startEmbeddedEtcd(options: EmbeddedEtcdOptions): Promise<EmbeddedEtcd> {
  const path = searchPath();
  const program = await findProgram('etcd', 'etcd-server', path);
  const setpriv = await findProgram('setpriv', 'util-linux', path);
  const dataDir = join(options.stateDir, 'etcd');
  await makePrivate(dataDir);
  const supervisor = new Supervisor({
    log: options.log,
    serving: options,
    launch: async ({ listen, plainToo = false, ...serving }) => {
      const addresses = etcdAddresses(listen, hostname());
      const behindFront = plainToo ? { tls: await freePort(), plain: await freePort() } : undefined;
      const child = spawn(
        setpriv,
        // The kernel ends etcd with us, also where we are killed and cannot (prctl(2), PR_SET_PDEATHSIG).
        [
          '--pdeathsig',
          'TERM',
          '--',
          program,
          ...etcdArguments({ ...serving, dataDir, addresses, peerPort: await freePort(), behindFront }),
        ],
        // A session of its own: Ctrl-C in a terminal goes to the controller alone, which stops etcd last.
        { env: etcdEnvironment(path), stdio: ['ignore', 'ignore', 'pipe'], detached: true },
      );
      if (behindFront !== undefined) void leadTo(child, addresses.listen, behindFront, options.log);
      return child;
    },
  });
  await supervisor.start();
  return supervisor;
}

/** While this etcd runs, its address leads to its two ports. */
async function leadTo(child: ChildProcess, listen: string, ports: EtcdPorts, log: Logger): Promise<void> {
  const ended = new AbortController();
  const front = new EtcdFront(ports);
  child.once('exit', () => {
    ended.abort();
    front.close();
  });
  // Clients see the address when etcd serves, and no sooner.
  await answers(`https://127.0.0.1:${ports.tls}`, ended.signal);
  if (ended.signal.aborted) return;
  try {
    await front.listen(listen);
  } catch (error) {
    log.error('the embedded etcd’s address cannot be listened on', { listen, why: messageOf(error) });
    child.kill('SIGTERM');
  }
}

/** One life of the process. */
interface Run {
  readonly child: ChildProcess;
  /** Settles with how it ended. */
  readonly ended: Promise<string>;
}

class Supervisor implements EmbeddedEtcd {
  restarts = 0;
  readonly #log: Logger;
  readonly #launch: (serving: EtcdServing) => Promise<ChildProcess>;
  #serving: EtcdServing;
  readonly #stopping = new AbortController();
  #run: Run | undefined;
  /** Its next end is meant. */
  #isPlanned = false;
  #watching: Promise<void> = Promise.resolve();
  /** The last error line of etcd: the reason, when it ends. */
  #lastWords = '';

  constructor(options: {
    log: Logger;
    serving: EtcdServing;
    launch: (serving: EtcdServing) => Promise<ChildProcess>;
  }) {
    this.#log = options.log;
    this.#serving = options.serving;
    this.#launch = options.launch;
  }

  get url(): string {
    return etcdAddresses(this.#serving.listen, hostname()).client;
  }

  async reconfigure(how: EtcdServing): Promise<void> {
    this.#serving = how;
    this.#isPlanned = true;
    const before = this.#run;
    before?.child.kill('SIGTERM');
    await before?.ended;
    await withDeadline(this.#stopping.signal, START_WITHIN_MS, (signal) => answers(this.url, signal));
  }

  get pid(): number | undefined {
    return this.#run?.child.pid;
  }

  async start(): Promise<void> {
    await waitUntilFree(etcdAddresses(this.#serving.listen, hostname()).listen);
    for (let attempt = 1; ; attempt++) {
      const run = await this.#spawn();
      const outcome = await this.#outcomeOf(run);
      if (outcome === undefined) {
        this.#log.info('the embedded etcd runs', { url: this.url, pid: this.pid });
        this.#watching = this.#watch(run);
        return;
      }
      // The peer port was free when it was chosen, and may have been taken since.
      if (attempt < STARTS && /address already in use/.test(this.#lastWords)) continue;
      await this.stop();
      throw failedPrecondition(
        `the embedded etcd did not start: ${outcome}${this.#lastWords === '' ? '' : `: ${this.#lastWords}`}`,
        'See that --state-dir can be written and was not made by a newer etcd, or name another etcd with --etcd.',
      );
    }
  }

  /** Why it does not serve; undefined where it does. */
  async #outcomeOf(run: Run): Promise<string | undefined> {
    const answering = new AbortController();
    const outcome = await Promise.race([
      run.ended,
      answers(this.url, answering.signal).then(() => undefined),
      delay(START_WITHIN_MS, `it did not answer within ${START_WITHIN_MS / 1000} s`, {
        signal: answering.signal,
      }),
    ]);
    answering.abort();
    return outcome;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#end();
    await this.#watching;
    // A start that was under way when the stop came.
    await this.#end();
  }

  async #end(): Promise<void> {
    if (this.#run === undefined) return;
    const { child, ended } = this.#run;
    child.kill('SIGTERM');
    const kill = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    await ended;
    clearTimeout(kill);
  }

  async #watch(first: Run): Promise<void> {
    const { signal } = this.#stopping;
    let run: Run | undefined = first;
    const backoff = new Backoff(BACKOFF);
    while (!signal.aborted) {
      const since = Date.now();
      const how: string = run === undefined ? 'it could not be started' : await run.ended;
      if (signal.aborted) return;
      if (Date.now() - since > HEALTHY_AFTER_MS) backoff.reset();
      if (this.#isPlanned) this.#log.info('the embedded etcd is started again with other certificates');
      else {
        const pauseMs = backoff.next();
        this.#log.warn('the embedded etcd has ended and is started again', {
          how,
          said: this.#lastWords,
          inMs: pauseMs,
        });
        await delay(pauseMs, undefined, { signal }).catch(() => undefined);
      }
      this.#isPlanned = false;
      run = await this.#again(signal);
    }
  }

  async #again(signal: AbortSignal): Promise<Run | undefined> {
    try {
      await waitUntilFree(etcdAddresses(this.#serving.listen, hostname()).listen, signal);
      if (signal.aborted) return undefined;
      const run = await this.#spawn();
      this.restarts += 1;
      return run;
    } catch (error) {
      this.#lastWords = messageOf(error);
      return undefined;
    }
  }

  async #spawn(): Promise<Run> {
    const child = await this.#launch(this.#serving);
    this.#lastWords = '';
    if (child.stderr !== null)
      createInterface({ input: child.stderr }).on('line', (line) => this.#hear(line));
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) =>
        resolve(signal === null ? `exit code ${code}` : `killed by ${signal}`),
      );
    });
    this.#run = { child, ended };
    return this.#run;
  }

  // One JSON object a line. Other lines (a panic, a usage text) are kept as they are.
  #hear(line: string): void {
    const { level, text } = parseLogLine(line);
    if (text === '') return;
    this.#lastWords = text.slice(0, 500);
    if (level === 'warn') this.#log.debug('etcd says', { said: this.#lastWords });
    else this.#log.warn('etcd says', { said: this.#lastWords });
  }
}

function parseLogLine(line: string): { level: string; text: string } {
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed === 'object' && parsed !== null && 'msg' in parsed && 'level' in parsed) {
      const error = 'error' in parsed ? `: ${String(parsed.error)}` : '';
      return { level: String(parsed.level), text: `${String(parsed.msg)}${error}` };
    }
  } catch {
    // Not JSON.
  }
  return { level: 'error', text: line.trim() };
}

/** etcd refuses a data directory that others can read. */
async function makePrivate(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(folder, 0o700);
  } catch (error) {
    throw failedPrecondition(
      `--state-dir: ${folder} cannot be made: ${messageOf(error)}`,
      'Choose a folder that can be written, with --state-dir.',
      { cause: error },
    );
  }
}

/** @throws WeftError FAILED_PRECONDITION that names the owner of the address */
async function waitUntilFree(url: string, signal?: AbortSignal): Promise<void> {
  const { hostname: name, port } = new URL(url);
  const host = name.replaceAll(/[[\]]/g, '');
  const until = Date.now() + PREDECESSOR_MS;
  for (;;) {
    const error = await tryListen(host, Number(port));
    if (error === undefined || signal?.aborted === true) return;
    if (errnoOf(error) !== 'EADDRINUSE') {
      throw failedPrecondition(
        `--etcd-listen: ${url} cannot be listened on: ${messageOf(error)}`,
        'Choose an address of this host with --etcd-listen.',
        { cause: error },
      );
    }
    if (Date.now() > until) {
      throw failedPrecondition(
        `--etcd-listen: ${url} is already in use${await byWhom(host, Number(port))}`,
        'End it, choose another address with --etcd-listen, or use that etcd with --etcd.',
        { cause: error },
      );
    }
    await delay(200, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}

function tryListen(host: string, port: number): Promise<Error | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

/** A free port on loopback. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port: 0 }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** Settles when something accepts connections there, or the signal ends the wait. */
async function answers(url: string, signal: AbortSignal): Promise<void> {
  const { hostname: name, port } = new URL(url);
  while (!signal.aborted) {
    const accepted = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: name.replaceAll(/[[\]]/g, ''), port: Number(port) });
      const done = (result: boolean) => (): void => {
        socket.destroy();
        resolve(result);
      };
      socket.once('connect', done(true)).once('error', done(false));
    });
    if (accepted) return;
    await delay(50, undefined, { signal }).catch(() => undefined);
  }
}
