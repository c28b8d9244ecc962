// What came of a test file or lane, from ava's events and its exit status.

/** As test/lanes/ava.config.js sends them; of its types only those that count here are read. */
export interface AvaEvent {
  type: string;
  title?: string;
  /** From the checkout. */
  file?: string;
  skip?: boolean;
  todo?: boolean;
  /** Tests that a timeout cut off. */
  pending?: string[];
  message?: string;
  /** What an error says, and what was compared; lines. */
  why?: string;
}

export interface Result {
  passed: number;
  /** One for each test, hook or crash: its title, and on further lines its cause. */
  failures: string[];
  skipped: string[];
}

export const NOTHING: Result = { passed: 0, failures: [], skipped: [] };

/** A cause is read where only the end of a run is at hand: enough to know what it was, the rest is in the output. */
const CAUSE_LINES = 15;
const CAUSE_COLUMNS = 200;

function causeLines(why: string): string[] {
  const lines = why.split('\n').filter((line) => line.trim() !== '');
  return [
    ...lines.slice(0, CAUSE_LINES).map((line) => `  ${line.slice(0, CAUSE_COLUMNS)}`),
    ...(lines.length > CAUSE_LINES ? [`  … ${lines.length - CAUSE_LINES} lines more`] : []),
  ];
}

/** Counts events as they come; a run that failed without an event has failed once. */
export class Count {
  #passed = 0;
  readonly #failures: string[] = [];
  readonly #skipped: string[] = [];

  /** @param name what a failure without a title is named after */
  constructor(readonly name: string) {}

  get passed(): number {
    return this.#passed;
  }

  get failed(): number {
    return this.#failures.length;
  }

  add(event: AvaEvent): void {
    const place = event.file ?? this.name;
    const titled = `${place}: ${event.title ?? event.message ?? event.type}`;
    switch (event.type) {
      case 'test-passed':
        this.#passed++;
        return;
      case 'selected-test':
        if (event.skip === true || event.todo === true) this.#skipped.push(titled);
        return;
      case 'test-failed':
      case 'hook-failed':
      case 'uncaught-exception':
      case 'unhandled-rejection':
      case 'internal-error':
      case 'missing-ava-import':
        this.#failures.push([titled, ...causeLines(event.why ?? '')].join('\n'));
        return;
      case 'timeout':
        for (const title of event.pending ?? []) this.#failures.push(`${place}: ${title} (timed out)`);
        return;
      default:
    }
  }

  /** @param why how it ended; undefined where it ended well */
  end(why: string | undefined): Result {
    const failures = [...this.#failures];
    if (why !== undefined && failures.length === 0) failures.push(`${this.name}: ${why}`);
    return { passed: this.#passed, failures, skipped: [...this.#skipped] };
  }
}

export function sum(results: Iterable<Result>): Result {
  const all = [...results];
  return {
    passed: all.reduce((total, { passed }) => total + passed, 0),
    failures: all.flatMap(({ failures }) => failures),
    skipped: all.flatMap(({ skipped }) => skipped),
  };
}
