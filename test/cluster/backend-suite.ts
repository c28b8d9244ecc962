// What every backend must do, as one table over all that the machine's kernel has.
//
// One cluster has a network of each backend, and a second one of each beside it, with containers on two hosts. A test does one
// thing to all of them at once: what a restart or a repair costs is paid once, whatever the number of backends.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { exec } from '../lab/exec.js';
import { linkKinds } from '../lab/link-kinds.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';
import { dig } from '../lab/names.js';
import type { Prepare, Prepared } from '../lab/prepare.js';
import { ping } from '../lab/traffic.js';
import { sideBySide, slowness } from '../lab/wait.js';

/** Bytes of an IP header and of ICMP's. */
const HEADERS = { 4: 28, 6: 48 } as const;
type Family = keyof typeof HEADERS;

export interface BackendRow {
  /** Its first network, and the begin of the second one's name. */
  name: string;
  flags: readonly string[];
  /** Another one and itself, as a move has them. */
  moves: readonly (readonly string[])[];
  /** The kind of link that not every kernel has. */
  needs?: 'wireguard' | 'ipip';
  /** More of its second network: ports and VNIs differ, or are shared by what tells them apart. */
  second?: readonly string[];
  /** The UDP ports of both, where they are known beforehand. */
  ports?: readonly [number | null, number | null];
  /** Absent: both. */
  families?: readonly Family[];
  /** Of containers with all families, over an underlay of 1500. */
  mtu: number;
  /** Whether it can have internal networks; why not. */
  internal?: RegExp;
  /** Whether its networks are routed with others; why not. */
  routed?: RegExp;
}

/** Why a network without a tunnel is not internal. */
export const PLAIN = /the hosts' own link/;

export const VXLAN = ['--backend', 'vxlan'];
const DIRECT = [...VXLAN, '--direct-routing'];
const PLAIN_ROUTES = ['--backend', 'host-gw'];
const WIREGUARD = ['--backend', 'wireguard'];
const UDP = ['--backend', 'udp'];
const IPIP = ['--backend', 'ipip'];

const BACKENDS: readonly BackendRow[] = [
  {
    ...{ name: 'vx', flags: VXLAN, moves: [PLAIN_ROUTES, VXLAN], second: ['--port', '4789'], mtu: 1430 },
    ports: [8472, 4789],
  },
  {
    ...{ name: 'near', flags: DIRECT, moves: [PLAIN_ROUTES, DIRECT], mtu: 1430, internal: PLAIN },
    ports: [8472, 8472],
  },
  {
    ...{ name: 'gw', flags: PLAIN_ROUTES, moves: [VXLAN, PLAIN_ROUTES], mtu: 1500, internal: PLAIN },
    ports: [null, null],
  },
  {
    name: 'wg',
    flags: ['--encrypted'],
    needs: 'wireguard',
    moves: [VXLAN, WIREGUARD],
    mtu: 1420,
    routed: /encrypted/,
  },
  {
    ...{ name: 'ud', flags: UDP, moves: [VXLAN, UDP], families: [4], mtu: 1472 },
    routed: /has the backend udp/,
  },
  {
    ...{ name: 'ip', flags: IPIP, needs: 'ipip', moves: [VXLAN, IPIP], families: [4], mtu: 1480 },
    internal: /ipip networks share/,
  },
];

const HOSTS = ['h1', 'h2'];

/** Between pings. */
const INTERVAL_S = 0.05;

/** A backend in the cluster: `a` is on h1 and `b` on h2, `other` on h2 in the second network. */
interface Site extends BackendRow {
  index: number;
  families: readonly Family[];
  a: EndpointJson;
  b: EndpointJson;
  other: EndpointJson;
}

export interface BackendSuiteOptions {
  /** Whether the networks and the underlay have IPv4, too. */
  ipv4: boolean;
  /** Absent: the table above. */
  backends?: readonly BackendRow[];
  prepare?: Prepare;
}

export function backendSuite({
  ipv4,
  backends = BACKENDS,
  prepare = () => Promise.resolve({}),
}: BackendSuiteOptions): { lab: () => Cluster } {
  const everyFamily: readonly Family[] = ipv4 ? [4, 6] : [6];
  const familiesOf = ({ families = [4, 6] }: Pick<BackendRow, 'families'>): Family[] =>
    everyFamily.filter((family) => families.includes(family));
  let lab: Cluster;
  let prepared: Prepared;
  let sites: Site[];

  const prefixes = (backend: BackendRow, index: number): string[] =>
    familiesOf(backend).flatMap((family) =>
      family === 4 ? ['--subnet', `10.${index}.0.0/16`] : ['--subnet6', `fd42:${index}::/48`],
    );
  /** Makes a network of the backend. */
  const create = (
    backend: BackendRow,
    name: string,
    index: number,
    ...flags: readonly string[]
  ): string[] => [...['network', 'create', name, ...prefixes(backend, index), ...backend.flags, ...flags]];
  const addressIn = (end: EndpointJson, family: Family): string =>
    bare((family === 4 ? end.ip : end.ip6) ?? '');
  const hostIn = (host: 'h1' | 'h2', family: Family): string => {
    const { ip, ip6 } = lab.lab.host(Number(host.slice(1)));
    return family === 4 ? ip : ip6;
  };

  async function attach(
    host: string,
    network: string,
    name: string,
    ...flags: string[]
  ): Promise<EndpointJson> {
    await lab.addContainers(name);
    return lab.attach(host, network, name, '--name', name, ...flags);
  }

  async function setUp(): Promise<void> {
    lab = await Cluster.create(HOSTS.length, { ipv4 });
    prepared = await prepare(lab, HOSTS);
    await lab.startController(prepared.flags);
    await lab.startAgents(HOSTS, prepared.flags);
    const kinds = await linkKinds((argv) => exec(lab.place('outside').inside(argv)));
    const served = backends.filter(
      (backend) =>
        (backend.needs === undefined || kinds.includes(backend.needs)) && familiesOf(backend).length > 0,
    );
    sites = await sideBySide(
      served.map((backend, i) => async (): Promise<Site> => {
        const { name, second = [] } = backend;
        const index = 120 + i;
        await lab.json('h1', ...create(backend, name, index));
        await lab.json('h1', ...create(backend, `${name}-two`, index + 10, ...second));
        const [a, b, other] = await Promise.all([
          attach('h1', name, `${name}-a`, '--publish', `${8000 + i}:80`),
          attach('h2', name, `${name}-b`, '--publish', `${8100 + i}:80`),
          attach('h2', `${name}-two`, `${name}-c`),
        ]);
        return { ...backend, families: familiesOf(backend), index, a, b, other };
      }),
    );
    await each(reachable);
  }

  shareAmongTests(test, setUp, async () => {
    await prepared?.stop?.();
    await lab?.lab.down();
  });

  /** Waits until the containers of both hosts reach each other. */
  async function reachable({ name, families, a, b }: Site): Promise<void> {
    for (const family of families)
      await lab.until(
        `${name}: IPv${family} both ways`,
        async () =>
          (await lab.reaches(`${name}-a`, addressIn(b, family))) &&
          (await lab.reaches(`${name}-b`, addressIn(a, family))),
      );
  }

  /** Does one thing with every backend at once. */
  const each = async (work: (site: Site) => Promise<void>): Promise<void> => {
    await sideBySide(sites.map((site) => () => work(site)));
  };

  /** Pings from `a` to `b` while the work goes on, and says how many were lost in a row. */
  async function losses(t: ExecutionContext, work: () => Promise<void>): Promise<Map<string, number>> {
    const running = await Promise.all(
      sites.map(async ({ name, families: [family = 6], b }) => {
        const argv = ['ping', '-n', '-i', `${INTERVAL_S}`, '-w', '100', addressIn(b, family)];
        const pings = lab.spawn(`pings-${t.title.length}-${name}`, `${name}-a`, argv);
        await lab.says(pings, 'icmp_seq=3 ');
        return { name, pings };
      }),
    );
    await work();
    await Promise.all(running.map(({ pings }) => pings.stop()));
    return new Map(
      running.map(({ name, pings }) => {
        // One that is late is not lost.
        const seen = [...pings.log().matchAll(/icmp_seq=(\d+) ttl/g)]
          .map((match) => Number(match[1]))
          .toSorted((a, b) => a - b);
        return [name, Math.max(...seen.slice(1).map((seq, i) => seq - (seen[i] ?? 0) - 1))];
      }),
    );
  }

  async function noProblems(t: ExecutionContext): Promise<void> {
    for (const host of HOSTS) {
      const { problems } = await lab.json<{ problems: unknown[] }>(host, 'status');
      t.deepEqual(problems, [], host);
    }
  }

  /** The address that a container's server saw; undefined where it was not reached. */
  async function ask(from: string, ip: string, port: number): Promise<string | undefined> {
    const host = ip.includes(':') ? `[${ip}]` : ip;
    const { code, stdout } = await lab.try(from, `curl -s --max-time 2 http://${host}:${port}/`);
    return code === 0 ? stdout.trim() : undefined;
  }

  test.serial(
    'two networks of each backend on one node, and a third that is in the way of one',
    async (t) => {
      const ports = new Map<string, number | null>();
      await each(async (site) => {
        const { name, families, other } = site;
        for (const one of [name, `${name}-two`]) {
          const network = await lab.json<{ port: number | null; vni: number | null }>(
            'h1',
            'network',
            'inspect',
            one,
          );
          ports.set(one, network.port);
          if (one !== name || network.vni === null) continue;
          const same = await lab.weft('h1', ...create(site, 'clash', 170, '--vni', `${network.vni}`));
          t.regex(same.stderr, new RegExp(`VNI ${network.vni} belongs to network ${name}$`, 'm'));
        }
        for (const family of families) {
          const to = addressIn(other, family);
          t.false(await lab.reaches(`${name}-a`, to), `${name} IPv${family}: networks are apart`);
        }
      });
      for (const site of sites) {
        if (site.ports !== undefined)
          t.deepEqual(
            [site.name, `${site.name}-two`].map((name) => ports.get(name)),
            [...site.ports],
          );
        const port = ports.get(site.name);
        if (!['wg', 'ud'].includes(site.name)) continue;
        t.not(ports.get(`${site.name}-two`), port);
        const clash = await lab.weft('h1', ...create(site, 'clash', 170, '--port', `${port}`));
        t.is(clash.code, 1);
        t.regex(clash.stderr, new RegExp(`UDP port ${port} is network ${site.name}'s`));
      }
    },
  );

  test.serial('the MTU is the most that the path carries, in both directions', async (t) => {
    await each(async ({ name, families, mtu, a, b }) => {
      t.is(a.mtu, mtu, name);
      for (const family of families)
        for (const [from, to] of [
          [`${name}-a`, b],
          [`${name}-b`, a],
        ] as const) {
          const size = mtu - HEADERS[family];
          const fits = await ping(lab.place(from), addressIn(to, family), { count: 1, size });
          t.is(fits.received, 1, `${name} IPv${family}: ${fits.text}`);
          const larger = await ping(lab.place(from), addressIn(to, family), { count: 1, size: size + 1 });
          t.is(larger.received, 0, `${name} IPv${family}`);
        }
    });
  });

  test.serial('published ports, and ports of every node', async (t) => {
    await each(async ({ name, families, index }) => {
      const server = lab.spawn(`server-${name}`, `${name}-b`, [
        ...[process.execPath, join(CHECKOUT, 'build/test/lab/echo-server.js'), '80'],
      ]);
      await lab.says(server, 'ready');
      const i = index - 120;
      await lab.json(
        'h2',
        'port',
        'publish',
        `${name}-b`,
        `${8200 + i}:80`,
        '--everywhere',
        '--network',
        name,
      );
      for (const family of families) {
        for (const from of ['outside', 'h1', `${name}-a`])
          t.truthy(await ask(from, hostIn('h2', family), 8100 + i), `${name} IPv${family} from ${from}`);
        await lab.until(
          `${name} IPv${family}: the port of the other node`,
          async () => (await ask('outside', hostIn('h1', family), 8200 + i)) !== undefined,
        );
      }
      await lab.json('h2', 'port', 'rm', `${name}-b`, `${8200 + i}`, '--network', name);
      await server.stop();
    });
  });

  test.serial('names', async (t) => {
    await each(async ({ name, families, a, b }) => {
      const server = a.gateway;
      const { answers } = await dig(lab, `${name}-a`, `@${server}`, `${name}-b.${name}.weft`, 'ANY');
      t.deepEqual(
        answers.map(({ data }) => data).toSorted(),
        families.map((family) => addressIn(b, family)).toSorted(),
        name,
      );
    });
  });

  test.serial('an address of another node’s subnet', async (t) => {
    await each(async ({ name, families, a, b }) => {
      // The 200th of h2's subnet, used on h1.
      const wanted = new Map(
        families.map((family) => [family, addressIn(b, family).replace(/(?<=\.|:)[^.:]*$/, '200')]),
      );
      const flags = [...wanted].flatMap(([family, ip]) => [family === 4 ? '--ip' : '--ip6', ip]);
      const end = await attach('h1', name, `${name}-s`, ...flags);
      for (const [family, ip] of wanted) {
        t.is(addressIn(end, family), ip, name);
        for (const from of ['a', 'b'])
          await lab.until(`${name} IPv${family}: reached from ${from}`, () =>
            lab.reaches(`${name}-${from}`, addressIn(end, family)),
          );
      }
      t.true(await lab.reaches(`${name}-s`, addressIn(a, families[0] ?? 6)), name);
      await lab.json('h1', 'detach', name, lab.ns(`${name}-s`));
      await lab.removeContainer(`${name}-s`);
    });
  });

  test.serial('routed networks, and those that are routed with none', async (t) => {
    await each(async ({ name, families, other, routed }) => {
      const from = `${name}-a`;
      const outcome = await lab.weft('h1', 'network', 'route', name, `${name}-two`);
      if (routed !== undefined) {
        t.not(outcome.code, 0, name);
        t.regex(outcome.stderr, routed);
        return;
      }
      t.is(outcome.code, 0, outcome.stderr);
      for (const family of families)
        await lab.until(`${name} IPv${family}: the other network`, () =>
          lab.reaches(from, addressIn(other, family)),
        );
      await lab.json('h1', 'network', 'route', name, `${name}-two`, '--remove');
      await lab.until(
        `${name}: no more`,
        async () => !(await lab.reaches(from, addressIn(other, families[0] ?? 6))),
      );
    });
  });

  test.serial('internal networks, or why there are none', async (t) => {
    await each(async (site) => {
      const { name, families, index, internal } = site;
      const outcome = await lab.weft('h1', ...create(site, `${name}-in`, index + 20, '--internal'));
      if (internal !== undefined) {
        t.not(outcome.code, 0, name);
        t.regex(outcome.stderr, internal);
        return;
      }
      t.is(outcome.code, 0, outcome.stderr);
      const [, there] = await Promise.all([
        attach('h1', `${name}-in`, `${name}-i`),
        attach('h2', `${name}-in`, `${name}-j`),
      ]);
      for (const family of families) {
        await lab.until(`${name} IPv${family}: inside`, () =>
          lab.reaches(`${name}-i`, addressIn(there, family)),
        );
        t.false(await lab.reaches(`${name}-i`, hostIn('h2', family)), `${name} IPv${family}: outside`);
      }
      await lab.json('h1', 'network', 'rm', `${name}-in`, '--force');
      for (const end of ['i', 'j']) await lab.removeContainer(`${name}-${end}`);
    });
  });

  test.serial('an agent that is killed and started again costs no packet', async (t) => {
    const lost = await losses(t, async () => {
      const agent = lab.process('agent-h2');
      agent.signal('SIGKILL');
      await agent.ended;
      await lab.startAgents(['h2'], prepared.flags);
      await each(reachable);
    });
    for (const [name, count] of lost) t.is(count, 0, name);
    await noProblems(t);
  });

  test.serial('routes, neighbours, entries and devices that are deleted by hand come back', async (t) => {
    const state = async (): Promise<string> => {
      const lines = await lab.sh(
        'h1',
        `ip -o link | grep -oE 'wf(vx|wg|ud|ipip)[^:@]*'; ip route show proto 119 table all; ip -6 route show proto 119;
         for d in $(ip -o link | grep -oE 'wfvx[^:@]*'); do bridge fdb show dev $d; ip neigh show dev $d; ip -6 neigh show dev $d; done`,
      );
      return lines
        .split('\n')
        .map((line) => line.replace(/ (?:metric|pref|expires) \S+/g, '').trim())
        .toSorted()
        .join('\n');
    };
    const before = await state();
    for (const { index, families } of sites)
      for (const family of families)
        t.true(before.includes(family === 4 ? `10.${index}.` : `fd42:${index}:`));
    const repaired = (): Promise<unknown> =>
      lab.until('all of it is back', async () => (await state()) === before);
    await lab.sh(
      'h1',
      `ip route flush proto 119 table all; ip -6 route flush proto 119;
       for d in $(ip -o link | grep -oE 'wfvx[^:@]*'); do bridge fdb flush dev $d; ip neigh flush dev $d nud permanent; ip -6 neigh flush dev $d nud permanent; done`,
    );
    await repaired();
    await each(reachable);
    await lab.sh(
      'h1',
      "for d in $(ip -o link | grep -oE 'wf(vx|wg|ud|ipip)[^:@]*'); do ip link del $d; done",
    );
    await repaired();
    await each(reachable);
    await lab.until('no problem is left', async () => {
      const { problems } = await lab.json<{ problems: unknown[] }>('h1', 'status');
      return problems.length === 0;
    });
  });

  test.serial('an underlay that was away, and a link that was down', async (t) => {
    await lab.lab.cut(lab.lab.host(2));
    await lab.until('the cable is out', async () => !(await lab.reaches('h1', lab.ipOf('h2'))));
    await lab.lab.heal(lab.lab.host(2));
    await each(reachable);
    // The kernel takes IPv6 addresses and every route from a link that goes down; the host restores its own.
    const { ip6 } = lab.lab.host(1);
    await lab.sh(
      'h1',
      `ip link set eth0 down && ip link set eth0 up && ip -6 address replace ${ip6}/64 dev eth0 nodad && ip -6 route replace default via 2001:db8::1
       ${ipv4 ? 'ip route replace default via 192.0.2.1' : ''}`,
    );
    await each(reachable);
    await lab.until('no problem is left', async () => {
      const { problems } = await lab.json<{ problems: unknown[] }>('h1', 'status');
      return problems.length === 0;
    });
    t.pass();
  });

  test.serial('a move to another backend, and back, costs a pair at most a second', async (t) => {
    const lost = await losses(t, async () => {
      for (const move of [0, 1])
        await each(async ({ name, moves }) => {
          const moved = await lab.json<{ move: unknown }>(
            'h1',
            ...['network', 'update', name, ...(moves[move] ?? [])],
          );
          t.is(moved.move, null, name);
        });
      await each(reachable);
    });
    for (const [name, count] of lost)
      t.true(count * INTERVAL_S <= Math.min(slowness, 10), `${name}: ${count} in a row`);
    await each(async ({ name, mtu }) => {
      await lab.until(
        `${name}: the MTU is what it was`,
        async () => (await lab.sh(`${name}-a`, 'cat /sys/class/net/eth0/mtu')).trim() === `${mtu}`,
      );
    });
    let problems: unknown[] = [];
    const look = async (): Promise<boolean> => {
      ({ problems } = await lab.json<{ problems: unknown[] }>('h1', 'status'));
      return problems.length === 0;
    };
    await lab.until('no problem is left', look, { context: () => JSON.stringify(problems) });
  });

  return { lab: () => lab };
}
