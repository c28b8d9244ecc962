// Runs jobs side by side as the cores allow, shows what they say, runs failed files once more, and reports.

import { nextJob, runAgain, type Job } from './jobs.js';
import { otherNode } from './needs.js';
import { JobProcess, keepOutput, outputFile, type Outcome } from './process.js';
import { NO_SECOND_RUNS, reportLines, seconds, type SecondRuns, type Skipped } from './report.js';

export interface RunOptions {
  checkout: string;
  /** The folder that outputs are kept in. */
  outputs: string;
  cores: number;
  /** A failed file runs once more where its lane allows it. */
  again: boolean;
  /** Lanes that were asked for and have no jobs here. */
  notRun: readonly Skipped[];
  /** Jobs that become possible during the run. */
  late?: Promise<LateJobs>;
  print: (line: string) => void;
  /** Shows a line that the next one replaces; where there is a terminal. */
  status?: (line: string) => void;
}

/** What a preparation that ran beside the first jobs has made possible, and what it has not. */
export interface LateJobs {
  jobs: readonly Job[];
  notRun: readonly Skipped[];
}

export class LaneRun {
  readonly #queue: Job[];
  readonly #notRun: Skipped[];
  readonly #running = new Set<JobProcess>();
  /** The output of a single job needs no buffer. */
  readonly #single: boolean;
  readonly #began = performance.now();
  #cut: { jobs: readonly JobProcess[]; ended: Promise<unknown> } | undefined;

  constructor(
    jobs: readonly Job[],
    readonly options: RunOptions,
  ) {
    this.#queue = [...jobs];
    this.#notRun = [...options.notRun];
    this.#single = jobs.length === 1 && options.late === undefined;
  }

  /** Answers whether all is well: something passed, and nothing failed. False, too, once it was cut off. */
  async all(): Promise<boolean> {
    const { status, print, again } = this.options;
    const ticks = status === undefined ? undefined : setInterval(() => status(this.#statusLine()), 1000);
    try {
      const first = await this.#runQueue();
      const second = again && this.#cut === undefined ? await this.#runAgain(first) : NO_SECOND_RUNS;
      if (this.#cut !== undefined) {
        await this.#cut.ended;
        return false;
      }
      const outcomes = first.map((outcome) => second.outcomes.get(outcome.job) ?? outcome);
      for (const line of reportLines({
        first,
        second,
        notRun: this.#notRun,
        took: performance.now() - this.#began,
      }))
        print(line);
      return (
        outcomes.some(({ job, result }) => result.passed > 0 || job.command !== undefined) &&
        outcomes.every(({ result }) => result.failures.length === 0)
      );
    } finally {
      clearInterval(ticks);
    }
  }

  /** Ends what runs: first so that it can clean up, the second time at once. Answers when nothing runs any more. */
  async cutOff(): Promise<void> {
    if (this.#cut === undefined) {
      // ava may end before its test files do.
      const jobs = [...this.#running];
      this.#cut = { jobs, ended: Promise.all(jobs.map((one) => one.end())) };
    } else for (const one of this.#cut.jobs) one.kill();
    await this.#cut.ended;
  }

  async #runQueue(): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    const waiting = new Map<Job, Promise<Outcome>>();
    let { late } = this.options;
    while (this.#cut === undefined && (this.#queue.length > 0 || waiting.size > 0 || late !== undefined)) {
      const job = nextJob(this.#queue, [...waiting.keys()], this.options.cores);
      if (job === undefined) {
        const next = await Promise.race([...waiting.values(), ...(late === undefined ? [] : [late])]);
        if ('jobs' in next) {
          late = undefined;
          this.#queue.unshift(...next.jobs);
          this.#notRun.push(...next.notRun);
          continue;
        }
        waiting.delete(next.job);
        outcomes.push(next);
      } else {
        this.#queue.splice(this.#queue.indexOf(job), 1);
        waiting.set(job, this.#run(job, job.name));
      }
    }
    return outcomes;
  }

  async #runAgain(first: readonly Outcome[]): Promise<SecondRuns> {
    const outcomes = new Map<Job, Outcome>();
    for (const job of runAgain(first)) {
      if (this.#cut !== undefined) break;
      this.options.print(`\n${job.name} failed; it runs once more, alone.`);
      outcomes.set(job, await this.#run(job, `${job.name}-again`));
    }
    return {
      outcomes,
      outputs: ({ name }) => [name, `${name}-again`].map((one) => outputFile(this.options.outputs, one)),
    };
  }

  /** @param name of its output */
  async #run(job: Job, name: string): Promise<Outcome> {
    const { checkout, print } = this.options;
    if (!this.#single) print(`▶ ${name}`);
    const started = new JobProcess(job, {
      checkout,
      node: job.lane.node === undefined ? process.execPath : otherNode(checkout, job.lane.node),
      ...(this.#single ? { onOutput: (text: string) => void process.stdout.write(text) } : {}),
    });
    this.#running.add(started);
    const outcome = await started.outcome;
    this.#running.delete(started);
    keepOutput(this.options.outputs, name, outcome.output);
    if (!this.#single)
      print(`\n${this.#heading(outcome, name)}\n${outcome.output.replace(/^\n+|\s+$/g, '')}\n`);
    return outcome;
  }

  #heading({ job, result, began, ended }: Outcome, name: string): string {
    const failed = result.failures.length === 0 ? [] : [`${result.failures.length} failed`];
    const passed = job.command === undefined ? [`${result.passed} passed`] : [];
    const cut = this.#cut === undefined ? [] : ['cut off'];
    return `── ${name}: ${[...passed, ...failed, ...cut, seconds(ended - began)].join(', ')}`;
  }

  #statusLine(): string {
    const running = [...this.#running].map(({ job, count, began }) => {
      const failed = count.failed > 0 ? ` ${count.failed}✘` : '';
      return `${job.name} ${count.passed}✔${failed} ${seconds(performance.now() - began)}`;
    });
    return [...running, ...(this.#queue.length > 0 ? [`${this.#queue.length} waiting`] : [])].join(' · ');
  }
}
