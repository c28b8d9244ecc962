// The result table of the fault suite.
//
// One row for each run of a line, or one for all its runs. As `node table.js FILE` it prints the rows that the lanes have
// written to the file, with several runs of one line merged.
import { readFileSync } from 'node:fs';

import CliTable from 'cli-table3';

export interface Row {
  lane: string;
  line: string;
  ok: boolean;
  sent: number;
  lost: number;
  /** Until everything broken was repaired; undefined where nothing was. */
  seconds: number | undefined;
  checked: string[];
}

interface Summary extends Row {
  runs: number;
  failed: number;
}

export function showTable(rows: readonly Row[]): string {
  const table = new CliTable({
    head: ['fault', 'runs', 'packets lost', 'seconds to right', 'what was checked'],
    style: { head: [], border: [] },
    colWidths: [44, 11, 14, 10, 62],
    wordWrap: true,
  });
  for (const { lane, line, runs, failed, lost, sent, seconds, checked } of summaries(rows)) {
    table.push([
      `${lane}: ${line}`,
      failed === 0 ? `${runs}` : `${runs}, ${failed} FAILED`,
      `${lost} of ${sent}`,
      seconds === undefined ? '' : seconds.toFixed(2),
      checked.join('; '),
    ]);
  }
  return table.toString();
}

/** The worst of all runs of a line. */
function summaries(rows: readonly Row[]): Summary[] {
  const byLine = new Map<string, Summary>();
  for (const row of rows) {
    const key = `${row.lane}: ${row.line}`;
    const known = byLine.get(key) ?? { ...row, runs: 0, failed: 0 };
    byLine.set(key, {
      ...known,
      runs: known.runs + 1,
      failed: known.failed + (row.ok ? 0 : 1),
      sent: Math.max(known.sent, row.sent),
      lost: Math.max(known.lost, row.lost),
      seconds: row.seconds === undefined ? known.seconds : Math.max(known.seconds ?? 0, row.seconds),
      checked: row.checked.length > known.checked.length ? row.checked : known.checked,
    });
  }
  return [...byLine.values()];
}

const [, program, file] = process.argv;
if (program?.endsWith('faults/table.js') === true && file !== undefined) {
  const rows = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Row);
  if (rows.length > 0) console.log(showTable(rows));
}
