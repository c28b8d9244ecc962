// A host with three networks, for the firewall's tests: the process's own namespace is the host, two ordinary networks and
// an internal one hang on it by bridges, each of two has another host of the overlay behind a tunnel (a veth pair here: the
// firewall knows links by name only), and there is an outside. Imports private.js, so nothing of the machine is touched.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createServer, type Server } from 'node:net';
import { promisify } from 'node:util';

import { IpNetwork } from '../../core/address.js';
import type { FirewallNetwork } from '../../core/firewall.js';
import { container } from './private.js';

const execute = promisify(execFile);

/** Addresses by place and family. */
export const ADDRESSES = {
  host: ['192.0.2.2', '2001:db8::2'],
  outside: ['192.0.2.1', '2001:db8::1'],
  gateway1: ['10.1.0.1', 'fd00:1::1'],
  gateway2: ['10.2.0.1', 'fd00:2::1'],
  gateway3: ['10.3.0.1', 'fd00:3::1'],
  a1: ['10.1.0.2', 'fd00:1::2'],
  b1: ['10.1.0.3', 'fd00:1::3'],
  remote1: ['10.1.8.2', 'fd00:1:0:8::2'],
  a2: ['10.2.0.2', 'fd00:2::2'],
  a3: ['10.3.0.2', 'fd00:3::2'],
  b3: ['10.3.0.3', 'fd00:3::3'],
  remote3: ['10.3.8.2', 'fd00:3:0:8::2'],
} as const satisfies Record<string, readonly [string, string]>;

export type Place = keyof typeof ADDRESSES;
export type Container = Exclude<Place, 'host' | `gateway${number}`>;

/** A network whose links contain its number, as do its prefixes by default. */
export function network(
  number: number,
  options: Partial<
    Pick<FirewallNetwork, 'internal' | 'masquerade' | 'reaches' | 'sealed' | 'directAccess'>
  > = {},
  prefixes: readonly string[] = [`10.${number}.0.0/16`, `fd00:${number}::/48`],
): FirewallNetwork {
  return {
    name: `net${number}`,
    links: [`wfbr${number}`, `wfvx${number}`],
    tunnels: [`wfvx${number}`],
    // Only those that the world itself has.
    local:
      number > 3 ? [] : [`10.${number}.0.0/24`, `fd00:${number}::/64`].map((text) => IpNetwork.parse(text)),
    prefixes: prefixes.map((text) => IpNetwork.parse(text)),
    internal: false,
    masquerade: true,
    directAccess: true,
    ...options,
  };
}

export const NETWORKS = [network(1), network(2), network(3, { internal: true, masquerade: false })];

export const PORT = 7000;
const SERVER = `require('net').createServer((s) => s.on('error', () => {}).end(s.remoteAddress)).listen(${PORT}, '::', () => console.log('ready'))`;

/** npm puts the commands of packages first in PATH, and one of them is also called nft. */
const systemPath = (): string =>
  (process.env['PATH'] ?? '')
    .split(':')
    .filter((folder) => !folder.includes('node_modules'))
    .join(':');

/** Runs a command on the host and returns its output. */
export async function sh(command: string): Promise<string> {
  // bash takes the pipe, a socket, for a remote shell's and would read the user's .bashrc.
  const { stdout } = await execute('bash', ['--norc', '-ec', command], {
    maxBuffer: 64 << 20,
    env: { ...process.env, PATH: systemPath() },
  });
  return stdout;
}

export interface World {
  /** The address that the other side saw; undefined where no connection was made. */
  connect(
    from: Container | 'host',
    to: Place,
    family: 4 | 6,
    options?: { patient?: boolean; port?: number },
  ): Promise<string | undefined>;
  run(inside: Container, command: string): Promise<string>;
  /** Whether an ICMP echo is answered. */
  ping(from: Container | 'host', address: string): Promise<boolean>;
  end(): Promise<void>;
}

export async function openWorld(): Promise<World> {
  const containers = {} as Record<Container, Awaited<ReturnType<typeof container>>>;
  const servers: ChildProcess[] = [];
  const names: Container[] = ['outside', 'a1', 'b1', 'remote1', 'a2', 'a3', 'b3', 'remote3'];
  for (const name of names) containers[name] = await container();

  const bridges = [1, 2, 3].flatMap((n) => [
    `link add wfbr${n} type bridge`,
    `link set wfbr${n} up`,
    `address add 10.${n}.0.1/24 dev wfbr${n}`,
    `address add fd00:${n}::1/64 dev wfbr${n} nodad`,
  ]);
  const pairs = names.map(
    (name) => `link add ${hostEnd(name)} type veth peer name eth0 netns ${containers[name].pid}`,
  );
  const ports = (['a1', 'b1', 'a2', 'a3', 'b3'] as const).map(
    (name) => `link set wfep${name} master wfbr${name[1]}`,
  );
  const tunnels = [1, 3].flatMap((n) => [
    `address add 10.${n}.8.1/24 dev wfvx${n}`,
    `address add fd00:${n}:0:8::1/64 dev wfvx${n} nodad`,
  ]);
  const underlay = ['address add 192.0.2.2/24 dev up0', 'address add 2001:db8::2/64 dev up0 nodad'];
  const ups = [...names.map((name) => `link set ${hostEnd(name)} up`), 'link set lo up'];
  await sh(
    `ip -batch - <<'END'\n${[...bridges, ...pairs, ...ports, ...ups, ...tunnels, ...underlay].join('\n')}\nEND`,
  );
  await sh('echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding');

  const inside = (name: Container): string => `nsenter --net=/proc/${containers[name].pid}/ns/net`;
  for (const name of names) {
    const [ip, ip6] = ADDRESSES[name];
    // The outside has a return route, so that packets which must not reach it are stopped by rules and not by a missing route.
    const routes =
      name === 'outside'
        ? ['route add 10.0.0.0/8 via 192.0.2.2', 'route add fd00::/16 via 2001:db8::2']
        : [
            `route add default via ${ip.replace(/\d+$/, '1')}`,
            `route add ::/0 via ${ip6.replace(/\d+$/, '1')}`,
          ];
    const lines = [
      'link set lo up',
      'link set eth0 up',
      `address add ${ip}/24 dev eth0`,
      `address add ${ip6}/64 dev eth0 nodad`,
      ...routes,
    ];
    await sh(`${inside(name)} ip -batch - <<'END'\n${lines.join('\n')}\nEND`);
    const server = spawn(
      'nsenter',
      [`--net=/proc/${containers[name].pid}/ns/net`, process.execPath, '-e', SERVER],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    servers.push(server);
    await new Promise((resolve) => server.stdout?.once('data', resolve));
  }
  const own = await serve();
  process.on('exit', () => {
    for (const server of servers) server.kill('SIGKILL');
  });

  const prefix = (from: Container | 'host'): string => (from === 'host' ? '' : inside(from));
  return {
    async connect(from, to, family, { patient = true, port = PORT } = {}) {
      const address = ADDRESSES[to][family === 4 ? 0 : 1];
      const script = `exec 3<>/dev/tcp/${address}/${port}; cat <&3`;
      try {
        const seen = await sh(`${prefix(from)} timeout ${patient ? 4 : 0.4} bash -c '${script}' 2>&1`);
        return seen.trim().replace(/^::ffff:/, '');
      } catch {
        return undefined;
      }
    },
    run: (name, command) => sh(`${inside(name)} ${command}`),
    async ping(from, address) {
      return sh(`${prefix(from)} ping -c 1 -W 1 ${address}`).then(
        () => true,
        () => false,
      );
    },
    async end() {
      for (const server of servers) server.kill('SIGKILL');
      await new Promise((resolve) => own.close(resolve));
      for (const name of names) await containers[name].end();
    },
  };
}

function hostEnd(name: Container): string {
  if (name === 'outside') return 'up0';
  return name.startsWith('remote') ? `wfvx${name.slice(-1)}` : `wfep${name}`;
}

/** The host's own service, on all its addresses. */
async function serve(): Promise<Server> {
  const server = createServer((socket) =>
    socket.on('error', () => undefined).end(socket.remoteAddress ?? ''),
  );
  await new Promise<void>((resolve) => server.listen(PORT, '::', resolve));
  return server;
}
