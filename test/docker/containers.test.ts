// Containers of two real Docker hosts on networks of weft.
//
// Their addresses, routes and names, and how Docker and weft show them.
import test from 'ava';

import { bare } from '../lab/cluster.js';
import type { DockerHost } from '../lab/docker.js';
import { shareAmongTests } from '../lab/fresh.js';
import { connection, DockerCluster, pings, pingsNot, refused, start } from './cluster.js';

let lab: DockerCluster;

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  await lab.createOnBoth('--subnet', '10.9.0.0/16', 'blue');
  await lab.createOnBoth('--subnet', '10.10.0.0/16', '--ipv6', '--subnet', 'fd00:10::/48', 'red');
  await start(lab.h1, 'web', '--network', 'blue');
  await start(lab.h2, 'db', '--network', 'blue', '--network-alias', 'database');
}

shareAmongTests(test, setUp, async () => lab?.down());

test.serial('containers of both hosts reach each other and the outside', async (t) => {
  const [web, db] = [await connection(lab.h1, 'web', 'blue'), await connection(lab.h2, 'db', 'blue')];
  await pings(t, lab.h1, 'web', db.IPAddress);
  await pings(t, lab.h2, 'db', web.IPAddress);
  await pings(t, lab.h1, 'web', '198.51.100.1');
});

test.serial('docker inspect agrees with the container’s interface', async (t) => {
  const { IPAddress, IPPrefixLen, Gateway, MacAddress } = await connection(lab.h1, 'web', 'blue');
  const { stdout: link } = await lab.h1.in('web', 'ip -o link show eth0; ip -o -4 addr show eth0; ip route');
  t.true(link.includes(MacAddress));
  t.true(link.includes(`${IPAddress}/${IPPrefixLen}`));
  t.true(link.includes(`default via ${Gateway} dev eth0`));
  t.true(link.includes(`10.9.0.0/16 via ${Gateway} dev eth0`));
  t.regex(link, /mtu 1450/);
});

test.serial('weft shows Docker’s containers with their host, names and aliases', async (t) => {
  const found = await lab.until('the names are learnt', async () => {
    const all = await lab.endpoints('blue', 2);
    return all.every(({ target, ifname }) => /^docker:(web|db)$/.test(target) && ifname === 'eth0') && all;
  });
  const web = found.find(({ name }) => name === 'web');
  const db = found.find(({ name }) => name === 'db');
  t.like(web, { node: 'h1', target: 'docker:web', mtu: 1450 });
  t.like(db, { node: 'h2', target: 'docker:db' });
  t.is(bare(web?.ip ?? ''), (await connection(lab.h1, 'web', 'blue')).IPAddress);
  t.is(web?.mac, (await connection(lab.h1, 'web', 'blue')).MacAddress);
  t.true((db as unknown as { aliases: string[] }).aliases.includes('database'));
  await lab.h2.ask('rename', 'db', 'store');
  await lab.until('the new name is learnt', async () =>
    (await lab.endpoints('blue', 2)).some(({ name }) => name === 'store'),
  );
  await lab.h2.ask('rename', 'store', 'db');
});

test.serial('a container of the other host resolves by its name and its alias', async (t) => {
  const { Gateway } = await connection(lab.h1, 'web', 'blue');
  const { IPAddress } = await connection(lab.h2, 'db', 'blue');
  await start(lab.h1, 'asker', '--network', 'blue', '--dns', Gateway);
  for (const name of ['db', 'database', 'db.blue.weft']) {
    await lab.until(`${name} is answered`, async () =>
      (await lab.h1.in('asker', `nslookup ${name}`)).stdout.includes(IPAddress),
    );
    t.is((await lab.h1.in('asker', `ping -c 1 -W 5 ${name}`)).code, 0, name);
  }
  t.not((await lab.h1.in('asker', 'nslookup nobody.blue.weft')).code, 0);
  await lab.h1.ask('rm', '-f', 'asker');
});

test.serial('--ip works, also with an address of the other host’s subnet', async (t) => {
  const web = await connection(lab.h1, 'web', 'blue');
  const db = await connection(lab.h2, 'db', 'blue');
  const own = web.Gateway.replace(/1$/, '77');
  const other = db.Gateway.replace(/1$/, '88');
  await start(lab.h1, 'own', '--network', 'blue', '--ip', own);
  await start(lab.h1, 'far', '--network', 'blue', '--ip', other);
  t.is((await connection(lab.h1, 'own', 'blue')).IPAddress, own);
  t.like(await connection(lab.h1, 'far', 'blue'), {
    IPAddress: other,
    IPPrefixLen: 32,
    Gateway: web.Gateway,
  });
  await pings(t, lab.h1, 'far', db.IPAddress);
  await pings(t, lab.h2, 'db', other);
  await pings(t, lab.h2, 'db', own);
  await pings(t, lab.h1, 'far', '198.51.100.1');
  for (const [host, ip] of [
    [lab.h1, own],
    [lab.h1, other],
    [lab.h2, other],
    [lab.h1, db.IPAddress],
  ] as const)
    await refused(
      t,
      host,
      ['run', '--rm', '--network', 'blue', '--ip', ip, 'busybox', 'true'],
      /in use|claimed/,
    );
  for (const [ip, words] of [
    [web.Gateway, /is the gateway/],
    ['10.10.0.5', /not an address|does not belong/],
  ] as const)
    await refused(t, lab.h1, ['run', '--rm', '--network', 'blue', '--ip', ip, 'busybox', 'true'], words);
  // Each time the address is still being released when Docker asks for it again.
  for (let n = 1; n <= 3; n++) await lab.h1.ask('restart', '-t', '1', 'far');
  for (let n = 1; n <= 2; n++) {
    await lab.h1.ask('rm', '-f', 'far');
    await start(lab.h1, 'far', '--network', 'blue', '--ip', other);
  }
  t.is((await connection(lab.h1, 'far', 'blue')).IPAddress, other);
  await pings(t, lab.h2, 'db', other);
  await lab.h1.ask('rm', '-f', 'own', 'far');
  await start(lab.h2, 'again', '--network', 'blue', '--ip', other);
  t.is((await connection(lab.h2, 'again', 'blue')).IPPrefixLen, 24);
  await lab.h2.ask('rm', '-f', 'again');
});

/** Of the pings of a second; without an announcement a neighbour loses those of half a minute. */
const MAY_LOSE = 5;

test.serial('a static address moves to the other host: its old neighbours on both follow', async (t) => {
  const ip = (await connection(lab.h2, 'db', 'blue')).Gateway.replace(/1$/, '99');
  const lost: number[] = [];
  const claims = (): Promise<string> =>
    lab.cluster.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/blue/claims/');
  for (const host of [lab.h2, lab.h1, lab.h2, lab.h1]) {
    await start(host, 'mover', '--network', 'blue', '--ip', ip);
    const reached = async (on: DockerHost, neighbour: string): Promise<void> => {
      const { sent, received } = await on.pingFrom(neighbour, ip, { count: 10 });
      lost.push(sent - received);
      t.true(received >= sent - MAY_LOSE, `${host.name}: ${neighbour} lost ${sent - received} of ${sent}`);
    };
    await Promise.all([reached(lab.h1, 'web'), reached(lab.h2, 'db')]);
    await host.ask('rm', '-f', 'mover');
    await lab.until('its address is given back', async () => (await claims()).trim() === '');
  }
  t.log(`lost pings of 10: ${lost.join(', ')}`);
});

test.serial('--mac-address and --ip6 work, also when the container is restarted or made anew', async (t) => {
  const special6 = 'fd00:10:0:fff0::5';
  const make = (): Promise<void> =>
    start(
      lab.h1,
      'special',
      ...['--network', 'red', '--mac-address', '02:42:ac:11:00:99', '--ip6', special6],
    );
  await make();
  for (let n = 1; n <= 2; n++) await lab.h1.ask('restart', '-t', '0', 'special');
  await lab.h1.ask('rm', '-f', 'special');
  await make();
  const special = await connection(lab.h1, 'special', 'red');
  t.like(special, {
    MacAddress: '02:42:ac:11:00:99',
    GlobalIPv6Address: special6,
    GlobalIPv6PrefixLen: 128,
  });
  await start(lab.h2, 'six', '--network', 'red');
  t.regex((await lab.h1.in('special', 'cat /sys/class/net/eth0/address')).stdout, /^02:42:ac:11:00:99$/m);
  await pings(t, lab.h2, 'six', special6);
  await pings(t, lab.h1, 'special', (await connection(lab.h2, 'six', 'red')).GlobalIPv6Address);
  await lab.h1.ask('rm', '-f', 'special');
  await lab.h2.ask('rm', '-f', 'six');
});

test.serial('a running container is connected to a second network and disconnected', async (t) => {
  await start(lab.h2, 'red2', '--network', 'red');
  const red2 = await connection(lab.h2, 'red2', 'red');
  const web = await connection(lab.h1, 'web', 'blue');
  await pingsNot(t, lab.h1, 'web', red2.IPAddress);
  await lab.h1.ask('network', 'connect', '--alias', 'also', 'red', 'web');
  const here = await connection(lab.h1, 'web', 'red');
  await pings(t, lab.h1, 'web', red2.IPAddress);
  await pings(t, lab.h2, 'red2', here.IPAddress);
  await pings(t, lab.h1, 'web', (await connection(lab.h2, 'db', 'blue')).IPAddress);
  const { stdout: routes } = await lab.h1.in('web', 'ip route');
  t.true(routes.includes(`10.9.0.0/16 via ${web.Gateway} dev eth0`), routes);
  t.true(routes.includes(`10.10.0.0/16 via ${here.Gateway} dev eth1`), routes);
  t.is(routes.match(/^default/gm)?.length, 1);
  const endpoint = await lab.until('weft knows it', async () =>
    (await lab.endpoints('red', 2)).find(({ name, ifname }) => name === 'web' && ifname === 'eth1'),
  );
  t.true((endpoint as unknown as { aliases: string[] }).aliases.includes('also'));
  await lab.h1.ask('network', 'disconnect', 'red', 'web');
  t.is((await lab.h1.in('web', 'ls /sys/class/net')).stdout.trim().split(/\s+/).sort().join(' '), 'eth0 lo');
  await pings(t, lab.h1, 'web', (await connection(lab.h2, 'db', 'blue')).IPAddress);
  // The network with the default route is disconnected, and the other one takes over.
  await lab.h1.ask('network', 'connect', 'red', 'web');
  await lab.h1.ask('network', 'disconnect', 'blue', 'web');
  t.regex((await lab.h1.in('web', 'ip route')).stdout, /^default via 10\.10\./m);
  await pings(t, lab.h1, 'web', '198.51.100.1');
  await lab.h1.ask('network', 'connect', '--ip', web.IPAddress, 'blue', 'web');
  await lab.h1.ask('network', 'disconnect', 'red', 'web');
  await pings(t, lab.h2, 'db', web.IPAddress);
  await lab.h2.ask('rm', '-f', 'red2');
});

test.serial('containers attached by weft and by Docker share a network', async (t) => {
  const holder = await lab.cluster.lab.anonymous();
  const attached = await lab.cluster.json<{ ip: string }>(
    'h1',
    'attach',
    'blue',
    `pid:${holder.pid}`,
    '--name',
    'plain',
  );
  await pings(t, lab.h2, 'db', bare(attached.ip));
  await pings(t, lab.h1, 'web', bare(attached.ip));
  t.is((await lab.endpoints('blue', 3)).find(({ name }) => name === 'plain')?.node, 'h1');
  // Docker cannot allocate that address.
  await refused(
    t,
    lab.h1,
    ['run', '--rm', '--network', 'blue', '--ip', bare(attached.ip), 'busybox', 'true'],
    /in use/,
  );
  // A container on Docker's default bridge joins the network by weft's own command.
  await start(lab.h1, 'bridged');
  await lab.cluster.json('h1', 'attach', 'blue', 'docker:bridged');
  await pings(t, lab.h1, 'bridged', (await connection(lab.h2, 'db', 'blue')).IPAddress);
  await lab.cluster.json('h1', 'detach', 'blue', 'docker:bridged');
  await lab.cluster.json('h1', 'detach', 'blue', `pid:${holder.pid}`);
  // An endpoint of Docker's is detached by Docker only.
  const { code, stderr } = await lab.cluster.weft('h1', 'detach', 'blue', 'docker:web');
  t.is(code, 1);
  t.regex(stderr, /docker network disconnect/);
  await lab.h1.ask('rm', '-f', 'bridged');
  await holder.kill();
});

test.serial('damage inside a container is repaired', async (t) => {
  const db = await connection(lab.h2, 'db', 'blue');
  await start(lab.h1, 'broken', '--network', 'blue', '--cap-add', 'NET_ADMIN');
  await lab.until('weft has the endpoint', async () =>
    (await lab.endpoints('blue', 3)).some(({ name, ifname }) => name === 'broken' && ifname === 'eth0'),
  );
  await lab.h1.in('broken', 'ip route del 10.9.0.0/16; ip route del default');
  await lab.until(
    'the routes are restored',
    async () => (await lab.h1.in('broken', `ping -c 1 -w 1 ${db.IPAddress}`)).code === 0,
  );
  t.regex((await lab.h1.in('broken', 'ip route')).stdout, /^default via/m);
  await lab.h1.ask('rm', '-f', 'broken');
});

test.serial('the address of a stopped container is free, and Docker’s own rules are untouched', async (t) => {
  const rules = async (): Promise<string> =>
    (await lab.h1.must(['iptables-save'])).replace(/^[#:].*$/gm, '').replace(/\[\d+:\d+\]/g, '');
  const before = await rules();
  await start(lab.h1, 'brief', '--network', 'blue');
  const { IPAddress } = await connection(lab.h1, 'brief', 'blue');
  t.is(await rules(), before);
  await lab.h1.ask('stop', '-t', '0', 'brief');
  await lab.endpoints('blue', 2);
  await start(lab.h1, 'taker', '--network', 'blue', '--ip', IPAddress);
  await lab.h1.ask('start', 'brief');
  t.not((await connection(lab.h1, 'brief', 'blue')).IPAddress, IPAddress);
  await lab.h1.ask('rm', '-f', 'brief', 'taker');
  await lab.endpoints('blue', 2);
  t.notRegex(await lab.h1.must(['ip', '-o', 'link']), /wfin/);
  t.is((await lab.h1.must(['ip', '-o', 'link'])).match(/wfep/g)?.length, 1);
});
