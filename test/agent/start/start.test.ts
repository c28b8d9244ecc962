// The agent’s start.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import type { SessionState } from '../../../agent/api/index.js';
import {
  agentMetrics,
  AgentReadiness,
  networkScope,
  Problems,
  scopeObjects,
} from '../../../agent/health/index.js';
import { agentProgram, agentSettingsFrom } from '../../../agent/settings.js';
import { assemble } from '../../../agent/start/assemble.js';
import { Hook } from '../../../agent/start/hook.js';
import { identify } from '../../../agent/start/identify.js';
import type { Opened } from '../../../agent/start/open.js';
import { State } from '../../../agent/state/index.js';
import { WeftError } from '../../../core/errors.js';
import { EventLog } from '../../../daemon/event-log.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { loadSettings } from '../../../daemon/settings.js';
import { DisplacedNodes } from '../../../store/displaced-nodes.js';
import type { LeaseRequest, StoredLease } from '../../../store/store.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, lease, membership, network } from '../../kernel/samples.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';
import { until } from '../../lab/wait.js';

// The parts of the agent as its start connects them, on a kernel and a store in memory.

const blue = network('blue', 4097, 100, false);
const MOVED = { scope: networkScope('blue'), kind: 'moved-subnet' } as const;

/** A store in which another node has this node's subnet. */
class OtherSubnet extends FakeStore {
  override async acquireLease({ publicIp }: LeaseRequest): Promise<StoredLease> {
    return { ...lease(blue, 5), publicIp, etcdLease: '5' };
  }
}

/** Node node1, which was restored with network blue and 10.100.1.0/24. */
async function assembled(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), 'weft-assemble-'));
  const stops: (() => void | Promise<void>)[] = [() => rmSync(folder, { recursive: true, force: true })];
  t.teardown(async () => {
    for (const stop of stops.toReversed()) await stop();
  });
  const folders = ['state-dir', 'run-dir'].map((key) => `--${key}=${join(folder, key)}`);
  const flags = ['--config=/dev/null', '--etcd=http://127.0.0.1:1', '--node=node1', '--dns=off', ...folders];
  const given = loadSettings(agentProgram, flags, {});
  if (given.kind !== 'values') throw new Error('no settings');
  const settings = agentSettingsFrom(given.values);
  const state = new State(settings.stateDir);
  const loaded = state.load();
  const store = new OtherSubnet();
  store.putNetwork(blue);
  const problems = new Problems();
  const ending = new AbortController();
  const kernel = new FakeKernel();
  const opened: Opened = {
    identity: undefined,
    ...{ settings, log, state, loaded, store, problems, kernel },
    shutdown: {
      signal: ending.signal,
      add: (_name, stop) => void stops.push(stop),
      end: () => t.fail(),
    },
    ...{
      node: 'node1',
      instance: 'node1',
      startedAt: '',
      tls: () => undefined,
      changed: new Hook<[]>(undefined),
    },
    ...{ metrics: agentMetrics(), readiness: new AgentReadiness(problems) },
    underlay: { current: membership(blue).underlay, look: () => Promise.resolve() } as Opened['underlay'],
    displaced: new DisplacedNodes(store.view),
    session: new Hook<[], SessionState>({ state: 'none', address: '', error: '' }),
    socket: {} as Opened['socket'],
    audit: {} as Opened['audit'],
    clouds: {} as Opened['clouds'],
    events: new EventLog({ path: undefined, node: 'node1', log }),
    endpointName: new Hook<[id: string], string | undefined>(undefined),
    scopeObject: scopeObjects('node1', () => undefined),
  };
  const parts = assemble(opened);
  await parts.memberships.restore([{ network: blue, lease: lease(blue, 1), granted: [] }]);
  return { ...opened, ...parts, kernel, ending };
}

test('a moved subnet is no problem any more when its containers were attached again', async (t) => {
  const { memberships, endpoints, problems } = await assembled(t);
  const before = endpoint(membership(blue), 'before', 11, '/run/netns/before');
  await endpoints.restore([before]);
  await memberships.resume();
  t.regex(problems.get(MOVED)?.fix ?? '', /Attach its containers again/);
  const there = memberships.get('blue');
  if (there === undefined) return t.fail();
  await endpoints.restore([endpoint(there, 'after', 11, '/run/netns/after')]);
  t.truthy(problems.get(MOVED));
  await endpoints.remove(before);
  t.true(endpoints.isUsed('blue'));
  t.is(problems.get(MOVED), undefined);
});

test('a link that changes while the parts stop starts no work', async (t) => {
  const { kernel, ending, reconciler } = await assembled(t);
  let looks = 0;
  kernel.underlayLinks = () => Promise.resolve((looks++, []));
  await reconciler.start();
  kernel.emit({ kind: 'underlay' });
  await kernel.settled();
  t.is(looks, 1);
  ending.abort();
  kernel.emit({ kind: 'underlay' });
  await kernel.settled();
  t.is(looks, 1);
});

// Where the node's certificate comes from, before anything else is started.

test('a token’s file that is not there yet is waited for; one that holds something else is an error', async (t) => {
  const folder = temporaryFolder(t, 'weft-identify-');
  const file = join(folder, 'token');
  const flags = ['--config=/dev/null', '--controller=127.0.0.1:1', `--token-file=${file}`];
  const given = loadSettings(agentProgram, [...flags, `--state-dir=${folder}`, '--node=h1'], {});
  if (given.kind !== 'values') throw new Error('no settings');
  const shutdown = { signal: new AbortController().signal, add: () => undefined, end: () => t.fail() };
  const reasons: string[] = [];
  const found = t.throwsAsync(
    identify({ settings: agentSettingsFrom(given.values, given.origin), log, shutdown }, ({ message }) =>
      reasons.push(message),
    ),
    { instanceOf: WeftError, message: '--token-file: is not a token' },
  );
  await until('the reason', () => reasons.length > 1);
  t.is(reasons[0], `--token-file: ${file}: there is no such file yet`);
  writeFileSync(file, 'something else\n');
  await found;
});
