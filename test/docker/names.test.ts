// Names in containers of Docker: the address for --dns, the gateways, and one alias on several hosts.
import test, { type ExecutionContext } from 'ava';

import type { DockerHost } from '../lab/docker.js';
import { shareAmongTests } from '../lab/fresh.js';
import { connection, CREATE, DockerCluster, start } from './cluster.js';

let lab: DockerCluster;

/** The same on every host. */
const RESOLVER = '169.254.53.53';

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  await lab.createOnBoth('--subnet', '10.9.0.0/16', 'blue');
  await start(lab.h1, 'db', '--network', 'blue', '--network-alias', 'store');
}

shareAmongTests(test, setUp, async () => lab?.down());

/** The links of a container by which the address is reached. */
async function resolverLinks(host: DockerHost, container: string): Promise<string[]> {
  const { stdout } = await host.in(container, `ip route show ${RESOLVER}`);
  return [...stdout.matchAll(/dev (\S+)/g)].map(([, link = '']) => link);
}

/** The addresses that a name has there, by the container's own resolv.conf or a server. */
async function addresses(host: DockerHost, container: string, name: string, server = ''): Promise<string[]> {
  const { stdout } = await host.in(container, `nslookup ${name} ${server}`);
  // Behind the server's own address: a section for each family, in either order.
  const answer = stdout.split(/\n\n/).slice(1).join('\n');
  return [...answer.matchAll(/Address:\s+(\S+)/g)].map(([, ip = '']) => ip).toSorted();
}

async function resolves(
  t: ExecutionContext,
  host: DockerHost,
  container: string,
  name = 'db',
): Promise<void> {
  const { IPAddress } = await connection(lab.h1, 'db', 'blue');
  await lab.until(`${container} resolves ${name}`, async () =>
    (await addresses(host, container, name)).includes(IPAddress),
  );
  t.pass();
}

test.serial('one address for --dns on every host, on any network', async (t) => {
  for (const host of [lab.h1, lab.h2]) {
    await start(host, 'asker', '--network', 'blue', '--dns', RESOLVER);
    await resolves(t, host, 'asker');
    t.deepEqual(await resolverLinks(host, 'asker'), ['eth0']);
    t.true((await addresses(host, 'asker', 'db.blue.weft', RESOLVER)).length === 1);
    await host.ask('rm', '-f', 'asker');
  }
});

test.serial('of two networks the first has the route, and the other when that goes', async (t) => {
  await lab.createOnBoth('--subnet', '10.10.0.0/16', 'red');
  await start(lab.h2, 'two', '--network', 'red', '--dns', RESOLVER);
  await lab.h2.ask('network', 'connect', 'blue', 'two');
  t.deepEqual(await resolverLinks(lab.h2, 'two'), ['eth0']);
  await resolves(t, lab.h2, 'two', 'db.blue.weft');
  await lab.h2.ask('network', 'disconnect', 'red', 'two');
  await lab.until('the route is moved', async () => (await resolverLinks(lab.h2, 'two')).join() === 'eth1');
  await resolves(t, lab.h2, 'two', 'db');
  // Back again, as the second now.
  await lab.h2.ask('network', 'connect', 'red', 'two');
  t.deepEqual(await resolverLinks(lab.h2, 'two'), ['eth1']);
  await lab.h2.ask('restart', '-t', '0', 'two');
  t.is((await resolverLinks(lab.h2, 'two')).length, 1);
  await resolves(t, lab.h2, 'two', 'db.blue.weft');
  await lab.h2.ask('rm', '-f', 'two');
  await lab.removeFromBoth('red');
});

test.serial('with one of Docker’s bridges first, and on an internal network', async (t) => {
  await lab.h2.ask('network', 'create', 'own');
  await start(lab.h2, 'bridged', '--network', 'own', '--dns', RESOLVER);
  t.deepEqual(await resolverLinks(lab.h2, 'bridged'), []);
  await lab.h2.ask('network', 'connect', 'blue', 'bridged');
  t.deepEqual(await resolverLinks(lab.h2, 'bridged'), ['eth1']);
  await resolves(t, lab.h2, 'bridged');
  await lab.h2.ask('rm', '-f', 'bridged');
  await lab.h2.ask('network', 'rm', 'own');

  await lab.createOnBoth('--subnet', '10.11.0.0/16', '--internal', 'inside');
  await start(lab.h1, 'vault', '--network', 'inside');
  await start(lab.h2, 'shut', '--network', 'inside', '--dns', RESOLVER);
  const { IPAddress } = await connection(lab.h1, 'vault', 'inside');
  t.deepEqual(await resolverLinks(lab.h2, 'shut'), ['eth0']);
  await lab.until(
    'the name of a container of the other host',
    async () => (await addresses(lab.h2, 'shut', 'vault', RESOLVER)).join() === IPAddress,
  );
  await lab.h1.ask('rm', '-f', 'vault');
  await lab.h2.ask('rm', '-f', 'shut');
  await lab.removeFromBoth('inside');
});

test.serial(
  'one alias on several hosts: the host’s own by itself, all of them by its full name',
  async (t) => {
    await start(lab.h2, 'db2', '--network', 'blue', '--network-alias', 'store');
    await start(lab.h2, 'asker', '--network', 'blue', '--dns', RESOLVER);
    const both = [
      (await connection(lab.h1, 'db', 'blue')).IPAddress,
      (await connection(lab.h2, 'db2', 'blue')).IPAddress,
    ];
    await lab.until(
      'both are known',
      async () => (await addresses(lab.h2, 'asker', 'store.blue.weft')).length === 2,
    );
    t.deepEqual(await addresses(lab.h2, 'asker', 'store.blue.weft'), both.toSorted());
    t.deepEqual(
      await addresses(lab.h2, 'asker', 'store'),
      both.slice(1),
      'Docker answers for its own containers',
    );
    await lab.h2.ask('rm', '-f', 'db2', 'asker');
  },
);

test.serial('a network that is removed and made again has the same gateway on each host', async (t) => {
  const gateways = async (name: string): Promise<string[]> => {
    const found: string[] = [];
    for (const host of [lab.h1, lab.h2]) {
      await start(host, 'here', '--network', name);
      const { Gateway, IPv6Gateway } = await connection(host, 'here', name);
      found.push(Gateway, IPv6Gateway);
      await host.ask('rm', '-f', 'here');
    }
    return found;
  };
  const small = ['--subnet', '10.12.0.0/24', '--ipv6', '--subnet', 'fd42:12::/56', 'small'];
  // Four subnets for two hosts: drawn again they would seldom be the same.
  await lab.createOnBoth(...small);
  const before = await gateways('small');
  for (let n = 0; n < 3; n++) {
    // In the other order, which is no derivation's.
    for (const host of [lab.h1, lab.h2]) await host.ask('network', 'rm', 'small');
    t.false(await lab.hasNetwork('small'), 'the network is another one');
    for (const host of [lab.h2, lab.h1]) await host.ask(...CREATE, ...small);
    t.deepEqual(await gateways('small'), before);
  }
  await lab.removeFromBoth('small');
  // Nor does Docker get another subnet where none is given.
  const subnetOf = async (): Promise<string> => {
    await lab.h1.ask(...CREATE, 'chosen');
    const { IPAM } = await lab.h1.inspect<{ IPAM: { Config: { Subnet: string }[] } }>(
      'network',
      'inspect',
      'chosen',
    );
    await start(lab.h1, 'here', '--network', 'chosen');
    const { Gateway } = await connection(lab.h1, 'here', 'chosen');
    await lab.h1.ask('rm', '-f', 'here');
    await lab.h1.ask('network', 'rm', 'chosen');
    return `${IPAM.Config[0]?.Subnet ?? ''} ${Gateway}`;
  };
  t.is(await subnetOf(), await subnetOf());
});
