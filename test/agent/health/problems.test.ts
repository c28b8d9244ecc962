// Problems and their events.
import test from 'ava';

import { attempt } from '../../../agent/health/attempt.js';
import { clockProblem, problemEvents, scopeObjects, UNDERLAY } from '../../../agent/health/index.js';
import { endpointScope, networkScope, NODE, type ProblemKey } from '../../../agent/health/problem-key.js';
import { type Problem, Problems } from '../../../agent/health/problems.js';
import { unavailable } from '../../../core/errors.js';
import type { Happening } from '../../../daemon/event-log.js';
import { silentLogger } from '../../../daemon/log.js';

// Problems by scope and kind; no name makes two of them equal.

const problem = (what: string): Problem => ({ what, why: 'it is broken', fix: 'Mend it.' });
const shown = (problems: Problems): string[] => problems.list().map(({ what }) => what);

test('the end of a scope clears its own problems and no others', (t) => {
  const problems = new Problems();
  const web = { network: 'on', id: 'a' };
  problems.set({ scope: NODE, kind: 'conflict', id: 'link on' }, problem('link'));
  problems.set({ scope: networkScope('on'), kind: 'lease' }, problem('lease'));
  problems.set({ scope: networkScope('on'), kind: 'claim', id: '10.100.1.9' }, problem('claim'));
  problems.set({ scope: networkScope('node'), kind: 'lease' }, problem('lease of node'));
  problems.set({ scope: endpointScope(web), kind: 'port', id: '80' }, problem('port'));
  problems.set({ scope: { kind: 'container', id: 'on' }, kind: 'start' }, problem('start'));
  problems.clearScope(networkScope('on'));
  t.deepEqual(shown(problems), ['link', 'lease of node', 'port', 'start']);
  problems.clearScope(endpointScope({ ...web, network: 'other' }));
  problems.clearScope({ kind: 'attachment', id: 'a' });
  t.deepEqual(shown(problems), ['link', 'lease of node', 'port', 'start']);
  problems.clearScope(endpointScope(web));
  problems.clearScope(networkScope('node'));
  t.deepEqual(shown(problems), ['link', 'start']);
});

test('the problems of one kind in one scope are replaced as a whole', (t) => {
  let changes = 0;
  const problems = new Problems(() => changes++);
  const steps = (...ids: string[]): Map<string, Problem> => new Map(ids.map((id) => [id, problem(id)]));
  problems.set({ scope: NODE, kind: 'conflict', id: 'a' }, problem('conflict a'));
  problems.replace(NODE, 'step', steps('a', 'b'));
  problems.replace(networkScope('node'), 'step', steps('c'));
  t.deepEqual(shown(problems), ['conflict a', 'a', 'b', 'c']);
  changes = 0;
  problems.replace(NODE, 'step', steps('b'));
  t.is(changes, 1);
  problems.replace(NODE, 'step', steps('b'));
  t.is(changes, 1, 'setting an equal problem is no change');
  t.deepEqual(shown(problems), ['conflict a', 'b', 'c']);
  problems.keepOnly(NODE, 'step', new Set());
  t.deepEqual(shown(problems), ['conflict a', 'c']);
});

test('a problem with another next step is a change', (t) => {
  let changes = 0;
  const problems = new Problems(() => changes++);
  const key = { scope: NODE, kind: 'step', id: 'a' } as const;
  problems.set(key, problem('a'));
  problems.set(key, { ...problem('a'), fix: 'Stop etcd2 (pid 7).' });
  t.is(changes, 2);
  t.is(problems.get(key)?.fix, 'Stop etcd2 (pid 7).');
});

test('equal keys are one problem, different keys are several', (t) => {
  const keys: ProblemKey[] = [
    { scope: networkScope('a b'), kind: 'claim', id: 'c' },
    { scope: networkScope('a'), kind: 'claim', id: 'b c' },
    { scope: networkScope('a'), kind: 'claim', id: '"b","c"' },
    { scope: { kind: 'endpoint', network: 'a', id: 'b' }, kind: 'port', id: 'c' },
    { scope: { kind: 'endpoint', network: 'a', id: 'b' }, kind: 'port' },
    { scope: { kind: 'attachment', id: 'b' }, kind: 'removal' },
    { scope: { kind: 'container', id: 'b' }, kind: 'removal' },
    { scope: { kind: 'plugin', plugin: 'b' }, kind: 'state-file' },
    { scope: NODE, kind: 'state-file' },
  ];
  const problems = new Problems();
  for (const [i, key] of keys.entries()) problems.set(key, problem(`${i}`));
  t.is(problems.list().length, keys.length);
  for (const [i, key] of keys.entries()) t.is(problems.get(structuredClone(key))?.what, `${i}`);
  for (const key of keys) problems.put(key, undefined);
  t.deepEqual(problems.list(), []);
});

test('a failed attempt is a problem with object, cause and next step until it succeeds', async (t) => {
  const problems = new Problems();
  const about = { scope: networkScope('on'), kind: 'lease', what: 'the subnet lease of network on' } as const;
  const options = { problems, log: silentLogger };
  const fails = (error: Error) => (): Promise<void> => Promise.reject(error);
  t.false(await attempt(options, about, fails(unavailable('etcd is away', 'Start etcd.'))));
  t.deepEqual(problems.list(), [{ what: about.what, why: 'etcd is away', fix: 'Start etcd.' }]);
  problems.clear(about);
  await attempt(
    options,
    { ...about, again: 'It is tried again.' },
    fails(unavailable('away', 'Start etcd.')),
  );
  t.is(problems.get(about)?.fix, 'Start etcd. It is tried again.');
  problems.clear(about);
  const because = (message: string): string => `its file is lost: ${message}`;
  await attempt(options, { ...about, because, otherwise: 'Restart.' }, fails(new Error('no space')));
  t.like(problems.get(about), { why: 'its file is lost: no space', fix: 'Restart.' });
  t.true(await attempt(options, about, () => Promise.resolve()));
  t.deepEqual(problems.list(), []);
});

test('warnings are listed apart, and end with their scope', (t) => {
  const problems = new Problems();
  problems.set({ scope: networkScope('blue'), kind: 'containing-route' }, problem('route'));
  problems.set({ scope: networkScope('blue'), kind: 'overlap' }, problem('overlap'));
  t.deepEqual(shown(problems), ['overlap']);
  t.deepEqual(
    problems.warnings().map(({ what }) => what),
    ['route'],
  );
  problems.clearScope(networkScope('blue'));
  t.deepEqual([...problems.list(), ...problems.warnings()], []);
});

// Problems become events when they appear and when they are over, under the name of their object.

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
