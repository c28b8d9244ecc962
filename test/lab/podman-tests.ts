// What users of podman do, on networks of weft's on two hosts: the same with CNI (podman 4) and with netavark (podman 5).
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { TestFn } from 'ava';

import { bare, Cluster, type EndpointJson } from './cluster.js';
import { shareAmongTests } from './fresh.js';
import { IMAGE, podmanHosts, type PodmanHost } from './podman.js';
import { reboot } from './reboot.js';

interface Endpoint extends EndpointJson {
  manager: string;
  aliases: string[];
  labels: Record<string, string>;
}

/** @param test the file's own @param labels of the container web */
export function podmanTests(
  test: TestFn,
  make: new (...args: ConstructorParameters<typeof PodmanHost>) => PodmanHost,
  manager: string,
  labels: Record<string, string>,
): void {
  let lab: Cluster;
  let h1: PodmanHost;
  let h2: PodmanHost;

  shareAmongTests(
    test,
    async () => {
      lab = await Cluster.create(2);
      const [hosts] = await Promise.all([podmanHosts(lab, ['h1', 'h2'], make), lab.startController()]);
      [h1, h2] = hosts as [PodmanHost, PodmanHost];
      await lab.startAgents(['h1', 'h2']);
      await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
      await lab.json('h1', 'network', 'create', 'red', '--subnet', '10.101.0.0/16');
      for (const host of [h1, h2]) await host.install(lab, 'blue', 'red');
    },
    async () => {
      for (const host of [h1, h2]) await host?.podman('rm', '-f', '-a', '-t', '0');
      await lab?.lab.down();
    },
    async (t) => {
      for (const host of [h1, h2]) await host.ask('rm', '-f', '-a', '-t', '0');
      t.deepEqual(await listed(0), []);
      for (const host of ['h1', 'h2']) t.notRegex(await lab.sh(host, 'ip -br link'), /wfep/, host);
    },
  );

  /** Waits until the cluster has heard of so many. */
  const listed = (count: number): Promise<Endpoint[]> =>
    lab.until(`${count} endpoints are listed`, async () => {
      const all = await lab.json<Endpoint[]>('h1', 'endpoint', 'ls');
      return all.length === count && all.toSorted((a, b) => a.name.localeCompare(b.name));
    });

  /** Waits until a container of h1 reaches an address. */
  const reaches = (container: string, ip: string): Promise<true> =>
    lab.until(
      `${container} reaches ${ip}`,
      async () => (await h1.in(container, `ping -c 1 -W 1 ${ip}`)).code === 0,
    );

  test.serial('containers of two hosts: addresses, names, aliases, ports', async (t) => {
    await h1.start('web', '--network', 'blue', '--network-alias', 'www', '-p', '8080:80');
    await h2.start('db', '--network', 'blue');
    const [db, web] = await listed(2);
    t.is(await h1.addressOf('web', 'blue'), bare(web?.ip ?? ''));
    t.is(await h2.addressOf('db', 'blue'), bare(db?.ip ?? ''));
    t.like(web, { name: 'web', node: 'h1', manager });
    t.true(web?.aliases.includes('www'));
    t.like(web?.labels, labels);
    await reaches('web', bare(db?.ip ?? ''));
    // podman writes the name server and the search domain of the answer.
    for (const name of ['web', 'www', 'web.blue.weft']) {
      const { stdout } = await h2.in('db', `nslookup ${name}`);
      t.true(stdout.includes(bare(web?.ip ?? '')), `${name}: ${stdout}`);
    }
    t.is((await h1.in('web', 'echo hello >/index.html && httpd -p 80 -h /')).code, 0);
    const page = 'curl -sf --max-time 5 http://192.0.2.11:8080/';
    t.is(await lab.sh('h2', page), 'hello\n');
    t.is(await lab.sh('infra', page), 'hello\n');
    t.is((await h2.in('db', 'wget -q -O - http://192.0.2.11:8080/')).stdout, 'hello\n');
    await h1.ask('network', 'reload', 'web');
    t.is((await listed(2)).length, 2);
    await reaches('web', bare(db?.ip ?? ''));
  });

  test.serial(
    'an address and a MAC of the user’s choice; what is taken is refused and leaves nothing',
    async (t) => {
      await h1.start('one', '--network', 'blue');
      const wanted = (await h1.addressOf('one', 'blue')).replace(/\d+$/, '77');
      await h1.start('two', '--network', 'blue', '--ip', wanted, '--mac-address', '02:00:00:00:00:2a');
      t.is(await h1.addressOf('two', 'blue'), wanted);
      t.is((await h1.in('two', 'cat /sys/class/net/eth0/address')).stdout, '02:00:00:00:00:2a\n');
      const { code, stderr } = await h1.podman(
        ...['run', '--rm', '--cgroup-parent', `/${h1.namespace}`, '--network', `blue:ip=${wanted}`],
        ...[IMAGE, 'true'],
      );
      t.not(code, 0);
      t.regex(stderr, /is in use by two/);
      t.is((await listed(2)).length, 2);
    },
  );

  test.serial('two networks, connect and disconnect', async (t) => {
    // podman asks for the port on each of them.
    await h1.start('both', '--network', 'blue', '--network', 'red', '-p', '8081:81');
    await h2.start('peer', '--network', 'red');
    const red = await h2.addressOf('peer', 'red');
    await reaches('both', red);
    t.is((await h1.in('both', 'ip route | grep -c ^default')).stdout, '1\n');
    t.is((await listed(3)).flatMap(({ publish }) => publish).length, 1);
    await h1.ask('network', 'disconnect', 'red', 'both');
    await listed(2);
    t.not((await h1.in('both', `ping -c 1 -W 1 ${red}`)).code, 0);
    await h1.ask('network', 'connect', 'red', 'both');
    await listed(3);
    await reaches('both', red);
  });

  test.serial('restart, kill -9, and a stop that the agent does not hear of', async (t) => {
    await h1.start('again', '--network', 'blue');
    await h1.ask('restart', '-t', '0', 'again');
    const [again] = await listed(1);
    t.is(await h1.addressOf('again', 'blue'), bare(again?.ip ?? ''));
    t.is((await h1.in('again', `ping -c 1 -w 5 ${again?.gateway ?? ''}`)).code, 0);
    await h1.ask('kill', '-s', 'KILL', 'again');
    await listed(0);
    await h1.ask('start', 'again');
    await listed(1);
    await lab.process('agent-h1').kill();
    await h1.podman('stop', '-t', '0', 'again');
    await lab.startAgents(['h1']);
    await listed(0);
    await h1.ask('start', 'again');
    const [last] = await listed(1);
    t.is(await h1.addressOf('again', 'blue'), bare(last?.ip ?? ''));
  });

  test.serial(
    'a restart of the host: what starts again has an address, and what does not has none',
    async (t) => {
      await h2.start('far', '--network', 'blue');
      await h1.start(
        'steady',
        '--network',
        'blue',
        '--network',
        'red',
        '--restart',
        'always',
        '-p',
        '8082:80',
      );
      await h1.start('gone', '--network', 'blue');
      await listed(4);
      await lab.process('agent-h1').kill();
      await h1.loseContainers();
      await reboot(lab, 'h1');
      await lab.startAgents(['h1']);
      await listed(1);
      // As podman-restart.service does.
      await h1.ask('start', '--all', '--filter', 'restart-policy=always');
      const all = await listed(3);
      for (const { name, network, ip } of all)
        if (name === 'steady') t.is(await h1.addressOf(name, network), bare(ip));
      t.is(all.flatMap(({ publish }) => publish).length, 1);
      await reaches('steady', await h2.addressOf('far', 'blue'));
      t.is(readdirSync(join(lab.lab.host(1).stateDir, 'endpoints')).length, 2);
      await h1.ask('start', 'gone');
      await listed(4);
    },
  );
}
