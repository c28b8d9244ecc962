// Garbage at every socket of a real agent with a container attached.
//
// Its gRPC socket, its HTTP, the sockets of its plugins, and a state directory with one spoilt place in every file. The agent
// answers with readable errors, stays up, and keeps what it has. The generators and attacks are in test/fuzz; WEFT_FUZZ=N
// sends N times as much.
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { credentials } from '@grpc/grpc-js';
import fc from 'fast-check';

import { call } from '../../daemon/grpc.js';
import * as agent from '../../proto/gen/weft/v1/agent.js';
import * as inspection from '../../proto/gen/weft/v1/inspection.js';
import * as runtime from '../../proto/gen/weft/v1/runtime.js';
import { PluginClient } from '../docker/plugin.js';
import { patience, SEED, spoilt, text, times, unclear, value } from '../fuzz/garbage.js';
import {
  attackBodies,
  attackBytes,
  attackMethods,
  attackRequests,
  throwBytes,
  type Target,
} from '../fuzz/grpc-attack.js';
import { attackHttp, holdConnections, SLOW_HTTP } from '../fuzz/http-attack.js';
import { methodsOf } from '../fuzz/messages.js';
import { CNI_CONF, CNI_ENVIRONMENT, cniForm } from '../fuzz/cni-requests.js';
import { idOf, NAMED, PLUGIN_REQUESTS } from '../fuzz/plugin-requests.js';
import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { program } from '../lab/names.js';
import { slowness } from '../lab/wait.js';

let lab: Cluster;
let docker: PluginClient;
let target: Target;
let one: EndpointJson;

interface StatusJson {
  health: string;
  problems: { what: string; why: string }[];
}

async function setUp(): Promise<void> {
  lab = await Cluster.create(1);
  await lab.addContainers('c1', 'c2', 'c3');
  const socket = join(lab.folder, 'plugin.sock');
  docker = new PluginClient(socket);
  await lab.startController();
  lab.dockerHost('h1', lab.lab.host(1), [
    ...['--cnm-socket', socket, '--docker', `unix://${join(lab.folder, 'none.sock')}`],
  ]);
  await lab.startAgents(['h1']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  await lab.json('h1', 'network', 'create', 'red', '--subnet', '10.101.0.0/16');
  one = await lab.attach('h1', 'blue', 'c1');
  target = {
    address: { socket: agentSocket() },
    methods: methodsOf(agent, inspection, runtime),
    // Not the container c1: a valid request for c2 may be carried out.
    words: [
      'blue',
      'red',
      lab.ns('c2'),
      'c9',
      'eth0',
      'brx',
      '10.100.0.9',
      '10.101.0.0/16',
      '192.0.2.9',
      'no',
    ],
    alive: serves,
  };
}

shareAmongTests(
  test,
  setUp,
  async () => lab?.lab.down(),
  (t) => {
    t.true(lab.process('agent-h1').isRunning, lab.process('agent-h1').tail());
    t.notRegex(logged(), /a fault in weft|\bat .*\.js:\d+/);
  },
);

/** The agent's log since its last start. */
function logged(): string {
  const log = lab.process('agent-h1').log();
  return log.slice(log.lastIndexOf('$ '));
}

async function serves(): Promise<void> {
  const client = new agent.StatusServiceClient(`unix:${agentSocket()}`, credentials.createInsecure());
  try {
    await call(client.getStatus.bind(client), {}, { peer: 'the agent', deadlineMs: 5000 * slowness });
  } catch (error) {
    throw new Error(`the agent does not answer:\n${lab.process('agent-h1').tail(40)}`, { cause: error });
  } finally {
    client.close();
  }
}

const agentSocket = (): string => lab.environment('h1')['WEFT_AGENT'] ?? '';

/** The container that was attached first is unchanged. */
async function keepsItsContainer(t: ExecutionContext): Promise<void> {
  const [there] = (await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls', '--network', 'blue')).filter(
    ({ id }) => id === one.id,
  );
  t.deepEqual(there, one);
  t.true(await lab.reaches('c1', one.gateway));
}

test.serial('gRPC: random messages for every method', async (t) => {
  t.timeout(patience(120));
  const counters = await attackMethods(target, times(20));
  t.true(
    (counters.answers['OK'] ?? 0) > 0 && (counters.answers['INVALID_ARGUMENT'] ?? 0) > 0,
    JSON.stringify(counters),
  );
  t.log(JSON.stringify(counters));
  await keepsItsContainer(t);
});

test.serial('gRPC: bodies that are not messages, invalid frames, and no HTTP/2 at all', async (t) => {
  t.timeout(patience(60));
  await attackBodies(target, times(100));
  await attackRequests(target, times(100));
  await attackBytes(target, times(100));
  await holdConnections(target.address, 100, 'PRI * HTTP/2.0\r\n', serves);
  await keepsItsContainer(t);
});

test.serial('HTTP: methods, paths, headers, partial requests, bytes and held connections', async (t) => {
  t.timeout(patience(60));
  const attack = program(lab, 'h1', '../fuzz/http-attacker.js', '127.0.0.1', '7402', `${times(100)}`);
  const [command = '', ...words] = attack.slice(4);
  const { code, stderr } = await lab.try('h1', [command, ...words].join(' '), { timeoutMs: patience(50) });
  t.is(code, 0, stderr);
  await serves();
});

/** Creates a network as Docker does, with one address in use. */
async function plugged(
  NetworkID: string,
  Options: object,
  Pool: string,
): Promise<{ PoolID: string; Address: string }> {
  const { PoolID } = await docker.must<{ PoolID: string }>('IpamDriver.RequestPool', {
    ...{ AddressSpace: 'weft', Pool, SubPool: '', Options: {}, V6: false },
  });
  const { Address: Gateway } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
    ...{ PoolID, Address: '', Options: { RequestAddressType: 'com.docker.network.gateway' } },
  });
  await docker.must('NetworkDriver.CreateNetwork', {
    ...{ NetworkID, Options, IPv6Data: [] },
    IPv4Data: [{ AddressSpace: 'weft', Pool, Gateway, AuxAddresses: {} }],
  });
  const { Address } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
    PoolID,
    Address: '',
    Options: {},
  });
  return { PoolID, Address };
}

/** The plugin's files and the addresses in use, which must be the same at the end. */
function held(): Record<string, string[]> {
  const { stateDir } = lab.lab.host(1);
  const folders = [
    'reservations',
    'endpoints',
    'networks',
    ...readdirSync(join(stateDir, 'docker')).map((name) => join('docker', name)),
  ];
  return Object.fromEntries(
    folders.map((folder) => [folder, readdirSync(join(stateDir, folder)).toSorted()]),
  );
}

test.serial('Docker’s plugin socket: every request gets a JSON answer, and no address leaks', async (t) => {
  t.timeout(patience(120));
  const { PoolID, Address } = await plugged(idOf(1), NAMED, '10.9.0.0/16');
  const before = held();
  const filled = (body: unknown): Record<string, unknown> =>
    JSON.parse(
      JSON.stringify(body).replaceAll('"POOL"', JSON.stringify(PoolID)).replaceAll('ADDRESS', Address),
    ) as Record<string, unknown>;
  const bodies = fc.constantFrom(...PLUGIN_REQUESTS).chain(({ method, body, rollback }) => {
    const near = Object.keys(body).length === 0 ? value : spoilt(filled(body));
    const sent = fc.oneof({ weight: 4, arbitrary: near.map((each) => JSON.stringify(each) ?? '') }, text);
    return sent.map((written) => ({ method, written, rollback }));
  });
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(bodies, async ({ method, written, rollback }) => {
      const { status, body } = await docker.ask(method, written);
      t.is(status, 200);
      const why = body.Err ?? body.Error;
      if (why !== undefined && why !== '') {
        refused++;
        t.is(unclear(why), undefined, `${method} ${written.slice(0, 500)}: ${why}`);
        t.deepEqual(body, { Err: why, Error: why });
        return;
      }
      // A request that happened to succeed is rolled back as Docker would.
      if (rollback === undefined) return;
      const asked = written.trim() === '' ? {} : (JSON.parse(written) as Record<string, unknown>);
      const { Address: given } = body as { Address?: string };
      const { NetworkID, EndpointID, PoolID: pool } = { ...asked, ...body };
      await docker.ask(rollback, {
        NetworkID,
        EndpointID,
        PoolID: pool,
        Address: given?.split('/')[0] ?? '',
      });
    }),
    { numRuns: times(600), includeErrorInReport: true },
  );
  t.true(refused > 50, `${refused} were refused`);
  t.is(
    (await docker.ask('IpamDriver.RequestAddress', `{"PoolID":"${'x'.repeat(5 << 20)}"}`)).body.Err?.includes(
      'too long',
    ),
    true,
  );
  for (const half of ['POST /NetworkDriver.Join HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"a', 'POST', '\0\xff'])
    await throwBytes({ socket: docker.socketPath }, Buffer.from(half, 'latin1'));
  await attackHttp({ socket: docker.socketPath }, times(100));
  await holdConnections({ socket: docker.socketPath }, 100, SLOW_HTTP.replace('GET', 'POST'), async () => {
    await docker.must('NetworkDriver.GetCapabilities');
  });
  t.deepEqual(held(), before);
  await keepsItsContainer(t);
});

test.serial(
  'the socket of CNI’s and podman’s plugins: every request gets one JSON, and nothing is left',
  async (t) => {
    t.timeout(patience(120));
    const socket = join(lab.folder, 'h1/run/cni.sock');
    const client = new PluginClient(socket);
    const conf = { ...CNI_CONF, name: 'red', network: 'red', ipam: null, runtimeConfig: null };
    const environment = { ...CNI_ENVIRONMENT, netns: `/run/netns/${lab.ns('c2')}`, args: '' };
    // The first one takes the node onto the network.
    for (const command of ['ADD', 'DEL']) {
      const { status } = await client.ask('cni', cniForm({ ...environment, command }, JSON.stringify(conf)));
      t.is(status, 200);
    }
    const before = held();
    const near = fc.oneof(
      spoilt(conf).map((each) => JSON.stringify(each) ?? ''),
      text,
    );
    let refusals = 0;
    await fc.assert(
      fc.asyncProperty(
        near,
        fc.constantFrom('ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'create', 'setup', 'teardown'),
        async (sent, command) => {
          const route = /^[A-Z]/.test(command) ? 'cni' : 'netavark';
          const { status, body } = await client.ask(route, cniForm({ ...environment, command }, sent));
          if (status !== 200) {
            refusals++;
            const said = String(body['msg'] ?? body['error']);
            t.is(unclear(said), undefined, `${command} ${sent.slice(0, 500)}: ${said.slice(0, 500)}`);
          } else if (command === 'ADD')
            await client.ask('cni', cniForm({ ...environment, command: 'DEL' }, sent));
        },
      ),
      { numRuns: times(300), includeErrorInReport: true },
    );
    t.true(refusals > 50, `${refusals} were refused`);
    t.is((await client.ask('attach')).status, 400);
    t.is((await client.ask('nothing')).status, 404);
    await attackHttp({ socket }, times(100));
    await holdConnections({ socket }, 100, SLOW_HTTP.replace('GET', 'POST'), async () => {
      const sent = cniForm({ command: 'STATUS' }, JSON.stringify({ ...conf, cniVersion: '1.1.0' }));
      t.is((await client.ask('cni', sent)).status, 200);
    });
    t.deepEqual(held(), before);
    await keepsItsContainer(t);
  },
);

test.serial('a state directory with one spoilt place in every file', async (t) => {
  t.timeout(patience(120));
  const { stateDir } = lab.lab.host(1);
  const kept = join(lab.folder, 'kept-state');
  await lab.attach('h1', 'red', 'c3');
  await plugged(idOf(3), {}, '10.19.0.0/16');
  const running = lab.process('agent-h1');
  await running.stop();
  cpSync(stateDir, kept, { recursive: true });
  const id = fc.stringMatching(/^[0-9a-f]{16}$/);
  const KINDS = [
    ...[
      ['networks', one.network],
      ['endpoints', one.id],
    ],
    ...['docker/pools', 'docker/networks', 'docker/endpoints', 'reservations'].flatMap((folder) => {
      const [first] = existsSync(join(kept, folder)) ? readdirSync(join(kept, folder)) : [];
      return first === undefined ? [] : [[folder, first.replace(/\.json$/, '')]];
    }),
  ] as const;
  t.log(`WEFT_FUZZ_SEED=${SEED}`);
  let written = 0;
  for (const [folder = '', name = ''] of KINDS) {
    const sample = readFileSync(join(kept, folder, `${name}.json`), 'utf8');
    for (const [i, fresh] of fc.sample(id, { numRuns: times(40), seed: SEED }).entries()) {
      const file = folder === 'networks' ? `n${fresh}` : fresh;
      // Each about an object of its own, so that they are judged one by one and the real container's record is unchanged.
      const own = sample
        .replaceAll(`"${name}"`, JSON.stringify(file))
        .replaceAll(one.hostIfname, `wfe${fresh.slice(0, 12)}`)
        .replaceAll(lab.ns('c1'), `none-${fresh}`)
        .replaceAll(bare(one.ip), `${bare(one.ip).replace(/\d+$/, '')}${100 + (i % 100)}`)
        .replaceAll(/10\.100\.(?=\d+\.0\/)/g, `10.${130 + (i % 100)}.`)
        .replaceAll(/(vni\\?":)\d+/gi, `$1${6000 + i}`);
      const [odd] = fc.sample(spoilt(JSON.parse(own) as object), { numRuns: 1, seed: SEED + i });
      writeFileSync(join(stateDir, folder, `${file}.json`), JSON.stringify(odd) ?? '');
      written++;
    }
  }
  await lab.startAgents(['h1']);
  const aside = Object.values(held())
    .flat()
    .filter((name) => name.endsWith('.torn'));
  const problems = await lab.until('status reports each file that was put aside', async () => {
    const { problems: reported } = await lab.json<StatusJson>('h1', 'status');
    return aside.every((name) => reported.some(({ what }) => what.includes(name))) && reported;
  });
  t.log(`${written} files, ${aside.length} aside, ${problems.length} problems`);
  for (const { why } of problems) t.is(unclear(why), undefined, why);

  await keepsItsContainer(t);
});
