// `weft init`, `join` and `leave` under a real systemd: one machine that boots it, and a host of the lab beside it.
import { existsSync } from 'node:fs';

import test from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { ServiceHost } from '../lab/service-host.js';
import type { Machine } from './machine.js';
import { Machines } from './machines.js';

const SYSTEMD = ['/lib/systemd/systemd', '/usr/lib/systemd/systemd'].find((path) => existsSync(path));
/** For each daemon: it starts ten to twenty times slower here. */
const WAIT = ['--wait', '300'];

let machines: Machines;
let beside: ServiceHost;

test.before(async () => {
  if (SYSTEMD === undefined) throw new Error('there is no systemd on this machine (Debian: systemd)');
  machines = await Machines.boot({ count: 1, beside: 1, systemd: SYSTEMD });
  beside = await ServiceHost.up(machines.lab, 1);
});
test.after.always(async () => machines?.down());

async function json<T>(host: Machine, ...args: string[]): Promise<T> {
  // Not the settings of the other tests here.
  host.environment = {};
  return await host.json<T>(...args);
}

const stateOf = async (host: Machine, unit: string): Promise<string> =>
  (await host.try(`systemctl is-active ${unit}; systemctl is-enabled ${unit}`)).stdout.trim();

test.serial('init makes a cluster, which another host joins as printed; leave undoes it', async (t) => {
  const host = machines.host(2);
  const made = await json<{ controller: string; next: string[] }>(host, 'init', ...WAIT);
  t.is(made.controller, `${host.ip}:7400`);
  for (const unit of ['weft-controller', 'weft-agent']) t.is(await stateOf(host, unit), 'active\nenabled');
  // The controller is a user of its own, and its state and the token in it are for root and that user alone.
  t.not((await host.sh('ps -o uid= -p $(systemctl show -p MainPID --value weft-controller)')).trim(), '0');
  t.is(
    (await host.sh('stat -c %a /var/lib/weft-controller/ /var/lib/weft-controller/node-token')).trim(),
    '700\n600',
  );

  await beside.run(made.next[0] ?? '', { timeoutMs: 60_000 });
  await json(host, 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  await host.containers('c1');
  await json<EndpointJson>(host, 'attach', 'blue', 'c1');
  const container = await machines.lab.anonymous('c2');
  const far = JSON.parse(await beside.run(`weft attach blue pid:${container.pid} -o json`)) as EndpointJson;
  await machines.lab.until('they reach each other', () => host.reaches('c1', bare(far.ip)));

  // Killed, it comes back, with what it had.
  await host.sh('systemctl kill -s KILL weft-controller');
  await machines.lab.until('the controller is ready again', async () => {
    return (await host.try('curl -sf http://127.0.0.1:7401/readyz')).code === 0;
  });
  await beside.run('weft leave', { timeoutMs: 60_000 });
  await json(host, 'leave');
  for (const unit of ['weft-controller', 'weft-agent']) t.regex(await stateOf(host, unit), /^inactive/);
  t.is(
    await host.sh('ls -d /etc/weft /var/lib/weft* /var/lib/private/weft* /run/weft 2>/dev/null; true'),
    '',
  );
  t.is(await host.sh('ls /etc/systemd/system | grep weft; ip -br link | grep ^wf; true'), '');

  // The other way round: the machine joins a cluster of the host beside it.
  const other = JSON.parse(await beside.run('weft init -o json')) as { next: string[] };
  const [, ...words] = (other.next[0] ?? '').split(' ');
  await json(host, ...words, ...WAIT);
  t.is(await stateOf(host, 'weft-agent'), 'active\nenabled');
  const nodes = JSON.parse(await beside.run('weft node ls -o json')) as { name: string; state: string }[];
  t.deepEqual(
    nodes.map(({ name, state }) => `${name} ${state}`),
    ['h1 up', 'h2 up'],
  );
});
