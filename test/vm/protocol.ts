// Messages between a test and the program in its virtual machine.
//
// One JSON value a line, over a virtio serial port. The port needs no network, so that tests have all interfaces of the machine
// for themselves.

export interface Call {
  id: number;
  /** The working directory: the caller's path among the host's files. */
  cwd: string;
}

/** Runs a program to its end. */
export interface RunCall extends Call {
  kind: 'run';
  argv: readonly string[];
  env: Record<string, string>;
  input: string;
}

/** Runs one command of weft in a process that has its code loaded: loading takes seconds in an emulator. */
export interface WeftCall extends Call {
  kind: 'weft';
  args: readonly string[];
  env: Record<string, string>;
}

/** Starts a long-running program; its output goes to a file. */
export interface StartCall extends Call {
  kind: 'start';
  argv: readonly string[];
  env: Record<string, string>;
  logFile: string;
}

/** Sends a signal to a process group of `run` or `start`. */
export interface SignalCall extends Call {
  kind: 'signal';
  /** The call that started it. */
  of: number;
  signal: NodeJS.Signals;
}

export type ToGuest = RunCall | WeftCall | StartCall | SignalCall;

export interface Done {
  kind: 'done';
  id: number;
  code: number;
  stdout: string;
  stderr: string;
}

export type FromGuest =
  | { kind: 'ready' }
  | { kind: 'started'; id: number; pid: number }
  | Done
  /** The call could not be made at all. */
  | { kind: 'failed'; id: number; message: string };

/** Cuts a stream into lines. */
export function lines(each: (line: string) => void): (chunk: Buffer) => void {
  let rest: Buffer[] = [];
  return (chunk) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      rest.push(chunk.subarray(from, at));
      const line = Buffer.concat(rest).toString('utf8');
      rest = [];
      from = at + 1;
      if (line !== '') each(line);
    }
    // The buffer is reused by the next read and must not be kept.
    if (from < chunk.length) rest.push(Buffer.from(chunk.subarray(from)));
  };
}
