// An encrypted network between two virtual machines: Debian's kernel has WireGuard.
//
// What is on the cable, a rotation of the key under traffic, and that nothing leaves in clear when devices and routes are gone.
import { join } from 'node:path';

import type { ExecutionContext, TestFn } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { CHECKOUT } from '../lab/lab.js';
import type { Capture } from './capture.js';
import type { Machines } from './machines.js';

interface NetworkJson {
  encrypted: boolean;
  port: number;
  leases: { node: string; subnet: string; publicKey: string }[];
}
interface StatusJson {
  peers: { handshakeAgeS: number | null }[];
}

/** A key as `wg genpsk` makes it. */
const PSK = Buffer.alloc(32, 'secret').toString('base64');

/** Prints the keys of the peers of a host with one encrypted network. */
const PEERS = `
const { WireguardSocket } = await import('${join(CHECKOUT, 'build/agent/kernel/wireguard.js')}');
console.log(new WireguardSocket().device('wfwg-wg').peers.map((peer) => peer.publicKey).join());
process.exit(0);`;

/** Echoes what it gets. */
const SERVER = `require('net').createServer((s) => s.on('error', () => {}).pipe(s)).listen(7000, '::', () => console.log('ready'))`;
/** One connection, a byte at a time; it ends well when the last byte is back. */
const CLIENT = `
const s = require('net').connect(7000, process.argv[1]);
let sent = 0, back = 0;
const timer = setInterval(() => { if (sent < 75) { s.write('x'); sent++; } else clearInterval(timer); }, 200);
s.on('data', (d) => { back += d.length; if (back === 75) { console.log('all are back'); process.exit(0); } });
s.on('error', (e) => { console.log(e.message); process.exit(1); });
setTimeout(() => process.exit(2), 60000);`;

export function wireguardTests(test: TestFn, machines: () => Machines): void {
  const network = async (t: ExecutionContext, name: string, ...options: string[]): Promise<NetworkJson> => {
    const made = await machines().json<NetworkJson>('network', 'create', name, '--encrypted', ...options);
    t.teardown(async () => void (await machines().weft('network', 'rm', name, '--force')));
    return made;
  };
  /** c1 on h1 and c2 on h2. */
  const pair = async (name: string): Promise<[EndpointJson, EndpointJson]> => {
    const [one, two] = [machines().host(1), machines().host(2)];
    await Promise.all([one.containers('c1'), two.containers('c2')]);
    const ends = await Promise.all([
      one.json<EndpointJson>('attach', name, 'c1'),
      two.json<EndpointJson>('attach', name, 'c2'),
    ]);
    await machines().lab.until('they reach each other', () => one.reaches('c1', bare(ends[1].ip)), {
      context: () => machines().logs(),
    });
    return ends;
  };
  const noneInClear = async (t: ExecutionContext, capture: Capture, prefix: string): Promise<string[]> => {
    const frames = await capture.stop();
    t.deepEqual(
      frames.filter((frame) => frame.includes(prefix)),
      [],
    );
    return frames;
  };

  test.serial(
    'wireguard: two networks, each on a port of its own, and no plain text on the cable',
    async (t) => {
      const [one, two] = [machines().host(1), machines().host(2)];
      const capture = await machines().capture(one, 0);
      const first = await network(
        t,
        'wg',
        '--subnet',
        '10.120.0.0/16',
        '--backend-option',
        'PersistentKeepaliveInterval=5',
        '--backend-option',
        `PSK=${PSK}`,
      );
      const second = await network(t, 'wg2', '--subnet', '10.121.0.0/16', '--subnet6', 'fd42:121::/48');
      t.like(first, { encrypted: true, port: 51820 });
      t.like(second, { encrypted: true, port: 51822 });
      const [a, b] = await pair('wg');
      t.is(a.mtu, 1440);
      t.is((await one.try(`ip netns exec c1 ping -c 1 -W 20 -M do -s 1412 ${bare(b.ip)}`)).code, 0);
      t.is((await one.try(`ip netns exec c1 ping -c 1 -W 2 -M do -s 1413 ${bare(b.ip)}`)).code, 1);
      const [, d] = [
        await one.json<EndpointJson>('attach', 'wg2', 'c1'),
        await two.json<EndpointJson>('attach', 'wg2', 'c2'),
      ];
      t.is(d.mtu, 1420);
      for (const ip of [bare(d.ip), bare(d.ip6 ?? '')])
        await machines().lab.until(`c1 reaches ${ip}`, () => one.reaches('c1', ip));
      const { peers } = await one.json<StatusJson>('status');
      t.true((peers[0]?.handshakeAgeS ?? Infinity) < 300);
      const clash = await machines().weft(
        ...['network', 'create', 'clash', '--encrypted', '--subnet', '10.123.0.0/16', '--port', '51822'],
      );
      t.is(clash.code, 1);
      t.regex(clash.stderr, /UDP port 51822 is network wg2's/);
      const frames = await noneInClear(t, capture, '10.12');
      for (const port of [51820, 51822, 51823])
        t.true(
          frames.some((frame) => frame.includes(`.${port}: UDP`)),
          `${port}`,
        );
      const [key, metrics] = [
        (await one.sh('cat /var/lib/weft/wireguard/key')).trim(),
        await one.sh('curl -s http://127.0.0.1:7402/metrics'),
      ];
      t.regex(metrics, /^weft_handshake_age_seconds\{[^}]*node="h2"[^}]*\} \d/m);
      const shown = [
        ...[metrics, JSON.stringify([first, peers]), machines().agent(one).log()],
        await one.sh('cat /proc/[0-9]*/cmdline | tr "\\0" " "'),
        JSON.stringify(await machines().json('network', 'inspect', 'wg')),
      ].join('\n');
      for (const secret of [key, PSK]) t.false(shown.includes(secret));
      t.is((await one.sh('stat -c %a /var/lib/weft/wireguard/key')).trim(), '600');
      await Promise.all(['wg', 'wg2'].map((name) => machines().json('network', 'rm', name, '--force')));
    },
  );

  test.serial(
    'wireguard: IPv6 alone, a published port, and a restart of the agent that costs no packet',
    async (t) => {
      const [one, two] = [machines().host(1), machines().host(2)];
      const capture = await machines().capture(one, 0);
      const made = await machines().json<NetworkJson>(
        ...['network', 'create', 'wg6', '--encrypted', '--subnet6', 'fd42:122::/48'],
      );
      t.teardown(async () => void (await machines().weft('network', 'rm', 'wg6', '--force')));
      t.like(made, { encrypted: true, port: 51821 });
      await Promise.all([one.containers('c1'), two.containers('c2')]);
      const [a, b] = await Promise.all([
        one.json<EndpointJson>('attach', 'wg6', 'c1'),
        two.json<EndpointJson>('attach', 'wg6', 'c2', '--publish', '8080:7000'),
      ]);
      t.like(a, { ip: null, mtu: 1420 });
      const there = bare(b.ip6 ?? '');
      await machines().lab.until('they reach each other', () => one.reaches('c1', there));
      t.is((await one.try(`ip netns exec c1 ping -c 1 -W 20 -M do -s 1372 ${there}`)).code, 0);
      t.is((await one.try(`ip netns exec c1 ping -c 1 -W 2 -M do -s 1373 ${there}`)).code, 1);

      const server = await two.start('echo-in-rotation', ['ip', 'netns', 'exec', 'c2', 'node', '-e', SERVER]);
      t.teardown(() => server.kill());
      await machines().lab.until('the server listens', () => /^ready$/m.test(server.log()));
      const { ip6 } = machines().lab.addressesOf(2);
      const answer = await one.try(`echo hello | nc -v -N -w 20 ${ip6} 8080`);
      t.is(answer.stdout.trim(), 'hello', answer.stderr);

      const pings = await one.start('pings', [
        ...['ip', 'netns', 'exec', 'c1', 'ping', '-n', '-i', '0.5', '-w', '120', there],
      ]);
      await machines().agent(two).stop();
      await machines().startAgent(two);
      t.true(await one.reaches('c1', there));
      await pings.stop();
      const seen = [...pings.log().matchAll(/icmp_seq=(\d+) ttl/g)].map((match) => Number(match[1]));
      t.true(seen.length > 5, pings.log());
      t.is(Math.max(...seen.slice(1).map((seq, i) => seq - (seen[i] ?? 0))), 1, pings.log());
      await noneInClear(t, capture, 'fd42:122:');
      await machines().json('network', 'rm', 'wg6', '--force');
    },
  );

  test.serial('wireguard: a rotation of the key under traffic', async (t) => {
    const [one, two] = [machines().host(1), machines().host(2)];
    await network(t, 'wg', '--subnet', '10.120.0.0/16');
    const [, b] = await pair('wg');
    const keyOf = async (): Promise<string | undefined> =>
      (await machines().json<NetworkJson>('network', 'inspect', 'wg')).leases.find(
        ({ node }) => node === 'h1',
      )?.publicKey;
    const before = await keyOf();
    const server = await two.start('echo-of-wg6', ['ip', 'netns', 'exec', 'c2', 'node', '-e', SERVER]);
    t.teardown(() => server.kill());
    await machines().lab.until('the server listens', () => /^ready$/m.test(server.log()));
    const capture = await machines().capture(one, 0);
    const [stream, pings, rotated] = await Promise.all([
      one.exec(['ip', 'netns', 'exec', 'c1', 'node', '-e', CLIENT, bare(b.ip)]),
      one.exec(['ip', 'netns', 'exec', 'c1', 'ping', '-n', '-i', '0.5', '-w', '25', bare(b.ip)]),
      one.json<{ publicKey: string }>('node', 'rotate-key'),
    ]);
    t.is(stream.code, 0, `${stream.stdout}${stream.stderr}`);
    const seen = [...pings.stdout.matchAll(/icmp_seq=(\d+)/g)].map((match) => Number(match[1]));
    const gaps = seen.slice(1).map((seq, i) => seq - (seen[i] ?? 0) - 1);
    t.true(Math.max(0, ...gaps) * 0.5 < 10, pings.stdout);
    t.not(rotated.publicKey, before);
    t.is(await keyOf(), rotated.publicKey);
    await machines().lab.until(
      'the peer has the new key alone',
      async () => (await two.sh(`node --input-type=module -e "${PEERS}"`)).trim() === rotated.publicKey,
    );
    await noneInClear(t, capture, '10.120.');
    await machines().json('network', 'rm', 'wg', '--force');
  });

  test.serial('wireguard: one device for both families, over the underlay that the mode names', async (t) => {
    const [one, two] = [machines().host(1), machines().host(2)];
    await Promise.all([one.containers('c1'), two.containers('c2')]);
    for (const [i, [mode, underlay]] of (
      [
        ['auto', 'IPv4'],
        ['ipv4', 'IPv4'],
        ['ipv6', 'IPv6'],
      ] as const
    ).entries()) {
      const name = `wg-${mode}`;
      const { port } = await network(
        ...([t, name, '--subnet', `10.${125 + i}.0.0/16`, '--subnet6', `fd42:${125 + i}::/48`] as const),
        ...['--backend-option', `Mode=${mode}`],
      );
      const capture = await machines().capture(one, 0, `udp port ${port}`);
      const [, b] = await Promise.all([
        one.json<EndpointJson>('attach', name, 'c1'),
        two.json<EndpointJson>('attach', name, 'c2'),
      ]);
      for (const ip of [bare(b.ip), bare(b.ip6 ?? '')])
        await machines().lab.until(`${mode}: c1 reaches ${ip}`, () => one.reaches('c1', ip));
      await capture.sees(new RegExp(`ethertype ${underlay} `));
      const frames = await capture.stop();
      t.deepEqual(
        frames.filter((frame) => !frame.includes(`ethertype ${underlay} `)),
        [],
        mode,
      );
      t.regex(await one.sh('ip -o link'), new RegExp(`wfwg-${name}`));
      t.notRegex(await one.sh('ip -o link'), /wfwg6-/);
      await machines().json('network', 'rm', name, '--force');
    }
  });

  test.serial(
    'wireguard: nothing leaves in clear without the device, without its routes, or by others',
    async (t) => {
      const [one, two] = [machines().host(1), machines().host(2)];
      await network(t, 'wg', '--subnet', '10.120.0.0/16');
      const [, b] = await pair('wg');
      const capture = await machines().capture(one, 0);
      const agent = machines().agent(one);
      await agent.signal('SIGSTOP');
      t.teardown(() => agent.signal('SIGCONT'));
      await one.sh('ip link del wfwg-wg');
      t.true(await one.isApart('c1', bare(b.ip)), 'no device: unreachable');
      const subnet = bare(b.gateway).replace(/\.1$/, '.0/24');
      await one.sh(`ip route del unreachable 10.120.0.0/16; ip route add ${subnet} via ${two.ip}`);
      t.true(await one.isApart('c1', bare(b.ip)), 'a route in clear: dropped');
      t.true(await one.isApart('', bare(b.ip)), 'nor from the host');
      await noneInClear(t, capture, '10.120.');
      await one.sh(`ip route del ${subnet}`);
      await agent.signal('SIGCONT');
      await machines().lab.until('it is put right', () => one.reaches('c1', bare(b.ip)), {
        context: () => agent.tail(),
      });
      await machines().json('network', 'rm', 'wg', '--force');
    },
  );
}
