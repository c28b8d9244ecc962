// Frames captured by tcpdump on the tap of a virtual machine.
//
// With the link layer, so that a tag is what was really sent.
import type { Namespace } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { until } from '../lab/wait.js';

let count = 0;

export class Capture {
  private constructor(readonly process: LabProcess) {}

  /** @param filter in pcap's syntax; terms after `vlan` match inside the tag */
  static async start(segment: Namespace, tap: string, filter: string): Promise<Capture> {
    const started = segment.spawn(`capture-${tap}-${++count}`, [
      ...['tcpdump', '--immediate-mode', '-l', '-e', '-n', '-p', '-i', tap],
      ...(filter === '' ? [] : [filter]),
    ]);
    await until(`tcpdump listens on ${tap}`, () => started.log().includes('listening on'), {
      context: () => started.tail(),
    });
    return new Capture(started);
  }

  /** One line for each frame so far: `12:00:00.0 52:54:… > 52:54:…, ethertype 802.1Q (0x8100), length …: vlan 100, …`. */
  frames(): string[] {
    return this.process
      .log()
      .split('\n')
      .filter((line) => line.includes('ethertype'));
  }

  /** Waits for a frame: tcpdump may be behind what a test has seen to arrive. */
  async sees(frame: RegExp): Promise<void> {
    await until(`tcpdump shows ${frame.source}`, () => this.frames().some((line) => frame.test(line)), {
      context: () => this.process.tail(),
    });
  }

  /** Ends the capture and returns what it has shown. */
  async stop(): Promise<string[]> {
    await this.process.stop();
    return this.frames();
  }
}
