// The parts of the agent as its start connects them, on a kernel and a store in memory.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

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
import type { SessionState } from '../../../agent/api/index.js';
import type { Opened } from '../../../agent/start/open.js';
import { State } from '../../../agent/state/index.js';
import { EventLog } from '../../../daemon/event-log.js';
import { silentLogger } from '../../../daemon/log.js';
import { loadSettings } from '../../../daemon/settings.js';
import { DisplacedNodes } from '../../../store/displaced-nodes.js';
import type { LeaseRequest, StoredLease } from '../../../store/store.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, lease, membership, network } from '../../kernel/samples.js';

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
    ...{ settings, log: silentLogger, state, loaded, store, problems, kernel },
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
    events: new EventLog({ path: undefined, node: 'node1', log: silentLogger }),
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
