// The package on Debian 12 and 13, in one cluster: installed, upgraded under traffic, removed, purged. No Node.js is there.
import { rmSync } from 'node:fs';

import test, { type ExecutionContext } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { DebianHost } from '../lab/debian-host.js';
import { shareAmongTests } from '../lab/fresh.js';
import { Lab, type Namespace } from '../lab/lab.js';
import { Meter, monotonic } from '../lab/meter.js';
import { EARLIER, packageFolder } from './packages.js';

let lab: Lab;
let folder: string;
let hosts: readonly [DebianHost, DebianHost];
let containers: readonly [Namespace, Namespace];

shareAmongTests(
  test,
  async () => {
    lab = await Lab.up({ hosts: 2 });
    folder = await packageFolder();
    hosts = await Promise.all([
      DebianHost.up(lab, 1, 'bookworm', folder),
      DebianHost.up(lab, 2, 'trixie', folder),
    ]);
    containers = await Promise.all([lab.container('c1'), lab.container('c2')]);
  },
  async () => {
    await lab?.down();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  },
);

async function json<T>(host: DebianHost, line: string): Promise<T> {
  return JSON.parse(await host.run(`weft ${line} -o json`)) as T;
}

/** Standard input is empty: a question of dpkg's is a failure. */
const dpkg = (host: DebianHost, line: string): Promise<string> => host.run(`dpkg ${line} </dev/null 2>&1`);

/** A cluster of both hosts with a container each. @returns the address of the second */
async function cluster(): Promise<string> {
  const [h1, h2] = hosts;
  const { next } = await json<{ next: string[] }>(h1, `init --advertise ${h1.ip}`);
  await h2.run(`${next[0] ?? ''} --node two`);
  await h1.run('weft network create blue --subnet 10.100.0.0/16');
  const ends = await Promise.all(
    containers.map(async (container, i) => {
      const holder = container.spawn('holder', ['sleep', 'infinity']);
      const host = hosts[i] as DebianHost;
      return json<EndpointJson>(host, `attach blue pid:${holder.pid}`);
    }),
  );
  return bare(ends[1]?.ip ?? '');
}

/** What a purge must leave nothing of. */
const left = (host: DebianHost): Promise<string> =>
  host.run(`{
    ls -d /etc/weft /var/lib/weft* /var/lib/private/weft* /run/weft /usr/bin/weft /usr/lib/weft /etc/systemd/system/weft*
    find / -xdev -path /proc -prune -o -name '*weft*' -not -path '/packages*' -not -path '/var/lib/dpkg/*' -not -path '/run/units/*' -not -path '/var/log/*' -not -path '/var/cache/man/*' -print
    ip -br link | grep ^wf; ip route show proto 119; ps ax 2>/dev/null | grep '[w]eft'
  } 2>/dev/null; true`);

test.serial('install, init, join, upgrade under traffic, removal, purge', async (t) => {
  const [h1, h2] = hosts;
  await Promise.all(hosts.map((host) => dpkg(host, '-i /packages/old.deb')));
  for (const host of hosts) {
    t.not((await host.sh('command -v node')).code, 0);
    // Nothing runs by the installation alone.
    t.is(await host.run('ls /run/units 2>/dev/null; true'), '');
    await installed(t, host);
  }
  const ip = await cluster();
  // The units are the package's.
  t.is(await h1.run('ls /etc/systemd/system | grep weft; true'), '');
  const meter = await Meter.start(containers[0], containers[1], ip);
  t.teardown(() => meter.stop());
  const began = monotonic();

  const agents = await Promise.all(hosts.map((host) => host.run('cat /run/units/weft-agent.pid')));
  for (const host of [h2, h1]) {
    await dpkg(host, '-i /packages/new.deb');
    await lab.until('the agent is ready again', async () => (await host.sh('weft status -q')).code === 0);
  }
  const after = await Promise.all(hosts.map((host) => host.run('cat /run/units/weft-agent.pid')));
  t.true(after.every((pid, i) => pid !== agents[i]));
  for (const host of hosts) t.not((await host.run(`dpkg-query -W -f '\${Version}' weft`)).trim(), EARLIER);
  const upgraded = await meter.settled(began);
  t.deepEqual([upgraded.lost, upgraded.stream.broken], [0, undefined]);

  await dpkg(h2, '-r weft');
  t.not((await h2.sh('command -v weft')).code, 0);
  t.not((await h2.sh('systemctl is-active weft-agent.service')).code, 0);
  t.regex(await h2.run('ip -br link'), /^wfvx/m);
  t.is((await meter.settled(began)).lost, 0);
  // It may come back, and go on.
  await dpkg(h2, '-i /packages/new.deb');
  await h2.run('systemctl enable --now weft-agent.service');
  await lab.until('the agent is ready again', async () => (await h2.sh('weft status -q')).code === 0);
  t.is((await meter.settled(began)).lost, 0);

  await dpkg(h2, '-r weft');
  await h2.run('touch /etc/weft/own.pem');
  await dpkg(h2, '-P weft');
  t.is(await left(h2), '/etc/weft\n/etc/weft\n');
  t.is(await h2.run('ls /etc/weft && rm -r /etc/weft'), 'own.pem\n');
  const nodes = await json<{ name: string }[]>(h1, 'node ls');
  t.deepEqual(
    nodes.map(({ name }) => name),
    ['h1'],
  );
  // Installed, and purged at once.
  await dpkg(h1, '-P weft');
  t.is(await left(h1), '');
  t.is(await h1.run(`ss -Hltn 'sport = 2379 or sport = 7400'`), '');
});

/** Manual pages, completion, settings, and what other services read. */
async function installed(t: ExecutionContext, host: DebianHost): Promise<void> {
  t.regex(await host.run('weft --version'), /^\d+\.\d+\.\d+/);
  t.regex(await host.run('man weft-network 2>&1 | cat'), /weft network create.*--subnet/s);
  t.is(
    await host.run('man --warnings -E UTF-8 -l -Tutf8 -Z /usr/share/man/man8/weft*.gz 2>&1 >/dev/null'),
    '',
  );
  t.regex(await host.run('weft completion bash'), /complete -o default/);
  t.is(await host.run('dpkg --verify weft'), '');
  t.regex(await host.run("dpkg-query -W -f '${Conffiles}' weft"), /\/etc\/weft\/agent\.yaml/);
  t.regex(
    await host.run('cat /usr/lib/systemd/network/10-weft.network'),
    /^Name=wf\*\n\n\[Link\]\nUnmanaged=yes$/m,
  );
  // Its native parts are the package's.
  t.is((await host.sh('weft agent --help >/dev/null && test ! -e /var/lib/weft')).code, 0);
}

test.serial('the archive installs weft and takes it away again', async (t) => {
  const [, host] = hosts;
  const script = 'cd $(mktemp -d) && tar -xzf /packages/weft.tar.gz && cd weft-* && ./install.sh';
  await host.run(script);
  t.is((await host.run('command -v weft')).trim(), '/usr/local/bin/weft');
  await host.run('weft init --no-start');
  t.regex(
    await host.run('cat /etc/systemd/system/weft-agent.service'),
    /^ExecStart=\/usr\/local\/bin\/weft agent$/m,
  );
  const refused = await host.sh(`${script} --uninstall`);
  t.is(refused.code, 1);
  await host.run('weft leave --no-start --force');
  await host.run(`${script} --uninstall && rm -rf /tmp/*`);
  t.is(await left(host), '');
});
