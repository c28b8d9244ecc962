// Garbage in the etcd of a cluster that carries traffic.
//
// Keys and values of every kind: spoilt, odd, and of other types. Agents and controller stay up, running networks are not
// disturbed, `weft status` lists what cannot be read, and everything made from the keys is deleted with them.
// WEFT_FUZZ=N writes N times as much.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';

import { decodeRecord } from '../../store/decode.js';
import { Keys } from '../../store/keys.js';
import { networkWithin } from '../../store/ranges.js';
import { etcdSamples } from '../fuzz/etcd-samples.js';
import { ODD_WORDS, patience, SEED, spoilt, text, times, unclear } from '../fuzz/garbage.js';
import { bare, Cluster, ETCD, INFRA, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { program } from '../lab/names.js';

let lab: Cluster;
let ends: [EndpointJson, EndpointJson];

interface StatusJson {
  health: string;
  problems: { what: string; why: string; fix: string }[];
}

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  ends = [await lab.attach('h1', 'blue', 'c1'), await lab.attach('h2', 'blue', 'c2')];
  await lab.until('the containers reach each other', () => lab.reaches('c1', bare(ends[1].ip)));
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

type Put = [key: string, value: string, leased: boolean];

const keys = new Keys('/weft');
const isBad = (key: string, value: string): boolean => {
  const decoded = decodeRecord(keys.parse(key), value, '0');
  return decoded !== undefined && 'bad' in decoded;
};

/** A key and a value about no real object: spoilt records of other networks and nodes, and of unused parts of blue. */
function strangers(): fc.Arbitrary<Put> {
  const number = fc.nat(999);
  const sample = fc
    .tuple(number, fc.constantFrom('blue', 'other'), fc.integer({ min: 200, max: 254 }))
    .chain(([n, whose, third]) => {
      const all = etcdSamples(whose === 'blue' ? 'blue' : `n${n}`, `x${n}`)
        // Blue's own records are below; a tombstone for blue would really remove it.
        .filter(([key]) => !['networks/blue/config', 'removed/networks/blue'].includes(key))
        .map(
          ([key, value]) =>
            [
              key
                .replaceAll('10.177.', '10.100.')
                .replaceAll('.5.', `.${third}.`)
                .replaceAll('0123456789abcdef', `${n}`.padStart(16, '0')),
              value.replaceAll('10.177.', '10.100.').replaceAll('192.0.2.5', `198.51.100.${third}`),
            ] as const,
        );
      return fc.constantFrom(...all);
    });
  const near = sample.chain(([key, value]) =>
    value.startsWith('{')
      ? fc
          .oneof(
            fc.constant(value),
            spoilt(JSON.parse(value) as object).map((one) => JSON.stringify(one) ?? ''),
          )
          .map((one) => [key, one] as const)
      : fc.constantFrom(...ODD_WORDS).map((one) => [key, one] as const),
  );
  const noise = fc.tuple(
    fc.oneof(
      sample.map(([key]) => key),
      fc
        .string({ unit: 'binary', minLength: 1, maxLength: 60 })
        .map((one) => one.replaceAll(/\p{Surrogate}/gu, '?')),
      fc.constantFrom(
        'networks//config',
        'networks/../config',
        'networks/n/subnets/x',
        'nodes/',
        'nodes/a/b/c',
        'removed/',
        'networks',
      ),
    ),
    text,
  );
  return fc
    .tuple(fc.oneof({ weight: 3, arbitrary: near }, { weight: 1, arbitrary: noise }), fc.boolean())
    .map(([[key, value], leased]) => [`/weft/${key}`, value, leased]);
}

/** Runs the writer where etcd is. */
async function write(what: 'put' | 'delete', puts: readonly Put[]): Promise<void> {
  const file = join(lab.folder, 'puts.json');
  writeFileSync(file, JSON.stringify(puts));
  const words = program(lab, INFRA, '../fuzz/etcd-writer.js', ETCD, what, file).slice(4);
  await lab.sh(INFRA, words.join(' '), { timeoutMs: patience(60) });
}

async function works(t: ExecutionContext, when: string): Promise<void> {
  for (const [from, to] of [
    ['c1', ends[1]],
    ['c2', ends[0]],
  ] as const)
    t.true(await lab.reaches(from, bare(to.ip)), `${when}: ${from} does not reach ${to.ip}`);
  for (const name of ['agent-h1', 'agent-h2', 'controller']) {
    t.true(lab.process(name).isRunning, `${when}: ${name} has ended\n${lab.process(name).tail(40)}`);
    t.notRegex(
      lab.process(name).log(),
      /a fault in weft|could not follow the store|\bat .*\.js:\d+/,
      `${when}: ${name}`,
    );
  }
  const mine = await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls', '--network', 'blue', '--node', 'h1');
  t.true(mine.some(({ id }) => id === ends[0].id));
}

/** A host's objects except the containers' own links, as iproute2 prints them. */
async function kernel(host: string): Promise<string[]> {
  const shown = await lab.sh(
    host,
    'ip -o link | sed "s/^[0-9]*: //" | cut -d" " -f1; ip route; ip -6 route; ip neigh show nud permanent; bridge fdb show',
  );
  return shown
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => !/wfep|fe80|33:33|01:00:5e|^$/.test(line))
    .toSorted();
}

/** Of the agent of h1, or of the controller, which is asked where there is no agent. */
const status = async (...options: string[]): Promise<StatusJson> => {
  const { stdout } = await lab.weft('h1', 'status', '-o', 'json', ...options);
  return JSON.parse(stdout) as StatusJson;
};
const OF_CONTROLLER = ['--agent', '/nowhere.sock'];

test.serial('garbage in etcd is reported in status and disturbs nothing that works', async (t) => {
  t.timeout(patience(120));
  const before = await lab.until('h1 is at rest', async () => {
    const now = await kernel('h1');
    return (await status()).problems.length === 0 && now;
  });
  const real = await Promise.all(
    ['networks/blue/config', 'nodes/h1', 'nodes/h2'].map(async (key): Promise<Put> => {
      const value = await lab.etcdctl('get', '--print-value-only', `/weft/${key}`);
      return [`/weft/${key}`, value.replace(/\n$/, ''), false];
    }),
  );
  t.log(`WEFT_FUZZ_SEED=${SEED}`);
  const puts = fc.sample(strangers(), { numRuns: times(400), seed: SEED });
  // The records that the traffic depends on, mistyped by hand: the last readable version stays in force.
  const spoiltReal = real.flatMap(([key, value]) =>
    fc
      .sample(spoilt(JSON.parse(value) as object), { numRuns: 40, seed: SEED })
      .map((one): Put => [key, JSON.stringify(one) ?? '', false])
      .filter(([, one]) => isBad(key, one))
      .slice(0, 5),
  );
  await write('put', puts);
  await write('put', spoiltReal);
  await works(t, 'with garbage');

  const bad = new Set([...puts, ...spoiltReal].map(([key]) => key));
  const last = new Map([...puts, ...spoiltReal].map(([key, value]) => [key, value]));
  // A living node writes its own record back within a second.
  const isOwn = (key: string): boolean => /^\/weft\/nodes\/h\d$/.test(key);
  const unreadable = [...bad].filter((key) => !isOwn(key) && isBad(key, last.get(key) ?? ''));
  for (const key of [...bad].filter(isOwn))
    await lab.until(
      `${key} is written back`,
      async () => !isBad(key, await lab.etcdctl('get', '--print-value-only', key)),
    );
  const listing = (wanted: readonly string[], ...options: string[]): Promise<StatusJson> =>
    lab.until('status lists every record that cannot be read', async () => {
      const now = await status(...options);
      const reported = now.problems.map(({ what, why }) => `${what} ${why}`).join('\n');
      const missing = wanted.filter((key) => !reported.includes(key));
      if (missing.length > 0) throw new Error(`not listed: ${JSON.stringify(missing.slice(0, 3))}`);
      return now;
    });
  await listing(unreadable, ...OF_CONTROLLER);
  // An agent does not follow the containers of other networks.
  const { problems } = await listing(
    unreadable.filter((key) => ['blue', undefined].includes(networkWithin(keys, key))),
  );
  for (const { what, why, fix } of problems) {
    t.is(unclear(why), undefined, `${what}: ${why}`);
    t.true(what !== '' && fix !== '', `${what}: ${why} ${fix}`);
  }
  t.log(`${puts.length} keys, ${unreadable.length} unreadable, ${problems.length} problems`);

  // New endpoints are attached, published and detached as ever.
  await lab.json('h1', 'detach', 'blue', lab.ns('c1'));
  // With its address of before: the kernel shall be as before in the end.
  ends[0] = await lab.attach('h1', 'blue', 'c1', '--ip', bare(ends[0].ip));
  await lab.until('the new endpoint is reached', () => lab.reaches('c2', bare(ends[0].ip)));
  await works(t, 'after a new attach');

  await write('put', real);
  await write('delete', puts);
  await lab.until('nothing is left of it in status', async () => {
    const now = await status();
    if (now.problems.length > 0) throw new Error(JSON.stringify(now.problems.slice(0, 3)));
    return now.health === 'ok';
  });
  await works(t, 'without garbage');
  await lab.until('nothing is left of it in the kernel', async () => {
    const now = (await kernel('h1')).join('\n');
    if (now !== before.join('\n')) throw new Error(now);
    return true;
  });
});

test.serial('an agent and a controller that start among garbage', async (t) => {
  t.timeout(patience(120));
  const puts = fc.sample(strangers(), { numRuns: times(400), seed: SEED + 1 });
  await write('put', puts);
  t.is((await lab.process('agent-h1').stop()).code, 0);
  await lab.startAgents(['h1']);
  await works(t, 'after a start among garbage');
  await write('delete', puts);
  await lab.until('nothing is left of it in status', async () => (await status()).health === 'ok');
  await works(t, 'without garbage');
});
