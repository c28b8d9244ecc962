// Networks of the backend ipip between two virtual machines: Debian's kernel has IP in IP.
//
// Two of them share the one device, and are apart all the same; a network of the backend udp is beside them.
import type { TestFn } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import type { Machines } from './machines.js';

interface NetworkJson {
  backend: string;
  directRouting: boolean;
  move: unknown;
}
interface StatusJson {
  problems: unknown[];
}

/** Says one word to everybody. */
const SERVER = `require('net').createServer((s) => s.on('error', () => {}).end('hello')).listen(80, () => console.log('ready'))`;

const NETWORKS = [
  ['ip-a', '10.130.0.0/16', '--backend', 'ipip'],
  ['ip-b', '10.131.0.0/16', '--backend', 'ipip'],
  ['ud', '10.132.0.0/16', '--backend', 'udp'],
] as const;

export function ipipTests(test: TestFn, machines: () => Machines): void {
  test.serial('ipip: one device for two networks that are apart, beside udp', async (t) => {
    const [one, two] = [machines().host(1), machines().host(2)];
    const until = (what: string, holds: () => Promise<boolean>): Promise<unknown> =>
      machines().lab.until(what, holds, { context: () => machines().logs() });
    const ends = new Map<string, [EndpointJson, EndpointJson]>();
    t.teardown(async () => {
      for (const [name] of NETWORKS) await machines().weft('network', 'rm', name, '--force');
    });
    for (const [i, [name, subnet, ...flags]] of NETWORKS.entries()) {
      await machines().json('network', 'create', name, '--subnet', subnet, ...flags);
      await Promise.all([one.containers(`a${i}`), two.containers(`b${i}`)]);
      const published = i === 1 ? ['--publish', '8090:80'] : [];
      ends.set(
        name,
        await Promise.all([
          one.json<EndpointJson>('attach', name, `a${i}`),
          two.json<EndpointJson>('attach', name, `b${i}`, ...published),
        ]),
      );
    }
    const [a, b] = [ends.get('ip-a'), ends.get('ip-b')];
    if (a === undefined || b === undefined) return t.fail();
    t.is(a[0].mtu, 1480);
    for (const [i, [name]] of NETWORKS.entries()) {
      const ip = bare(ends.get(name)?.[1].ip ?? '');
      await until(`${name}: a reaches b`, () => one.reaches(`a${i}`, ip));
      await until(`${name}: the host reaches b`, () => one.reaches('', ip));
    }

    const capture = await machines().capture(one, 0, 'ip proto 4');
    t.true(await one.reaches('a0', bare(a[1].ip)));
    await capture.sees(new RegExp(`${bare(a[0].ip)} > ${bare(a[1].ip)}: ICMP echo request`));
    await capture.stop();
    const { stdout } = await one.try(`ip netns exec a0 ping -c 1 -W 20 -M do -s 1452 ${bare(a[1].ip)}`);
    t.regex(stdout, / 0% packet loss/);
    t.true(await one.isApart('a0', bare(b[1].ip)), 'another network');
    t.true(await one.isApart('a1', bare(a[1].ip)), 'nor the other way');

    // A port that every node opens leads from the first host by the tunnel, in the second network.
    const server = await two.start('server', ['ip', 'netns', 'exec', 'b1', 'node', '-e', SERVER]);
    await until('the server listens', () => Promise.resolve(/^ready$/m.test(server.log())));
    await two.json('port', 'publish', 'b1', '8091:80', '--everywhere', '--network', 'ip-b');
    await until('the port of the first host leads to it', async () => {
      const { stdout } = await two.try(`echo | nc -w 3 ${one.ip} 8091`);
      return stdout.includes('hello');
    });
    await server.signal('SIGTERM');

    // A host that is no node, in the name of a container.
    const foreign = a[1].ip.replace(/\.\d+\/.*$/, '.77');
    await two.sh(
      `ip addr add 192.0.2.99/24 dev eth0; ip addr add ${foreign}/32 dev lo
       ip link add stranger type ipip local 192.0.2.99 remote ${one.ip}; ip link set stranger up
       ip route add ${bare(a[0].ip)}/32 dev stranger src ${foreign}`,
    );
    const dropped = async (): Promise<number> =>
      Number(/packets (\d+)/.exec(await one.sh('nft list counter inet weft drop_tunnel'))?.[1]);
    const before = await dropped();
    await until('it is dropped and counted', async () => {
      t.is((await two.try(`ping -c 1 -W 2 ${bare(a[0].ip)}`)).code, 1);
      return (await dropped()) > before;
    });
    await two.sh(
      `ip link del stranger; ip addr del 192.0.2.99/24 dev eth0; ip addr del ${foreign}/32 dev lo`,
    );

    // What is deleted by hand comes back, with the routes of both networks.
    await one.sh('ip link del wfipip');
    await until(
      'it is back',
      async () => (await one.reaches('a0', bare(a[1].ip))) && one.reaches('a1', bare(b[1].ip)),
    );

    const moved = await machines().json<NetworkJson>(...['network', 'update', 'ip-a', '--backend', 'vxlan']);
    t.like(moved, { backend: 'vxlan', move: null });
    await until('it goes on in VXLAN', () => one.reaches('a0', bare(a[1].ip)));
    await machines().json('network', 'update', 'ip-a', '--backend', 'ipip', '--direct-routing');
    // Until the node has flipped, packets go the way that they went.
    await until('and by plain routes', async () =>
      /^10\.130\.\d+\.0\/24 via \S+ dev eth0/m.test(await one.sh('ip route show proto 119')),
    );
    t.true(await one.reaches('a0', bare(a[1].ip)));
    for (const [i, [name]] of NETWORKS.entries())
      t.true(await one.reaches(`a${i}`, bare(ends.get(name)?.[1].ip ?? '')), name);
    const { problems } = await one.json<StatusJson>('status');
    t.deepEqual(problems, []);

    for (const [name] of NETWORKS) await machines().json('network', 'rm', name, '--force');
    await until(
      'the device ends with the last network',
      async () => !/wf(ipip|ud)/.test(await one.sh('ip -o link')),
    );
  });
}
