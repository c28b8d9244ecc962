// weft events, and the last events in inspect, against a scripted controller and agent.
import test from 'ava';
import { parseAllDocuments } from 'yaml';

import { Event } from '../../proto/gen/weft/v1/events.js';
import { Fakes, run } from './fakes.js';

const fakes = new Fakes();
test.before(() => fakes.start());
test.after.always(() => fakes.stop());
test.beforeEach(() => {
  fakes.controllerEvents = [];
  fakes.agentEvents = [];
});

const event = (about: Partial<Event> = {}): Event =>
  Event.fromPartial({
    time: '2026-11-30T12:00:00.000Z',
    type: 'warning',
    node: 'a',
    reason: 'path-broken',
    object: 'path/h2',
    message: 'the path to node h2: it is silent',
    count: 1,
    ...about,
  });

test.serial('JSON lines, a line for people, and no control characters', async (t) => {
  fakes.controllerEvents = [
    event(),
    event({ node: '', type: 'normal', reason: 'removed', object: 'network/blue', actor: 'admin', count: 3 }),
    event({ message: 'evil\u001b[2J\u202e\nname' }),
  ];
  const asJson = await fakes.weft('events', '-o', 'json');
  t.like(asJson, { code: 0, stderr: '' });
  const lines = asJson.stdout.trim().split('\n');
  t.deepEqual(JSON.parse(lines[0] ?? ''), {
    time: '2026-11-30T12:00:00.000Z',
    type: 'warning',
    node: 'a',
    reason: 'path-broken',
    object: 'path/h2',
    message: 'the path to node h2: it is silent',
    actor: null,
    count: 1,
  });
  t.like(JSON.parse(lines[1] ?? ''), { node: null, actor: 'admin', count: 3 });
  t.is(lines.length, 3);
  const asYaml = await fakes.weft('events', '-o', 'yaml');
  t.deepEqual(
    parseAllDocuments(asYaml.stdout).map((one) => (one.toJSON() as Event).message),
    lines.map((line) => (JSON.parse(line) as Event).message),
  );
  const asTable = await fakes.weft('events');
  t.regex(
    asTable.stdout,
    /^2026-11-30T12:00:00.000Z {2}a {2}warning {2}path-broken {2}path\/h2 {2}the path/m,
  );
  t.regex(asTable.stdout, /removed {2}network\/blue .*\(admin\) \[3 times\]$/m);
  // eslint-disable-next-line no-control-regex
  t.notRegex(asTable.stdout + asJson.stdout + asYaml.stdout, /[\u001b\u202e]/);
  t.is(asTable.stdout.trim().split('\n').length, 3);
});

test.serial('--for, --type and --since choose', async (t) => {
  const now = new Date().toISOString();
  fakes.controllerEvents = [
    event(),
    event({ node: 'b', type: 'normal', reason: 'attached', object: 'endpoint/web.1.blue', time: now }),
    event({ node: 'b', reason: 'repaired', object: 'endpoint/db.red', time: now }),
  ];
  const objects = async (...args: string[]): Promise<string[]> =>
    (await fakes.weft('events', '-o', 'json', ...args)).stdout
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => (JSON.parse(line) as Event).object);
  t.deepEqual(await objects('--for', 'network/blue'), ['endpoint/web.1.blue']);
  t.deepEqual(await objects('--for', 'endpoint/web.1'), ['endpoint/web.1.blue']);
  t.deepEqual(await objects('--for', 'endpoint/web'), []);
  t.deepEqual(await objects('--for', 'node/h2'), ['path/h2']);
  t.deepEqual(await objects('--for', 'node/b'), ['endpoint/web.1.blue', 'endpoint/db.red']);
  t.deepEqual(await objects('--type', 'normal'), ['endpoint/web.1.blue']);
  t.deepEqual(await objects('--since', '10m', '--type', 'warning'), ['endpoint/db.red']);
  for (const wrong of [
    ['--for', 'blue'],
    ['--for', 'thing/x'],
    ['--since', 'soon'],
    ['--type', 'bad'],
  ])
    t.is((await fakes.weftHere('events', ...wrong)).code, 2, wrong.join(' '));
});

test.serial('without a controller the node’s own are shown, and that is said', async (t) => {
  fakes.agentEvents = [event()];
  const away = { WEFT_CONTROLLER: '127.0.0.1:1', WEFT_AGENT: fakes.socket };
  const { code, stdout, stderr } = await run(['events', '-o', 'json'], away);
  t.is(code, 0);
  t.like(JSON.parse(stdout), { object: 'path/h2' });
  t.regex(stderr, /controller at 127\.0\.0\.1:1.*this node alone/s);
  const both = await run(['events'], { ...away, WEFT_AGENT: '/nonexistent' });
  t.is(both.code, 1);
  t.regex(both.stderr, /^weft: the controller at/);
});

test.serial('inspect shows the last five', async (t) => {
  fakes.controllerEvents = Array.from({ length: 9 }, (_, i) =>
    event({ object: 'network/blue', count: i + 1 }),
  );
  const json = JSON.parse((await fakes.weft('network', 'inspect', 'blue', '-o', 'json')).stdout) as {
    events: Event[];
  };
  t.deepEqual(
    json.events.map(({ count }) => count),
    [5, 6, 7, 8, 9],
  );
  t.regex(
    (await fakes.weft('node', 'inspect', 'a')).stdout,
    /\nEvents:\n {2}.* ago {2}warning {2}path-broken/,
  );
});
