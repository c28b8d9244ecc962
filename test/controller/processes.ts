// Child processes of tests; they end with the test, whatever happens.
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const CONTROLLER = fileURLToPath(new URL('../../controller/main.js', import.meta.url));

export class TestProcess {
  output = '';
  readonly ended: Promise<number | string>;

  constructor(readonly child: ChildProcess) {
    child.stdout?.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    this.ended = new Promise((resolve) => {
      child.once('close', (code, signal) => resolve(code ?? signal ?? ''));
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.kill('SIGTERM');
    const kill = setTimeout(() => this.kill('SIGKILL'), 8000);
    await this.ended;
    clearTimeout(kill);
  }
}

/** `weft controller`, with an environment of its own; in plain text, unless its environment says otherwise. */
export function startController(argv: readonly string[], env: Record<string, string> = {}): TestProcess {
  const script = `import { main } from '${CONTROLLER}'; await main(process.argv.slice(1));`;
  return new TestProcess(
    spawn(process.execPath, ['--input-type=module', '-e', script, '--', ...argv], {
      env: { PATH: process.env['PATH'] ?? '', WEFT_INSECURE: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

/** Whether the process exists and is no zombie. */
export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
