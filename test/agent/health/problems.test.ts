// Problems by scope and kind; no name makes two of them equal.
import test from 'ava';

import { attempt } from '../../../agent/health/attempt.js';
import { endpointScope, networkScope, NODE, type ProblemKey } from '../../../agent/health/problem-key.js';
import { Problems, type Problem } from '../../../agent/health/problems.js';
import { unavailable } from '../../../core/errors.js';
import { silentLogger } from '../../../daemon/log.js';

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
