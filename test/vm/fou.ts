// A network of the backend udp between two virtual machines: Debian's kernel has FOU, and is the pump itself.
//
// Until a node has an ipip network, too: then a process carries there, and both speak to each other.
import { join } from 'node:path';

import type { TestFn } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { CHECKOUT } from '../lab/lab.js';
import type { Machine } from './machine.js';
import type { Machines } from './machines.js';

const BYTES = 300_000;
const SERVER = `require('net').createServer((s) => s.on('error', () => {}).end(Buffer.alloc(${BYTES}))).listen(80, () => console.log('ready'))`;
/** Says how many bytes there were. */
const CLIENT = `let n = 0; require('net').connect(80, process.argv[1]).on('data', (d) => (n += d.length)).on('close', () => console.log(n))`;

const FOU = /ipip [^]*encap fou [^]*encap-dport 8285/;

export function fouTests(test: TestFn, machines: () => Machines): void {
  test.serial(
    'udp: the kernel is the pump, and a process where an ipip network needs its tunnel',
    async (t) => {
      const [one, two] = [machines().host(1), machines().host(2)];
      const until = (what: string, holds: () => Promise<boolean>): Promise<unknown> =>
        machines().lab.until(what, holds, { context: () => machines().logs() });
      t.teardown(async () => {
        for (const name of ['ku', 'ku-ip']) await machines().weft('network', 'rm', name, '--force');
      });
      await machines().json('network', 'create', 'ku', '--subnet', '10.133.0.0/16', '--backend', 'udp');
      await Promise.all([one.containers('ka'), two.containers('kb')]);
      const [a, b] = await Promise.all([
        one.json<EndpointJson>('attach', 'ku', 'ka'),
        two.json<EndpointJson>('attach', 'ku', 'kb'),
      ]);
      const reached = (): Promise<unknown> =>
        until(
          'they reach each other',
          async () => (await one.reaches('ka', bare(b.ip))) && two.reaches('kb', bare(a.ip)),
        );
      await reached();
      const isFou = async (machine: Machine): Promise<boolean> =>
        FOU.test(await machine.sh('ip -d link show wfud-ku'));
      for (const machine of [one, two]) {
        t.regex(await machine.sh('ip -d link show wfud-ku'), FOU);
        t.notRegex(await machine.sh('cat /proc/[0-9]*/cmdline | tr "\\0" " "'), /programs\/pump\.js/);
      }
      const capture = await machines().capture(one, 0, 'udp port 8285');
      const { stdout } = await one.try(`ip netns exec ka ping -c 1 -W 20 -M do -s 1444 ${bare(b.ip)}`);
      t.regex(stdout, / 0% packet loss/);
      t.is((await one.try(`ip netns exec ka ping -c 1 -W 2 -M do -s 1445 ${bare(b.ip)}`)).code, 1);
      // An IP header, ICMP's, and the data; nothing of FOU's own.
      await capture.sees(/\.8285 > .*\.8285: UDP, length 1472/);
      await capture.stop();

      // What is dropped is counted: of a host that is no node, of the peer in another's name, and as IP in IP.
      const dropped = async (): Promise<number> =>
        Number(/packets (\d+)/.exec(await one.sh('nft list counter inet weft drop_tunnel'))?.[1]);
      const strange = bare(b.ip).replace(/\d+$/, '77');
      await two.sh('ip addr add 192.0.2.99/24 dev eth0');
      const datagram = `node ${join(CHECKOUT, 'build/test/lab/datagram.js')}`;
      for (const [from, way, source] of [
        ['192.0.2.99', '8285', strange],
        [two.ip, '8285', bare(a.ip)],
        [two.ip, '8285', '198.51.100.1'],
        [two.ip, 'ipip', strange],
        [two.ip, 'ipip', '198.51.100.1'],
      ]) {
        const before = await dropped();
        await until(`${source} from ${from} is dropped`, async () => {
          await two.sh(`${datagram} ${from} ${one.ip} ${way} ${source} ${bare(a.ip)}`);
          return (await dropped()) > before;
        });
      }
      await two.sh('ip addr del 192.0.2.99/24 dev eth0');
      await reached();

      // An ipip network on the second node takes the tunnel there.
      await machines().json('network', 'create', 'ku-ip', '--subnet', '10.134.0.0/16', '--backend', 'ipip');
      await two.containers('kc');
      await two.json('attach', 'ku-ip', 'kc');
      await until('a process carries there', async () =>
        /\btun\b/.test(await two.sh('ip -d link show wfud-ku')),
      );
      t.true(await isFou(one));
      await reached();
      for (const [from, inside, to, there, ip] of [
        [one, 'ka', two, 'kb', bare(b.ip)],
        [two, 'kb', one, 'ka', bare(a.ip)],
      ] as const) {
        const server = await to.start(`server-${there}`, [
          'ip',
          'netns',
          'exec',
          there,
          'node',
          '-e',
          SERVER,
        ]);
        await until('the server listens', () => Promise.resolve(/^ready$/m.test(server.log())));
        const got = await from.exec(['ip', 'netns', 'exec', inside, 'node', '-e', CLIENT, ip]);
        t.is(got.stdout.trim(), `${BYTES}`, `${there} to ${inside}: ${got.stderr}`);
        await server.kill();
      }
      await machines().json('network', 'rm', 'ku-ip', '--force');
      await until('the kernel carries again', () => isFou(two));
      await reached();
      t.deepEqual((await two.json<{ problems: unknown[] }>('status')).problems, []);

      await machines().json('network', 'rm', 'ku', '--force');
      for (const machine of [one, two])
        await until(
          'device and port are gone',
          async () => !/wfud|8285/.test(await machine.sh('ip -o link; ip fou show')),
        );
    },
  );
}
