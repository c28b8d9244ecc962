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

test('a path breaks and heals, a conflict comes and goes, other problems are solved', (t) => {
  const { problems, told } = recorded();
  const path = { what: 'the path to node h2', why: 'it is silent', fix: 'Look.' };
  problems.replace(UNDERLAY, 'peer', new Map([['h2', path]]));
  problems.replace(UNDERLAY, 'peer', new Map([['h2', { ...path, why: 'it is silent still' }]]));
  problems.set({ scope: NODE, kind: 'conflict', id: 'x' }, { what: 'link wf1', why: 'not weft’s', fix: '' });
  problems.set(
    { scope: networkScope('blue'), kind: 'lease' },
    { what: 'network blue', why: 'full', fix: '' },
  );
  t.deepEqual(told(), [
    ['path-broken', 'path/h2', 'the path to node h2: it is silent'],
    ['conflict', 'node/h1', 'link wf1: not weft’s'],
    ['problem', 'network/blue', 'network blue: full'],
  ]);
  problems.replace(UNDERLAY, 'peer', new Map());
  problems.clear({ scope: NODE, kind: 'conflict', id: 'x' });
  problems.clear({ scope: NODE, kind: 'conflict', id: 'x' });
  problems.put({ scope: networkScope('blue'), kind: 'lease' }, undefined);
  t.deepEqual(told(), [
    ['path-healed', 'path/h2', 'the path to node h2'],
    ['conflict-over', 'node/h1', 'link wf1'],
    ['solved', 'network/blue', 'network blue'],
  ]);
});

test('a problem of several paths is an event for each node', (t) => {
  const { problems, told } = recorded();
  const broken = ['h2', 'h3', 'h2'].map((node) => ({ node }));
  const link = { what: 'link eth0', why: 'it has no carrier', fix: '', broken };
  problems.replace(UNDERLAY, 'peer', new Map([['link', link]]));
  t.deepEqual(
    told().map(([, object]) => object),
    ['path/h2', 'path/h3'],
  );
  problems.replace(UNDERLAY, 'peer', new Map());
  t.deepEqual(
    told().map(([reason, object]) => `${reason} ${object}`),
    ['path-healed path/h2', 'path-healed path/h3'],
  );
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
