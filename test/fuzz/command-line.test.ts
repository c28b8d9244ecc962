// Garbage as words of the command line.
//
// Each call succeeds or is refused with two lines and status 2; never a stack trace. The exit status of `weft status` is an
// answer: 1 where nothing is up, as here.
import test from 'ava';
import fc from 'fast-check';

import { exec } from '../lab/exec.js';
import { WEFT } from '../lab/lab.js';
import { patience, times, unclear, word } from './garbage.js';

const noZero = word.map((one) => one.replaceAll('\0', '').slice(0, 3000));
const words = fc.oneof(
  noZero,
  fc.constantFrom(
    ...['network', 'create', 'attach', 'detach', 'endpoint', 'node', 'ls', 'rm', 'status', 'port', 'dns'],
    ...['publish', 'add', 'lookup', 'pipework', 'expose', 'hide', 'ps', 'stop', 'completion', 'bash', 'help'],
    ...['inspect', 'ipam', 'capture', 'bundle', '--filter', 'name=x', '--format', '{{.name}}', '-q', 'wide'],
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

/** Prefixes that lead further than random words: commands of containers parse the most. */
const begun = fc.constantFrom([], [], ['run'], ['run', '--network', 'none', '--'], ['exec', 'c1', '--']);

test('any command line is refused with two lines or carried out; never a stack trace', async (t) => {
  t.timeout(patience(60));
  await fc.assert(
    fc.asyncProperty(begun, fc.array(words, { maxLength: 6 }), async (first, rest) => {
      const args = [...first, ...rest];
      const env = { WEFT_CONTROLLER: '127.0.0.1:1', WEFT_AGENT: '/nonexistent/agent.sock' };
      // These would start a process; a run without an agent never does.
      const given = args.filter((one) => !['agent', 'controller'].includes(one));
      const { code, stdout, stderr } = await exec([WEFT, ...given], { env });
      const shown = `${JSON.stringify(given)}: exit ${code}\n${stderr}`;
      // 126 and 127 are a shell's, for what `run` cannot execute or find.
      t.true([0, 1, 2, 126, 127].includes(code), shown);
      if (code === 0) return;
      const isQuiet = given.some((one) => ['-q', '--quiet'].includes(one));
      if (code === 1 && stderr === '' && given.includes('status') && (isQuiet || stdout !== '')) return;
      t.is(unclear(stderr), undefined, shown);
      t.true(stderr.trimEnd().split('\n').length <= 2, shown);
    }),
    { numRuns: times(18), includeErrorInReport: true },
  );
});
