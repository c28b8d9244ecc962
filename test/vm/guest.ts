// The program in a virtual machine that runs a test's commands.
//
// Several at once; each answer has the whole output. Started once, because in an emulator a Node process takes seconds to load
// weft.
import { fork, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readdirSync, read, writeFileSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { messageOf } from '../../core/errors.js';
import {
  lines,
  type Done,
  type FromGuest,
  type RunCall,
  type SignalCall,
  type StartCall,
  type ToGuest,
  type WeftCall,
} from './protocol.js';

// Both ways over one descriptor: the kernel lets a port be opened only once.
const port = openSync(`/dev/${readdirSync('/dev').find((name) => /^vport\d+p1$/.test(name))}`, 'r+');
const children = new Map<number, ChildProcess>();

function say(message: FromGuest): void {
  const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
  // The port takes at most 32 KiB at a time.
  for (let at = 0; at < bytes.length;) at += writeSync(port, bytes, at);
}

const statusOf = (code: number | null, signal: NodeJS.Signals | null): number =>
  code ?? (signal === 'SIGKILL' ? 137 : signal === 'SIGINT' ? 130 : 143);

function run({ id, argv, env, input, cwd }: RunCall): void {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, detached: true });
  children.set(id, child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => undefined).end(input);
  child.on('error', (error) => say({ kind: 'failed', id, message: error.message }));
  child.on('close', (code, signal) => {
    children.delete(id);
    say({ kind: 'done', id, code: statusOf(code, signal), stdout, stderr });
  });
}

function start({ id, argv, env, cwd, logFile }: StartCall): void {
  const [program = '', ...args] = argv;
  const log = openSync(logFile, 'a');
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, ...env },
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  children.set(id, child);
  child.on('error', (error) => say({ kind: 'failed', id, message: error.message }));
  child.on('exit', (code, signal) => {
    children.delete(id);
    say({ kind: 'done', id, code: statusOf(code, signal), stdout: '', stderr: '' });
  });
  if (child.pid !== undefined) say({ kind: 'started', id, pid: child.pid });
}

function signal({ id, of, signal }: SignalCall): void {
  const pid = children.get(of)?.pid;
  if (pid !== undefined) process.kill(-pid, signal);
  say({ kind: 'done', id, code: pid === undefined ? 1 : 0, stdout: '', stderr: '' });
}

let commandLine: ChildProcess | undefined;
const asked = new Set<number>();

/** One process for all commands, replaced when it ends. */
function warm(): ChildProcess {
  if (commandLine !== undefined) return commandLine;
  const child = fork(fileURLToPath(new URL('command-line.js', import.meta.url)), { stdio: 'inherit' });
  commandLine = child;
  child.on('message', (done: Done) => {
    asked.delete(done.id);
    say(done);
  });
  child.on('exit', (code, ended) => {
    commandLine = undefined;
    for (const id of asked)
      say({ kind: 'failed', id, message: `the command line ended (${statusOf(code, ended)})` });
    asked.clear();
  });
  return child;
}

function weft(call: WeftCall): void {
  asked.add(call.id);
  warm().send(call);
}

function obey(call: ToGuest): void {
  switch (call.kind) {
    case 'run':
      return run(call);
    case 'weft':
      return weft(call);
    case 'start':
      return start(call);
    case 'signal':
      return signal(call);
  }
}

const take = lines((line) => {
  const call = JSON.parse(line) as ToGuest;
  try {
    obey(call);
  } catch (error) {
    say({ kind: 'failed', id: call.id, message: messageOf(error) });
  }
});

const buffer = Buffer.alloc(65_536);
function listen(): void {
  read(port, buffer, 0, buffer.length, null, (error, length) => {
    // The test has ended: a machine without its test has no purpose.
    if (error !== null || length === 0) {
      writeFileSync('/proc/sysrq-trigger', 'o');
      return;
    }
    take(buffer.subarray(0, length));
    listen();
  });
}

listen();
warm();
say({ kind: 'ready' });
