// Garbage in every part of a CNI request: the environment, and the configuration on standard input.
//
// Each parses to a request, or to an error with one of CNI's codes that names what is wrong.
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';

import { errorBody } from '../../plugin/cni/errors.js';
import { parseRequest, versionIn } from '../../plugin/cni/request.js';
import { wishesOf } from '../../plugin/cni/wishes.js';
import { CNI_CONF, CNI_ENVIRONMENT, cniForm } from './cni-requests.js';
import { patience, polluted, spoilt, text, times, unclear, word } from './garbage.js';

/** @returns whether it was refused */
function judge(t: ExecutionContext, body: string): boolean {
  try {
    const wishes = wishesOf(parseRequest(body));
    t.regex(wishes.name, /^[A-Za-z0-9][A-Za-z0-9_.-]*$/);
    return false;
  } catch (error) {
    const { cniVersion, code, msg } = errorBody(error, versionIn(body));
    t.true([1, 4, 6, 7].includes(code), `${code} ${msg}: ${body.slice(0, 500)}`);
    t.is(unclear(msg), undefined, msg);
    t.true(msg.length < 1000, msg);
    t.regex(cniVersion, /^[0-9.]+$/);
    return true;
  }
}

function attack(t: ExecutionContext, bodies: fc.Arbitrary<string>): void {
  t.timeout(patience(60));
  let refused = 0;
  fc.assert(
    fc.property(bodies, (body) => {
      if (judge(t, body)) refused++;
    }),
    { numRuns: times(2000), includeErrorInReport: true },
  );
  t.true(refused > 50, `${refused} were refused`);
  t.deepEqual(polluted(), []);
}

test('what is right is taken', (t) => {
  const form = (changes: object): string =>
    cniForm(CNI_ENVIRONMENT, JSON.stringify({ ...CNI_CONF, ...changes }));
  t.false(judge(t, form({ runtimeConfig: { ...CNI_CONF.runtimeConfig, ips: [] } })));
});

test('a configuration with one spoilt place', (t) => {
  attack(
    t,
    spoilt(CNI_CONF).map((conf) => cniForm(CNI_ENVIRONMENT, JSON.stringify(conf) ?? '')),
  );
});

test('standard input that is none', (t) => {
  attack(
    t,
    text.map((conf) => cniForm(CNI_ENVIRONMENT, conf)),
  );
});

test('an environment with one spoilt variable', (t) => {
  const conf = JSON.stringify({ ...CNI_CONF, runtimeConfig: null });
  const variables = fc.constantFrom(...Object.keys(CNI_ENVIRONMENT));
  attack(
    t,
    fc.tuple(variables, word).map(([name, value]) => cniForm({ ...CNI_ENVIRONMENT, [name]: value }, conf)),
  );
});

test('a body that is no form', (t) => {
  attack(t, fc.oneof(fc.string({ unit: 'binary' }), text));
});
