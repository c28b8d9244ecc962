// The first stage of the agent's start, on a node that has no address or no certificate yet.
import { sh } from './private.js';

import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { agentProgram, agentSettingsFrom } from '../../agent/settings.js';
import { open } from '../../agent/start/open.js';
import { formatToken, newToken } from '../../core/identity.js';
import { call, channel } from '../../daemon/grpc.js';
import { silentLogger } from '../../daemon/log.js';
import { loadSettings } from '../../daemon/settings.js';
import { StatusServiceClient } from '../../proto/gen/weft/v1/agent.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { until } from '../lab/wait.js';

const HTTP = '127.0.0.1:7402';

const ready = async (): Promise<string> => (await fetch(`http://${HTTP}/readyz`)).text();

function opening(t: ExecutionContext, more: readonly string[]) {
  const folder = temporaryFolder(t, 'weft-open-');
  const folders = ['state-dir', 'run-dir'].map((key) => `--${key}=${join(folder, key)}`);
  const flags = ['--config=/dev/null', '--node=n1', `--http=${HTTP}`];
  const given = loadSettings(agentProgram, [...flags, ...folders, ...more], {});
  if (given.kind !== 'values') throw new Error('no settings');
  const stops: (() => void | Promise<void>)[] = [];
  const ending = new AbortController();
  t.teardown(async () => {
    for (const stop of stops.toReversed()) await stop();
  });
  const opened = open({
    settings: agentSettingsFrom(given.values),
    log: silentLogger,
    shutdown: {
      signal: ending.signal,
      add: (_name, stop) => void stops.push(stop),
      end: () => t.fail(),
    },
  });
  return { opened, ending, socket: join(folder, 'run-dir', 'agent.sock') };
}

test.serial('the agent says that it waits for the underlay as long as it does', async (t) => {
  sh('ip link set lo up; ip link add eth0 type veth peer eth1; ip link set eth0 up; ip link set eth1 up');
  const { opened } = opening(t, ['--etcd=http://127.0.0.1:1']);
  await until('the agent waits', async () => /waiting for the underlay/.test(await ready()));
  sh('ip addr add 192.0.2.1/24 dev eth0; ip route add default via 192.0.2.254');
  const { readiness, underlay } = await opened;
  t.is(underlay.current.ip.toString(), '192.0.2.1');
  t.deepEqual(readiness.now(), { ready: false, reason: 'the agent: starting' });
});

test.serial('the agent says that it waits for its certificate as long as it does', async (t) => {
  sh('ip link set lo up');
  const token = formatToken(newToken('a'.repeat(50)));
  const { opened, ending, socket } = opening(t, [`--token=${token}`, '--controller=127.0.0.1:1']);
  const failed = t.throwsAsync(opened, undefined, 'stopped while it waits');
  await until('the agent waits', async () => /waiting for a certificate: .*127/.test(await ready()));
  const client = new StatusServiceClient(`unix:${socket}`, ...channel('', undefined));
  const status = await call(
    client.getStatus.bind(client),
    {},
    { peer: 'the agent', deadlineMs: 5000 },
  ).finally(() => client.close());
  t.is(status.health, 'down');
  t.is(status.node?.name, 'n1');
  t.regex(
    status.problems[0]?.why ?? '',
    /^waiting for a certificate: the controller at 127\.0\.0\.1:1 is not/,
  );
  ending.abort(new Error('the test has ended'));
  await failed;
});
