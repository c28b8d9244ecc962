// Real etcd servers for tests.
//
// On loopback, on ports of their own, with data in a temporary folder; they end with the test process, however that ends.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Etcd3 } from 'etcd3';

import { freePort } from '../lab/free-port.js';

export interface ServerTls {
  ca: string;
  cert: string;
  key: string;
}

export interface TestEtcd {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** The server's data; a copy made while the server is stopped can be passed to start(). */
  readonly dataDir: string;
  /** A plain client to read and write directly; not with TLS. */
  readonly raw: Etcd3;
  /** Stops the server and removes its data. */
  stop(): Promise<void>;
  /** Stops the server at once (SIGKILL) or orderly; the data stays. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts the server again on the same port. */
  start(dataDir?: string): Promise<void>;
  restart(): Promise<void>;
  /** SIGSTOP: connections stay, answers do not come. */
  pause(): void;
  resume(): void;
}

const folders = new Set<string>();
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), `weft-${name}-`));
  folders.add(folder);
  return folder;
}

/** @param options.tls paths of the server's files; clients must then show a certificate of the same CA */
export async function startEtcd(options: { tls?: ServerTls; flags?: string[] } = {}): Promise<TestEtcd> {
  const folder = temporaryFolder('etcd');
  const port = await freePort();
  const peer = `http://127.0.0.1:${await freePort()}`;
  const url = `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`;
  const name = `weft-test-${port}`;
  let dataDir = path.join(folder, 'data');
  let child: ChildProcess | undefined;
  const raw = new Etcd3({ hosts: url });

  const start = async (from = dataDir): Promise<void> => {
    dataDir = from;
    const { tls } = options;
    // pdeathsig: a killed test process leaves no server behind.
    const started = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL', 'etcd', '--name', name, '--data-dir', dataDir, '--logger', 'zap'],
        ...['--log-level', 'error', '--listen-client-urls', url, '--advertise-client-urls', url],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        ...['--initial-cluster', `${name}=${peer}`, '--max-txn-ops', '128'],
        ...(tls
          ? [
              '--cert-file',
              tls.cert,
              '--key-file',
              tls.key,
              '--trusted-ca-file',
              tls.ca,
              '--client-cert-auth',
            ]
          : []),
        ...(options.flags ?? []),
      ],
      { stdio: ['ignore', 'ignore', 'ignore'] },
    );
    child = started;
    try {
      // The client connects only then: etcd3 opens its circuit breaker for 5 s after three failures.
      await listening(port, started);
      if (!tls) {
        const served = raw.kv.range({ key: Buffer.from('x') }, { deadline: Date.now() + 10_000 });
        // With authentication it is an answer, too.
        await served.catch((error: unknown) => {
          if (!/user name is empty/.test(String(error))) throw error;
        });
      }
    } catch (error) {
      started.kill('SIGKILL');
      throw error;
    }
  };
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, 'exit');
    running.kill('SIGCONT');
    running.kill(signal);
    await exited;
  };
  await start();
  return {
    url,
    port,
    get pid() {
      return child?.pid ?? 0;
    },
    get dataDir() {
      return dataDir;
    },
    raw,
    start,
    kill,
    stop: async () => {
      raw.close();
      await kill();
      rmSync(folder, { recursive: true, force: true });
      folders.delete(folder);
    },
    restart: async () => {
      await kill('SIGTERM');
      await start();
    },
    pause: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
  };
}

export interface TestCluster {
  urls: string[];
  signal(member: number, signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** Three servers that are one etcd. */
export async function startCluster(): Promise<TestCluster> {
  const folder = temporaryFolder('cluster');
  const ports = await Promise.all(Array.from({ length: 6 }, freePort));
  const urls = ports.slice(0, 3).map((port) => `http://127.0.0.1:${port}`);
  const peers = ports.slice(3).map((port) => `http://127.0.0.1:${port}`);
  const all = peers.map((peer, i) => `m${i}=${peer}`).join(',');
  const children = urls.map((url, i) => {
    const peer = peers[i] ?? '';
    const flags = [
      ...[
        '--name',
        `m${i}`,
        '--data-dir',
        path.join(folder, `${i}`),
        '--logger',
        'zap',
        '--log-level',
        'error',
      ],
      ...['--listen-client-urls', url, '--advertise-client-urls', url, '--initial-cluster', all],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ];
    return spawn('setpriv', ['--pdeathsig', 'KILL', 'etcd', ...flags], { stdio: 'ignore' });
  });
  return {
    urls,
    signal: (member, signal) => void children[member]?.kill(signal),
    stop: async () => {
      await Promise.all(
        children.map(async (child) => {
          const exited = once(child, 'exit');
          child.kill('SIGCONT');
          child.kill('SIGKILL');
          await exited;
        }),
      );
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function listening(port: number, child: ChildProcess): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (child.exitCode !== null) throw new Error(`etcd ended with ${child.exitCode}`);
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return;
    } catch {
      await sleep(50);
    } finally {
      socket.destroy();
    }
  }
  throw new Error('etcd does not listen');
}
