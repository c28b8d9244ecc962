// Frame of the fault suite.
//
// A lane is one cluster on hosts of its own. Each of its lines does one thing to it while a meter sends traffic between
// containers of two hosts, and states what must hold. The result is a row of the table.
//
// WEFT_FAULTS=full: waits as long as the requirement says, instead of the short form. WEFT_FAULTS_TABLE: a file to which the
// rows are also written, as JSON lines; `npm run test:faults` prints them all at the end.
import { appendFileSync } from 'node:fs';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../../lab/cluster.js';
import { shareAmongTests } from '../../lab/fresh.js';
import { Meter, monotonic, type MeterReport } from '../../lab/meter.js';
import type { WaitOptions } from '../../lab/wait.js';
import { showTable, type Row } from './table.js';

export const FULL = process.env['WEFT_FAULTS'] === 'full';

/** The cluster of a lane and its traffic. */
export interface Site {
  cluster: Cluster;
  /** Measures the traffic between the two. */
  meter: Meter;
  a: EndpointJson;
  b: EndpointJson;
}

/** One run of one line. */
export class Fault {
  /** When the fault began. */
  began = monotonic();
  /** When it was over; the time limits of repairs count from here. */
  #over: number | undefined;
  #seconds: number | undefined;
  readonly checked: string[] = [];

  constructor(
    readonly t: ExecutionContext,
    readonly site: Site,
  ) {}

  get cluster(): Cluster {
    return this.site.cluster;
  }

  get meter(): Meter {
    return this.site.meter;
  }

  get seconds(): number | undefined {
    return this.#seconds;
  }

  /** The long form's value or the short one's. */
  pick<T>(short: T, full: T): T {
    return FULL ? full : short;
  }

  /** Marks the begin of the fault; by default the begin of the line. */
  begins(): void {
    this.began = monotonic();
  }

  /** Marks the end of the fault; by default it ends at once. */
  ends(): void {
    this.#over = monotonic();
  }

  check(holds: boolean, what: string): void {
    this.t.true(holds, what);
    this.checked.push(what);
  }

  same<T>(actual: T, expected: T, what: string): void {
    this.t.deepEqual(actual, expected, what);
    this.checked.push(what);
  }

  /**
   * Waits until `look` holds, at most so many seconds after the fault's end; the time counts as seconds to right.
   * @param options.from instead of the fault's end, in milliseconds of `monotonic`
   */
  async within<T>(
    bar: number,
    what: string,
    probe: () => T | undefined | false | Promise<T | undefined | false>,
    { from = this.#over ?? this.began, ...options }: WaitOptions & { from?: number } = {},
  ): Promise<T> {
    // The successful look counts from its begin, so that the time to start an `ip` is not included.
    let looked = from;
    const look = (): ReturnType<typeof probe> => {
      looked = monotonic();
      return probe();
    };
    // Waits longer than is allowed, so that a miss is reported with its figure.
    const result = await this.cluster.until(what, look, {
      everyMs: 10,
      timeoutMs: bar * 1000 + 20_000,
      ...options,
    });
    const seconds = (looked - from) / 1000;
    this.#took(seconds);
    this.t.true(seconds <= bar, `${what}: ${seconds.toFixed(2)} s, and ${bar} s are allowed`);
    this.checked.push(what);
    return result;
  }

  #took(seconds: number): void {
    this.#seconds = Math.max(this.#seconds ?? 0, seconds);
  }

  /** Pings and new connections pass again within so many seconds of the fault's end. */
  async flowsWithin(bar: number): Promise<MeterReport> {
    const from = this.#over ?? this.began;
    await this.cluster.until('traffic flows again', async () => {
      const { firstAnswered, connections, open } = await this.meter.report(Math.max(from, monotonic() - 300));
      return firstAnswered !== undefined && connections.firstMade !== undefined && open === 0;
    });
    const report = await this.meter.settled(from);
    // The last lost ping, and the first connection made after it.
    const seconds = Math.max(report.outageMs, (report.connections.firstMade ?? Infinity) - from) / 1000;
    this.#took(seconds);
    this.t.true(seconds <= bar, `traffic flows again: ${seconds.toFixed(2)} s, and ${bar} s are allowed`);
    this.checked.push('pings, new connections');
    return report;
  }

  /** No ping was lost since the fault began, and the TCP stream lives. */
  async lossless(): Promise<void> {
    const report = await this.meter.settled(this.began);
    this.t.is(
      report.lost,
      0,
      `${report.lost} of ${report.sent} pings were lost, ${report.outageMs.toFixed(0)} ms long`,
    );
    await this.streamLives();
    this.checked.push('nothing lost');
  }

  async streamLives(): Promise<void> {
    const now = monotonic();
    // A TCP connection that was cut backs off between its retransmissions.
    await this.cluster.until(
      'the old TCP stream goes on',
      async () => (await this.meter.report(now)).stream.echoed > 5,
      {
        timeoutMs: 130_000,
      },
    );
    this.t.is((await this.meter.report(now)).stream.broken, undefined);
    this.checked.push('the old TCP stream');
  }
}

export interface SuiteOptions {
  /** Also the table's first column. */
  lane: string;
  build: () => Promise<Site>;
}

export interface RaiseOptions {
  agents?: string[];
  /** Of the agents. */
  flags?: string[];
  /** Containers besides c1 and c2, the ends of the traffic. */
  containers?: string[];
}

export type Declare = (line: string, run: (fault: Fault) => Promise<void>) => void;

/** Makes a lane: its cluster is built before the first line, and anew after a line that failed. Answers what declares a line. */
export function suite({ lane, build }: SuiteOptions): Declare {
  let site: Site | undefined;
  const rows: Row[] = [];
  shareAmongTests(
    test,
    async () => {
      site = await build();
    },
    async () => site?.cluster.lab.down(),
  );
  test.after.always(() => {
    if (rows.length > 0) console.log(showTable(rows));
  });
  return (line, run) => {
    test.serial(line, async (t) => {
      if (site === undefined) throw new Error('the lane was not built');
      const fault = new Fault(t, site);
      const row: Row = { lane, line, ok: false, lost: 0, sent: 0, seconds: undefined, checked: [] };
      try {
        await run(fault);
        await site.meter.settled(monotonic());
        row.ok = t.passed;
      } finally {
        const { sent, lost } = await site.meter.report(fault.began).catch(() => ({ sent: 0, lost: 0 }));
        Object.assign(row, { sent, lost, seconds: fault.seconds, checked: [...new Set(fault.checked)] });
        rows.push(row);
        const file = process.env['WEFT_FAULTS_TABLE'];
        if (file !== undefined) appendFileSync(file, `${JSON.stringify(row)}\n`);
      }
    });
  };
}

/** A cluster with one etcd and one controller, populated. */
export async function raise(
  hosts: number,
  { agents = ['h1', 'h2'], flags = [], containers = [] }: RaiseOptions = {},
): Promise<Site> {
  const cluster = await Cluster.create(hosts);
  await cluster.startEtcd();
  await cluster.startController(['--etcd', ETCD]);
  await cluster.startAgents(agents, flags);
  const site = await populate(cluster);
  await cluster.addContainers(...containers);
  return site;
}

/** Network blue with a container on each of two hosts, which must have agents, and a meter between them. */
export async function populate(cluster: Cluster, from = 'h1', to = 'h2'): Promise<Site> {
  await cluster.addContainers('c1', 'c2');
  await cluster.json(from, 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  const a = await cluster.attach(from, 'blue', 'c1');
  const b = await cluster.attach(to, 'blue', 'c2');
  await cluster.until('they reach each other', () => cluster.reaches('c1', bare(b.ip)));
  const meter = await Meter.start(cluster.place('c1'), cluster.place('c2'), bare(b.ip));
  return { cluster, meter, a, b };
}
