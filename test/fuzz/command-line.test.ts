// Garbage as words of the command line: refused with two lines and 2, or done; never a stack trace.
import test from 'ava';
import fc from 'fast-check';

import { exec } from '../lab/exec.js';
import { WEFT } from '../lab/lab.js';
import { patience, TIMES, unclear, word } from './garbage.js';

const noZero = word.map((one) => one.replaceAll('\0', '').slice(0, 3000));
const words = fc.oneof(
  noZero,
  fc.constantFrom(
    ...['network', 'create', 'attach', 'detach', 'endpoint', 'node', 'ls', 'rm', 'status', 'port', 'dns'],
    ...['publish', 'add', 'lookup', 'pipework', 'expose', 'hide', 'ps', 'stop', 'completion', 'bash', 'help'],
    ...['run', 'exec', 'start', 'logs', '--network', 'none', '-d', '--rm', '--restart', 'always', 'true'],
    ...[
      '--subnet',
      '--ip',
      '--publish',
      '--vni',
      '-o',
      'json',
      '--',
      '--controller',
      '--agent',
      '10.1.0.0/16',
    ],
  ),
);

/** Most words go nowhere without one before them; containers have the deepest ways. */
const begun = fc.constantFrom([], [], ['run'], ['run', '--network', 'none', '--'], ['exec', 'c1', '--']);

test('the command line: refused with two lines, or done; never a stack trace', async (t) => {
  t.timeout(patience(60));
  await fc.assert(
    fc.asyncProperty(begun, fc.array(words, { maxLength: 6 }), async (first, rest) => {
      const args = [...first, ...rest];
      const env = { WEFT_CONTROLLER: '127.0.0.1:1', WEFT_AGENT: '/nonexistent/agent.sock' };
      // Those would start something; a run without an agent never does.
      const given = args.filter((one) => !['agent', 'controller'].includes(one));
      const { code, stderr } = await exec([WEFT, ...given], { env });
      const shown = `${JSON.stringify(given)}: exit ${code}\n${stderr}`;
      // 126 and 127 are those of shells, for what `run` cannot execute or find.
      t.true([0, 1, 2, 126, 127].includes(code), shown);
      if (code === 0) return;
      t.is(unclear(stderr), undefined, shown);
      t.true(stderr.trimEnd().split('\n').length <= 2, shown);
    }),
    { numRuns: 18 * TIMES, includeErrorInReport: true },
  );
});
