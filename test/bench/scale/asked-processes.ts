// The bench's side: processes that connect to a unix socket, and are asked there.
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

import type { LabProcess } from '../../lab/process.js';
import { until } from '../../lab/wait.js';
import type { Answer, Request } from './messages.js';

const CONNECTED_WITHIN_MS = 60_000;

class Connection {
  readonly #waiting: ((answer: Answer) => void)[] = [];

  constructor(private readonly socket: Socket) {}

  answered(answer: Answer): void {
    this.#waiting.shift()?.(answer);
  }

  closed(): void {
    for (const settle of this.#waiting.splice(0)) settle({ error: 'the process has ended' });
  }

  ask(request: Request): Promise<Answer> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.socket.write(`${JSON.stringify(request)}\n`);
    });
  }
}

export class AskedProcesses {
  readonly #server: Server;
  readonly #connections = new Map<string, Connection>();

  /** @param path of the socket, which is made */
  constructor(readonly path: string) {
    this.#server = createServer((socket) => this.#accept(socket)).listen(path);
    this.#server.unref();
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => connection.closed());
    let isNamed = false;
    createInterface({ input: socket }).on('line', (line) => {
      if (isNamed) return connection.answered(JSON.parse(line) as Answer);
      isNamed = true;
      this.#connections.set((JSON.parse(line) as { name: string }).name, connection);
    });
  }

  /** Settles when the process has connected. */
  async connected(started: LabProcess, name: string): Promise<void> {
    await until(
      `${name} connects`,
      () => {
        if (!started.isRunning) throw new Error(`it has ended: ${started.tail()}`);
        return this.#connections.has(name);
      },
      { timeoutMs: CONNECTED_WITHIN_MS },
    );
  }

  /** @throws Error with what the process could not do */
  async ask(name: string, request: Request): Promise<Answer> {
    const connection = this.#connections.get(name);
    if (connection === undefined) throw new Error(`${name} has not connected`);
    const answer = await connection.ask(request);
    if (answer.error !== undefined) throw new Error(`${name}: ${request.do}: ${answer.error}`);
    return answer;
  }

  close(): void {
    this.#server.close();
  }
}
