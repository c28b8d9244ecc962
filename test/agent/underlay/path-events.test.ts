// A node's broken paths are one event, and so is that all of them are ok again.
import test from 'ava';

import type { PathState } from '../../../agent/underlay/path.js';
import { PathEvents } from '../../../agent/underlay/path-events.js';
import type { Problem } from '../../../core/problem.js';

const problem = (what: string, ...nodes: string[]): Problem => ({
  ...{ what, why: 'it is silent', fix: '' },
  broken: nodes.map((node) => ({ node, network: 'blue', family: 4 })),
});

function followed() {
  const events: string[] = [];
  const paths = new PathEvents((reason, node, message) => void events.push(`${reason} ${node}: ${message}`));
  return (problems: Problem[], states: Record<string, PathState[]>): string[] => {
    paths.follow(problems, () => new Map(Object.entries(states)));
    return events.splice(0);
  };
}

test('a path is told once, whichever problem tells of it, and heals when all of the node’s are ok', (t) => {
  const told = followed();
  t.deepEqual(told([problem('the path to h2', 'h2', 'h2')], { h2: ['ok', 'blocked', 'blocked'] }), [
    'path-broken h2: the path to h2: it is silent',
  ]);
  t.deepEqual(told([problem('an address of two hosts', 'h2')], { h2: ['ok', 'blocked', 'blocked'] }), []);
  t.deepEqual(told([], { h2: ['ok', 'ok', 'unknown'] }), []);
  t.deepEqual(told([], { h2: ['ok', 'ok', 'ok'] }), ['path-healed h2: all paths to node h2 are ok']);
  t.deepEqual(told([], { h2: ['ok', 'ok', 'ok'] }), []);
});

test('a broken path does not heal by its node going down, and is forgotten with its node', (t) => {
  const told = followed();
  told([problem('the paths to h2 and h3', 'h2', 'h3')], { h2: ['blocked'], h3: ['blocked'] });
  t.deepEqual(told([], { h2: ['node-down'], h3: ['node-down'] }), []);
  t.deepEqual(told([], { h2: ['ok'] }), ['path-healed h2: all paths to node h2 are ok']);
  t.deepEqual(told([], { h3: ['ok'] }), []);
});
