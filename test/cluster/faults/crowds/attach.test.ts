// Attach under load and failure.
//
// A container killed during its attach, ten callers at once for one container, and the soak: containers come and go for ten
// minutes and nothing may be left over.
import { readdirSync, readFileSync } from 'node:fs';

import { monotonic } from '../../../lab/meter.js';
import { keysBelow, statusOf } from '../observe.js';
import { FULL, raise, suite, type Fault } from '../suite.js';

const CONTAINERS = FULL ? 500 : 20;
const SOAK_MS = FULL ? 600_000 : 10_000;
const AT_ONCE = 8;
const names = Array.from({ length: CONTAINERS }, (_, i) => `s${i}`);

const fault = suite({
  lane: 'attach',
  build: async () => {
    const site = await raise(2);
    // What the agent opens once and keeps is open now: its socket for probing peers is the last.
    const { cluster } = site;
    await cluster.until(
      'its peer is measured',
      async () => typeof (await statusOf(cluster, 'h1')).peers[0]?.rttMs === 'number',
    );
    return site;
  },
});

interface Measured {
  links: number;
  addresses: number;
  routes: number;
  rules: number;
  files: number;
  endpoints: number;
  keys: number;
  descriptors: number;
  megabytes: number;
}

/** Counts of everything that an attach creates. */
async function measure(f: Fault): Promise<Measured> {
  const { cluster } = f;
  const count = async (command: string): Promise<number> => Number((await cluster.sh('h1', command)).trim());
  const { pid } = cluster.process('agent-h1');
  return {
    links: await count('ip -o link | wc -l'),
    addresses: await count('ip -o addr | grep -v fe80 | wc -l'),
    routes: await count('ip -o route show table all | grep -v fe80 | grep -v ff00 | wc -l'),
    // What a container has asked the name server lately is counted, and forgotten within a minute.
    rules: await count('nft list ruleset | grep -vc expires'),
    files: readdirSync(`${cluster.lab.host(1).stateDir}/endpoints`).length,
    endpoints: await cluster.json<unknown[]>('h1', 'endpoint', 'ls').then((all) => all.length),
    keys: (await keysBelow(cluster, '/weft/networks/')).length,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    megabytes: Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024,
  };
}

/** Nothing may be left over; memory depends on the garbage collector and has some tolerance. */
async function nothingLeft(f: Fault, before: Measured, room: number): Promise<void> {
  const exact = ({ megabytes: _megabytes, ...rest }: Measured): Omit<Measured, 'megabytes'> => rest;
  const after = await f.cluster.until('as at the start', async () => {
    const now = await measure(f);
    if (JSON.stringify(exact(now)) !== JSON.stringify(exact(before)))
      throw new Error(`${JSON.stringify(before)} became ${JSON.stringify(now)}`);
    return now;
  });
  f.t.log(`before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
  f.checked.push('no link, address, route, rule, file, key, descriptor left');
  f.check(
    after.megabytes < before.megabytes + room,
    `memory (${before.megabytes.toFixed(0)} → ${after.megabytes.toFixed(0)} MB)`,
  );
}

fault('a container killed while it is being attached', async (f) => {
  const { cluster } = f;
  const before = await measure(f);
  f.begins();
  for (let round = 0; round < f.pick(4, 30); round++) {
    const name = `k${round}`;
    const process = await cluster.lab.anonymous(name);
    const attaching = cluster.weft('h1', 'attach', 'blue', `pid:${process.pid}`);
    setTimeout(() => void process.kill(), 20 * round);
    const { code } = await attaching;
    f.t.true(code === 0 || code === 1);
    await process.kill();
  }
  f.checked.push('all or nothing');
  await nothingLeft(f, before, 40);
  await f.lossless();
});

fault('attach and detach of one container from ten callers at once', async (f) => {
  const { cluster } = f;
  await cluster.addContainers('c9');
  const before = await measure(f);
  f.begins();
  for (let round = 0; round < f.pick(1, 10); round++) {
    const made = await Promise.all(
      Array.from({ length: 10 }, () => cluster.weft('h1', 'attach', 'blue', cluster.ns('c9'), '-o', 'json')),
    );
    f.same(new Set(made.map(({ stdout }) => stdout)).size, 1, 'ten attaches: one endpoint');
    const detached = await Promise.all(
      Array.from({ length: 10 }, () => cluster.weft('h1', 'detach', 'blue', cluster.ns('c9'))),
    );
    f.same(detached.filter(({ code }) => code === 0).length, 1, 'ten detaches: one succeeds');
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        cluster.weft('h1', i % 2 === 0 ? 'attach' : 'detach', 'blue', cluster.ns('c9')),
      ),
    );
    await cluster.weft('h1', 'detach', 'blue', cluster.ns('c9'));
  }
  await nothingLeft(f, before, 40);
  await f.lossless();
  await cluster.removeContainer('c9');
});

fault(`soak: ${CONTAINERS} containers attached and detached for ${SOAK_MS / 1000} s`, async (f) => {
  const { cluster } = f;
  await cluster.addContainers(...names);
  // A first round, so that buffers and caches reach their size.
  await inTurn(f, 'attach', names.slice(0, AT_ONCE));
  await inTurn(f, 'detach', names.slice(0, AT_ONCE));
  const before = await measure(f);
  f.begins();
  let attached = 0;
  for (const end = monotonic() + SOAK_MS; monotonic() < end;) {
    for (let at = 0; at < names.length && monotonic() < end; at += AT_ONCE) {
      const some = names.slice(at, at + AT_ONCE);
      await inTurn(f, 'attach', some);
      await inTurn(f, 'detach', some);
      attached += some.length;
    }
  }
  f.checked.push(`${attached} attached and detached`);
  await nothingLeft(f, before, 40);
  f.same((await statusOf(cluster, 'h1')).health, 'ok', 'status ok');
  await f.lossless();
  await Promise.all(names.map((name) => cluster.removeContainer(name)));
});

async function inTurn(f: Fault, verb: 'attach' | 'detach', some: readonly string[]): Promise<void> {
  await Promise.all(some.map((name) => f.cluster.json('h1', verb, 'blue', f.cluster.ns(name))));
}
