// Problems become events when they appear and when they are over, under the name of their object.
import test from 'ava';

import {
  clockProblem,
  endpointScope,
  networkScope,
  NODE,
  problemEvents,
  Problems,
  scopeObjects,
  UNDERLAY,
} from '../../../agent/health/index.js';
import type { Problem } from '../../../core/problem.js';
import type { Happening } from '../../../daemon/event-log.js';

function recorded() {
  const events: Happening[] = [];
  const names = new Map([['id1', 'web']]);
  const objects = scopeObjects('h1', (id) => names.get(id));
  const problems = new Problems(
    () => undefined,
    problemEvents({ record: (event) => void events.push(event) }, objects),
  );
  return {
    problems,
    told: () => events.splice(0).map(({ reason, object, message }) => [reason, object, message]),
  };
}

test('a conflict comes and goes, other problems are solved', (t) => {
  const { problems, told } = recorded();
  problems.set({ scope: NODE, kind: 'conflict', id: 'x' }, { what: 'link wf1', why: 'not weft’s', fix: '' });
  problems.set(
    { scope: networkScope('blue'), kind: 'lease' },
    { what: 'network blue', why: 'full', fix: '' },
  );
  t.deepEqual(told(), [
    ['conflict', 'node/h1', 'link wf1: not weft’s'],
    ['problem', 'network/blue', 'network blue: full'],
  ]);
  problems.clear({ scope: NODE, kind: 'conflict', id: 'x' });
  problems.clear({ scope: NODE, kind: 'conflict', id: 'x' });
  problems.put({ scope: networkScope('blue'), kind: 'lease' }, undefined);
  t.deepEqual(told(), [
    ['conflict-over', 'node/h1', 'link wf1'],
    ['solved', 'network/blue', 'network blue'],
  ]);
});

test('of broken paths the cause is told, and not what is seen of it', (t) => {
  const { problems, told } = recorded();
  const link = { what: 'the link eth0', why: 'it has no carrier', fix: '', isCause: true };
  const path = { what: 'the path to node h2', why: 'it is silent', fix: '' };
  problems.replace(
    UNDERLAY,
    'peer',
    new Map<string, Problem>([
      ['link', link],
      ['h2', path],
    ]),
  );
  t.deepEqual(told(), [['problem', 'underlay/h1', 'the link eth0: it has no carrier']]);
  problems.replace(UNDERLAY, 'peer', new Map());
  t.deepEqual(told(), [['solved', 'underlay/h1', 'the link eth0']]);
});

test('a problem that ends with its endpoint is not solved', (t) => {
  const { problems, told } = recorded();
  const scope = endpointScope({ network: 'blue', id: 'id1' });
  problems.set({ scope, kind: 'port', id: '80' }, { what: 'port 80', why: 'taken', fix: '' });
  t.deepEqual(told(), [['conflict', 'endpoint/web.blue', 'port 80: taken']]);
  problems.clearScope(scope);
  t.deepEqual(told(), []);
  t.deepEqual(problems.list(), []);
});

test('two clocks disagree beyond a minute, whatever the time that an answer took', (t) => {
  const now = Date.UTC(2026, 10, 30, 12);
  const hour = 3_600_000;
  t.is(clockProblem(now, now, 20, 'c:1'), undefined);
  // The answer was on its way for so long.
  t.is(clockProblem(now, now - 90_000, 90_000, 'c:1'), undefined);
  t.is(clockProblem(now, now + 59_000, 10, 'c:1'), undefined);
  t.regex(clockProblem(now, now + 2 * hour, 10, 'c:1')?.why ?? '', /^it is 2 h behind .* c:1$/);
  t.regex(clockProblem(now, now - 2 * hour, 10, 'c:1')?.why ?? '', /^it is 2 h ahead of .* c:1$/);
  t.regex(clockProblem(now, now - 5 * 60_000, 10, 'c:1')?.why ?? '', /^it is 5 min ahead of/);
});
