// The first stage of the agent's start, on a node that has no address yet.
import { sh } from './private.js';

import { join } from 'node:path';

import test from 'ava';

import { agentProgram, agentSettingsFrom } from '../../agent/settings.js';
import { open } from '../../agent/start/open.js';
import { silentLogger } from '../../daemon/log.js';
import { loadSettings } from '../../daemon/settings.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { until } from '../lab/wait.js';

const HTTP = '127.0.0.1:7402';

test('the agent says that it waits for the underlay as long as it does', async (t) => {
  sh('ip link set lo up; ip link add eth0 type veth peer eth1; ip link set eth0 up; ip link set eth1 up');
  const folder = temporaryFolder(t, 'weft-open-');
  const folders = ['state-dir', 'run-dir'].map((key) => `--${key}=${join(folder, key)}`);
  const flags = ['--config=/dev/null', '--etcd=http://127.0.0.1:1', '--node=n1', `--http=${HTTP}`];
  const given = loadSettings(agentProgram, [...flags, ...folders], {});
  if (given.kind !== 'values') throw new Error('no settings');
  const stops: (() => void | Promise<void>)[] = [];
  t.teardown(async () => {
    for (const stop of stops.toReversed()) await stop();
  });
  const opening = open({
    identity: undefined,
    settings: agentSettingsFrom(given.values),
    log: silentLogger,
    shutdown: {
      signal: new AbortController().signal,
      add: (_name, stop) => void stops.push(stop),
      end: () => t.fail(),
    },
  });
  const ready = async (): Promise<string> => (await fetch(`http://${HTTP}/readyz`)).text();
  await until('the agent waits', async () => /waiting for the underlay/.test(await ready()));
  sh('ip addr add 192.0.2.1/24 dev eth0; ip route add default via 192.0.2.254');
  const { readiness, underlay } = await opening;
  t.is(underlay.current.ip.toString(), '192.0.2.1');
  t.deepEqual(readiness.now(), { ready: false, reason: 'the agent: starting' });
});
