// Measures traffic between two containers while a fault is injected.
//
// Pings lost, the longest outage, whether a TCP stream survives, and whether new connections are made. The measuring itself runs
// inside the containers (meter-end.ts).
import { createConnection } from 'node:net';
import { join } from 'node:path';

import { CHECKOUT, type Namespace } from './lab.js';
import { monotonic, type MeterReport } from './meter-end.js';
import type { LabProcess } from './process.js';
import { until } from './wait.js';

export { monotonic, type MeterReport };

const PROGRAM = join(CHECKOUT, 'build/test/lab/meter-end.js');
let port = 30_000;

export class Meter {
  private constructor(
    private readonly path: string,
    private readonly ends: readonly LabProcess[],
  ) {}

  /** Starts both ends and waits until traffic flows. @param ip of the container `to` */
  static async start(from: Namespace, to: Namespace, ip: string): Promise<Meter> {
    port += 1;
    const server = to.spawn(`meter-${port}`, [process.execPath, PROGRAM, 'serve', ip, `${port}`]);
    await until('the meter listens', () => server.log().includes('listening'), {
      context: () => server.tail(),
    });
    const path = join(from.lab.folder, `meter-${port}.sock`);
    const client = from.spawn(`meter-${port}`, [process.execPath, PROGRAM, 'measure', path, ip, `${port}`]);
    const meter = new Meter(path, [server, client]);
    const began = monotonic();
    await until(
      'traffic flows',
      async () => {
        const { answered, stream, connections } = await meter.report(began);
        return answered > 10 && stream.echoed > 10 && connections.made > 1;
      },
      { context: () => client.tail() },
    );
    return meter;
  }

  /** The results of everything sent from then on. */
  report(from: number): Promise<MeterReport> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(this.path);
      let text = '';
      socket.on('error', reject);
      socket.on('data', (data) => (text += data.toString()));
      socket.on('end', () => resolve(JSON.parse(text) as MeterReport));
      socket.write(JSON.stringify({ from }));
    });
  }

  /** As `report`, once every ping sent until now is answered or lost. */
  settled(from: number): Promise<MeterReport> {
    const known = async (): Promise<MeterReport | undefined> => {
      const report = await this.report(from);
      return report.open === 0 ? report : undefined;
    };
    return until('the pings are counted', known, { everyMs: 20 });
  }

  async stop(): Promise<void> {
    for (const end of this.ends) await end.kill();
  }
}
