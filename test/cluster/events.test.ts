// `weft events` in a cluster of two hosts: what happens is told, kept while the controller is away, and merged when it is back.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';

interface EventJson {
  time: string;
  type: string;
  node: string | null;
  reason: string;
  object: string;
  message: string;
  actor: string | null;
  count: number;
}

let lab: Cluster;
let controller: LabProcess;
let db: EndpointJson;

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2', 'c3', 'c4');
    controller = await lab.startController();
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await lab.attach('h1', 'blue', 'c1', '--name', 'web');
    db = await lab.attach('h2', 'blue', 'c2', '--name', 'db');
    await lab.until('they reach each other', () => lab.reaches('c1', bare(db.ip)));
  },
  async () => {
    await lab?.lab.down();
  },
);

const parse = (stdout: string): EventJson[] =>
  stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as EventJson);

async function events(host: string, ...args: string[]): Promise<EventJson[]> {
  const { code, stdout, stderr } = await lab.weft(host, 'events', '-o', 'json', ...args);
  if (code !== 0) throw new Error(stderr);
  return parse(stdout);
}

/** Waits for an event like this one. */
const told = (about: Partial<EventJson>, ...args: string[]): Promise<EventJson> =>
  lab.until(
    `${about.reason ?? ''} of ${about.object ?? ''}`,
    async () => {
      const all = await events('h2', ...args);
      return all.findLast((event) =>
        Object.entries(about).every(([key, value]) => event[key as keyof EventJson] === value),
      );
    },
    { timeoutMs: 60_000 },
  );

test.serial('joining, attaching, vanishing, repairs and removals are told, and followed', async (t) => {
  const follower = lab.spawn('follower', 'h2', [
    ...['env', ...Object.entries(lab.environment('h2')).map(([key, value]) => `${key}=${value}`)],
    ...[WEFT, 'events', '-f', '-o', 'json', '--for', 'network/red'],
  ]);
  t.like(await told({ node: 'h1', reason: 'joined', object: 'network/blue' }), { type: 'normal' });
  t.like(await told({ node: 'h1', reason: 'attached', object: 'endpoint/web.blue' }), { actor: 'weft' });
  await lab.json('h1', 'network', 'create', 'red', '--subnet', '10.101.0.0/16');
  await lab.attach('h1', 'red', 'c3', '--name', 'short');
  await lab.removeContainer('c3');
  await told({ node: 'h1', reason: 'vanished', object: 'endpoint/short.red' });
  await lab.json('h2', 'network', 'rm', 'red');
  // Plain text has no certificates: who it was is not known, and from where is.
  t.like(await told({ node: null, reason: 'removed', object: 'network/red' }), { actor: 'nobody' });
  await lab.until('the follower saw all of it, and nothing else', () => {
    const reasons = new Set(
      parse(follower.log().replaceAll(/^\$ .*$/gm, '')).map(({ object, reason }) => `${reason} ${object}`),
    );
    return ['created network/red', 'attached endpoint/short.red', 'vanished endpoint/short.red']
      .concat(['removed network/red', 'left network/red', 'joined network/red'])
      .every((text) => reasons.has(text));
  });
  t.notRegex(follower.log().replaceAll(/^\$ .*$/gm, ''), /blue/);
  await follower.kill();

  await lab.sh(
    'h1',
    `ip route del $(ip -4 route show proto 119 | grep ${bare(db.ip).replace(/\.\d+$/, '')} | head -1)`,
  );
  const repaired = await told({ node: 'h1', reason: 'repaired', object: 'node/h1' });
  t.regex(repaired.message, /route/);
  t.is(repaired.type, 'warning');
  const { events: last } = await lab.json<{ events: EventJson[] }>('h2', 'endpoint', 'inspect', 'db');
  t.true(last.some(({ reason }) => reason === 'attached'));
});

test.serial('a path breaks and heals', async (t) => {
  await lab.sh('h2', 'iptables -I INPUT -p udp --dport 8472 -j DROP');
  const broken = await told({ node: 'h1', reason: 'path-broken' }, '--for', 'node/h2');
  t.is(broken.type, 'warning');
  await lab.sh('h2', 'iptables -D INPUT -p udp --dport 8472 -j DROP');
  await told({ node: 'h1', reason: 'path-healed' }, '--for', 'node/h2');
});

test.serial('what happens without a controller is told when it is back, and nothing is lost', async (t) => {
  const before = await events('h2');
  await controller.kill();
  await lab.until('h1 misses it', async () => {
    const alone = await events('h1');
    return alone.some(({ reason }) => reason === 'controller-away');
  });
  await lab.attach('h1', 'blue', 'c4', '--name', 'late');
  const { stdout, stderr } = await lab.weft('h1', 'events', '-o', 'json');
  t.true(parse(stdout).every(({ node }) => node === 'h1'));
  t.regex(stderr, /these are the events of this node alone/);
  controller = await lab.startController();
  await told({ node: 'h1', reason: 'controller-back' });
  await told({ node: 'h1', reason: 'attached', object: 'endpoint/late.blue' });
  // Each agent tells its own when its session is back, one after the other.
  const after = await lab.until('nothing is lost', async () => {
    const now = await events('h2');
    const texts = new Set(now.map(({ time, object, reason }) => `${time} ${object} ${reason}`));
    const missing = before.filter(({ time, object, reason }) => !texts.has(`${time} ${object} ${reason}`));
    if (missing.length > 0) throw new Error(JSON.stringify(missing));
    return now;
  });
  const times = after.map(({ time }) => time);
  t.deepEqual(times, times.toSorted());
  // For root alone, and nowhere in etcd.
  const folder = join(lab.folder, 'controller/events');
  t.deepEqual(readdirSync(folder), ['controller.jsonl']);
  t.is(statSync(join(folder, 'controller.jsonl')).mode & 0o777, 0o600);
  t.regex(readFileSync(join(folder, 'controller.jsonl'), 'utf8'), /"reason":"removed"/);
  t.notRegex(await lab.etcdctl('get', '/', '--prefix'), /attached|path-/);
});
