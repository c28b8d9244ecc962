// Port security in a cluster of two hosts: what attackers in containers, and beside the hosts, cannot do; and what they can.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, CONTROLLER, INFRA, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { arp, ethernet, udp, udpFrame, vxlan } from '../lab/frames.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { until } from '../lab/wait.js';

interface Shown extends EndpointJson {
  allowedAddresses: string[];
  drops: { reason: string; packets: number }[];
}

let lab: Cluster;
const at: Record<string, EndpointJson> = {};
let count = 0;

/** On h1 `bad`, the attacker, and `near` are on blue, `safe` on an internal one; on h2 `far` is on blue, `red` on red. */
async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('bad', 'near', 'far', 'red', 'safe');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  const networks = [
    ['blue', '10.100.0.0/16', '--subnet6', 'fd42:100::/48'],
    ['red', '10.101.0.0/16'],
    ['in', '10.102.0.0/16', '--internal'],
  ];
  for (const [name = '', subnet = '', ...flags] of networks)
    await lab.json('h1', 'network', 'create', name, '--subnet', subnet, ...flags);
  for (const [host, network, name] of [
    ['h1', 'blue', 'bad'],
    ['h1', 'blue', 'near'],
    ['h2', 'blue', 'far'],
    ['h2', 'red', 'red'],
    ['h1', 'in', 'safe'],
  ] as const)
    at[name] = await lab.json('h1' === host ? 'h1' : 'h2', 'attach', network, lab.ns(name), '--name', name);
  for (const to of [ip('near'), ip('far'), gateway('bad')])
    await until(`bad reaches ${to}`, () => lab.reaches('bad', to));
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const ip = (name: string): string => bare(at[name]?.ip ?? '');
const gateway = (name: string): string => at[name]?.gateway ?? '';
const mac = (name: string): string => at[name]?.mac ?? '';

/** The MAC address of the gateway, as a container sees it. */
const bridgeMac = async (host: string, network: string): Promise<string> =>
  (await lab.sh(host, `cat /sys/class/net/wfbr${await vni(network)}/address`)).trim();

const vni = async (network: string): Promise<number> =>
  (await lab.json<{ vni: number }>('h1', 'network', 'inspect', network)).vni;

const forge = (from: string, ...frames: Buffer[]): Promise<string> =>
  lab.sh(
    from,
    `${process.execPath} ${join(CHECKOUT, 'build/test/lab/forge.js')} eth0 ${frames.map((one) => one.toString('hex')).join(' ')}`,
  );

/** Answers UDP datagrams at a port; its log has the sources. */
async function listen(t: ExecutionContext, where: string, port: number): Promise<LabProcess> {
  const program = `const s = require('dgram').createSocket('udp4'); s.on('message', (m, r) => console.log('from ' + r.address)); s.bind(${port}, () => console.log('ready'))`;
  const started = lab.spawn(`listener-${++count}`, where, [process.execPath, '-e', program]);
  t.teardown(() => started.stop());
  await lab.says(started, 'ready');
  return started;
}

/** TCP: a line at a port. */
async function serve(t: ExecutionContext, where: string, port: number): Promise<void> {
  const program = join(CHECKOUT, 'build/test/lab/echo-server.js');
  const started = lab.spawn(`server-${++count}`, where, [process.execPath, program, `${port}`]);
  t.teardown(() => started.stop());
  await lab.says(started, 'ready');
}

const connects = async (from: string, to: string, port: number, seconds = 0.7): Promise<boolean> =>
  (await lab.try(from, `curl -s -o /dev/null --max-time ${seconds} http://${to}:${port}/`)).code === 0;

/** Frames arrive in order: when the last, which may pass, has come, none of the others will. */
async function hears(listener: LabProcess, source: string, timeoutMs?: number): Promise<void> {
  const line = `from ${source}\n`;
  await until(`${listener.name} hears ${source}`, () => Promise.resolve(listener.log().includes(line)), {
    context: () => listener.tail(),
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
}

const text = (word: string): Buffer => Buffer.from(word.padEnd(8));

test.serial(
  'a container poses as nobody: neighbours, the bridge and the host believe none of it',
  async (t) => {
    const [own, near, host] = [mac('bad'), mac('near'), await bridgeMac('h1', 'blue')];
    // A bridge forwards for a new port a moment after its link is up.
    for (const to of ['near', 'far']) await lab.until(`${to} is reached`, () => lab.reaches('bad', ip(to)));
    const bridge = `wfbr${await vni('blue')}`;
    const claim = (to: string, sender: string, target: string): Buffer =>
      arp({ from: own, to }, { mac: own, ip: sender }, target);
    const datagram = (from: string, to: string): Parameters<typeof udpFrame>[1] => ({
      ...{ from, to, fromPort: 1111, toPort: 9999, payload: text('forged') },
    });
    const neighbour = await listen(t, 'near', 9999);
    const remote = await listen(t, 'far', 9999);
    const sources = ['192.0.2.77', gateway('bad'), ip('red')];
    const frames = [
      ...[claim(near, gateway('bad'), ip('near')), claim(host, ip('near'), gateway('bad'))],
      udpFrame({ from: near, to: host }, datagram(ip('near'), gateway('bad'))),
      ...sources.flatMap((source) => [
        udpFrame({ from: own, to: near }, datagram(source, ip('near'))),
        udpFrame({ from: own, to: host }, datagram(source, ip('far'))),
      ]),
      udpFrame({ from: own, to: near }, datagram(ip('bad'), ip('near'))),
      udpFrame({ from: own, to: host }, datagram(ip('bad'), ip('far'))),
    ];
    const counted = async (): Promise<Record<string, number>> => {
      const { drops } = await lab.json<Shown>('h1', 'endpoint', 'inspect', 'bad');
      return Object.fromEntries(drops.map(({ reason, packets }) => [reason, packets]));
    };
    const each: Record<string, number> = { arp: 2, mac: 1, address: 6 };
    // A machine whose backlog is full (net.core.netdev_max_backlog) loses frames between two links: they are sent again.
    let rounds = 0;
    await until('every frame has come as far as it may', async () => {
      rounds++;
      await forge('bad', ...frames);
      for (const listener of [neighbour, remote]) await hears(listener, ip('bad'), 3000);
      const drops = await counted();
      return Object.entries(each).every(([reason, packets]) => (drops[reason] ?? 0) >= packets);
    });
    for (const [listener, what] of [
      [neighbour, 'near'],
      [remote, 'far'],
    ] as const)
      for (const source of sources)
        t.false(listener.log().includes(`from ${source}\n`), `${what} hears ${source}`);
    t.false((await lab.sh('near', `ip neigh show ${gateway('bad')}`)).includes(own));
    t.false((await lab.sh('h1', `ip neigh show ${ip('near')} dev ${bridge}`)).includes(own));
    const learnt = await lab.sh('h1', `bridge fdb show br ${bridge}`);
    t.false(learnt.includes(`${near} dev ${at['bad']?.hostIfname ?? ''} `), learnt);

    const drops = await counted();
    for (const [reason, packets] of Object.entries(each)) {
      const now = drops[reason] ?? 0;
      t.true(now <= rounds * packets, `${reason}: ${now} of ${rounds} times ${packets}`);
      t.is(await dropped('h1', reason), now);
    }
  },
);

test.serial(
  'a container speaks into no network by the nodes’ tunnels; overlays of its own work',
  async (t) => {
    const number = await vni('red');
    const vtep = (await lab.sh('h2', `cat /sys/class/net/wfvx${number}/address`)).trim();
    const listener = await listen(t, 'red', 9999);
    const inner = udp({ from: '10.101.99.9', to: ip('red'), fromPort: 1, toPort: 9999, payload: text('in') });
    const payload = vxlan(
      number,
      ethernet({ from: '02:66:66:66:66:66', to: vtep }, inner.type, inner.packet),
    );
    const [own, host] = [mac('bad'), await bridgeMac('h1', 'blue')];
    const send = (to: string, toPort = 8472): Promise<string> =>
      forge(
        'bad',
        udpFrame({ from: own, to: host }, { ...{ from: ip('bad'), to, fromPort: 1, toPort }, payload }),
      );
    const before = await dropped('h1', 'tunnel');
    for (const to of [lab.ipOf('h2'), lab.ipOf('h1'), gateway('bad')]) await send(to);
    t.is(await dropped('h1', 'tunnel'), before + 3);
    const there = await dropped('h2', 'tunnel');
    await send(gateway('far'));
    t.is(await dropped('h2', 'tunnel'), there + 1);
    t.false(listener.log().includes('10.101.99.9'));

    const nested = await listen(t, 'far', 8472);
    await until(
      'an overlay between containers passes',
      async () => {
        await send(ip('far'));
        return nested.log().includes(`from ${ip('bad')}\n`);
      },
      { context: () => nested.tail() },
    );

    // A machine beside the hosts, which is no member: weft's networks are closed to it, other VNIs are none of weft's business.
    const outsider = lab.spawn(`outsider-${++count}`, 'outside', [
      process.execPath,
      '-e',
      `const s = require('dgram').createSocket('udp4'); const m = Buffer.from('${payload.toString('hex')}', 'hex'); const o = Buffer.from(m); o.writeUIntBE(70000, 4, 3); s.send(o, 8472, '${lab.ipOf('h2')}', () => s.send(m, 8472, '${lab.ipOf('h2')}', () => console.log('sent')))`,
    ]);
    t.teardown(() => outsider.stop());
    await lab.says(outsider, 'sent');
    await until('the packet of red is dropped', async () => (await dropped('h2', 'tunnel')) === there + 2);
    t.false(listener.log().includes('10.101.99.9'));
    t.true(await lab.reaches('bad', ip('far')));
  },
);

const dropped = async (host: string, reason: string): Promise<number> => {
  const metrics = await lab.sh(host, 'curl -s http://127.0.0.1:7402/metrics');
  return Number(
    new RegExp(`^weft_dropped_packets_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(metrics)?.[1],
  );
};

test.serial(
  'what is not published is reached from the network alone, unless direct access is on',
  async (t) => {
    await serve(t, 'near', 8081);
    await serve(t, 'far', 8081);
    await lab.sh('outside', `ip route replace 10.100.0.0/16 via ${lab.ipOf('h1')}`);
    t.true(await connects('bad', ip('near'), 8081, 2));
    t.true(await connects('bad', ip('far'), 8081, 2));
    t.true(await connects('h1', ip('near'), 8081, 2));
    for (const name of ['near', 'far']) t.false(await connects('outside', ip(name), 8081), name);
    const on = await lab.json<{ directAccess: boolean }>(
      'h1',
      'network',
      'update',
      'blue',
      '--direct-access',
      'on',
    );
    t.true(on.directAccess);
    for (const name of ['near', 'far'])
      await until(`${name} is reached`, () => connects('outside', ip(name), 8081, 2));
    // A network whose containers are seen as themselves is open unless it is closed.
    await lab.json('h1', 'network', 'update', 'blue', '--direct-access', 'off');
    await until('it is closed again', async () => !(await connects('outside', ip('near'), 8081)));
    const open = await lab.json<{ directAccess: boolean; portSecurity: boolean }>(
      ...(['h1', 'network', 'create', 'open', '--subnet', '10.103.0.0/16', '--no-masquerade'] as const),
    );
    t.like(open, { directAccess: true, portSecurity: true });
    await lab.json('h1', 'network', 'rm', 'open');
  },
);

test.serial('containers reach neither the controller nor its etcd; hosts do', async (t) => {
  const [, port = ''] = CONTROLLER.split(':');
  await lab.sh(INFRA, `ip route replace 10.100.0.0/16 via ${lab.ipOf('h1')}`);
  for (const to of [Number(port), 2379]) {
    t.is((await lab.try('h1', `nc -z -w 5 ${INFRA_IP} ${to}`)).code, 0, `h1 to ${to}`);
    t.not((await lab.try('bad', `nc -z -w 1 ${INFRA_IP} ${to}`)).code, 0, `a container to ${to}`);
  }
  t.true((await dropped('h1', 'control')) > 0);
});

test.serial('an address that moves is allowed by --allowed-address, and by an update of it', async (t) => {
  const vip = gateway('bad').replace(/\.1$/, '.200');
  await lab.addContainers('one', 'two');
  t.teardown(async () => {
    for (const name of ['one', 'two']) await lab.removeContainer(name);
  });
  at['one'] = await lab.json(
    'h1',
    'attach',
    'blue',
    lab.ns('one'),
    '--name',
    'one',
    '--allowed-address',
    vip,
  );
  at['two'] = await lab.json('h1', 'attach', 'blue', lab.ns('two'), '--name', 'two');
  t.like(at['one'], { allowedAddresses: [`${vip}/32`] });
  const take = (name: string): Promise<string> => lab.sh(name, `ip address add ${vip}/32 dev eth0`);
  await take('two');
  t.false(await lab.reaches('bad', vip), 'two may not have it');
  await lab.json('h1', 'endpoint', 'update', 'two', '--allowed-address', vip);
  await until('two has it', () => lab.reaches('bad', vip));
  await lab.sh('two', `ip address del ${vip}/32 dev eth0`);
  await take('one');
  await lab.sh('bad', 'ip neigh flush dev eth0');
  await until('one has it', () => lab.reaches('bad', vip));
  const none = await lab.json<Shown>('h1', 'endpoint', 'update', 'one', '--allowed-address', 'none');
  t.deepEqual(none.allowedAddresses, []);
  await until('none has it', async () => !(await lab.reaches('bad', vip)));
  // Whose address is its own alone the node knows; whose may be another's it asks.
  const bridge = `wfbr${await vni('blue')}`;
  const isKnown = async (): Promise<boolean> =>
    (await lab.sh('h1', `ip neigh show ${ip('near')} dev ${bridge} nud permanent`)).includes(mac('near'));
  t.true(await isKnown());
  await lab.json('h1', 'endpoint', 'update', 'one', '--allowed-address', ip('near'));
  await until('near is asked for', async () => !(await isKnown()));
  t.true(await lab.reaches('h1', ip('near')));
  await lab.json('h1', 'detach', 'blue', lab.ns('one'));
  await until('near is known again', isKnown);
  const wrong = await lab.weft('h1', 'endpoint', 'update', 'two', '--allowed-address', '10.100.0.1/8');
  t.is(wrong.code, 2);
});

test.serial('several networks, addresses of other nodes and link-local ones work as before', async (t) => {
  await lab.addContainers('both', 'guest');
  t.teardown(async () => {
    for (const name of ['both', 'guest']) await lab.removeContainer(name);
  });
  at['both'] = await lab.json('h1', 'attach', 'blue', lab.ns('both'), '--name', 'both');
  const second = await lab.json<EndpointJson>('h1', 'attach', 'red', lab.ns('both'), '--name', 'both');
  t.true(await lab.reaches('both', ip('far')));
  // This node has joined red with that, and the other one hears of it.
  await until('red reaches it', () => lab.reaches('red', bare(second.ip)));
  // Its answers leave by the other link.
  await lab.sh('both', `ip route replace 10.100.0.0/16 via ${second.gateway}`);
  const listener = await listen(t, 'h1', 9998);
  await until(
    'it is heard',
    async () => {
      await lab.sh('both', `echo x | nc -u -w 1 -s ${ip('both')} ${second.gateway} 9998`);
      return listener.log().includes(`from ${ip('both')}\n`);
    },
    { context: () => listener.tail() },
  );

  const foreign = gateway('far').replace(/\.1$/, '.77');
  at['guest'] = await lab.json('h1', 'attach', 'blue', lab.ns('guest'), '--name', 'guest', '--ip', foreign);
  t.is(at['guest']?.ip, `${foreign}/32`);
  for (const from of ['bad', 'far']) await until(`${from} reaches it`, () => lab.reaches(from, foreign));
  t.true(await lab.reaches('guest', ip('far')));

  await lab.sh('bad', 'ip address add 169.254.9.1/16 dev eth0');
  await lab.sh('near', 'ip address add 169.254.9.2/16 dev eth0');
  t.true(await lab.reaches('bad', '169.254.9.2'));
});

test.serial(
  'port security ends with a setting, and an agent that restarts keeps what was bound',
  async (t) => {
    const own = mac('bad');
    const claim = arp({ from: own, to: mac('near') }, { mac: own, ip: '10.100.250.250' }, ip('near'));
    const before = await dropped('h1', 'arp');
    await forge('bad', claim);
    t.is(await dropped('h1', 'arp'), before + 1);
    const agent = lab.process('agent-h1');
    await agent.kill();
    await forge('bad', claim);
    t.regex(
      await lab.sh('h1', 'nft list counter bridge weft drop_arp'),
      new RegExp(`packets ${before + 2} `),
    );
    await lab.startAgents(['h1']);
    t.is(await dropped('h1', 'arp'), before + 2, 'the restart changes nothing');
    const off = await lab.json<{ portSecurity: boolean }>(
      'h1',
      'network',
      'update',
      'blue',
      '--port-security',
      'off',
    );
    t.false(off.portSecurity);
    await until(
      'the port is open',
      async () =>
        !(await lab.sh('h1', 'nft list set bridge weft bound')).includes(at['bad']?.hostIfname ?? ''),
    );
    await forge('bad', claim);
    t.is(await dropped('h1', 'arp'), before + 2);
    await lab.json('h1', 'network', 'update', 'blue', '--port-security', 'on');
    await until('the port is bound', async () =>
      (await lab.sh('h1', 'nft list set bridge weft bound')).includes(at['bad']?.hostIfname ?? ''),
    );
  },
);

test.serial('names outside are not asked for by containers of internal networks', async (t) => {
  const query = (from: string, name: string): Promise<string> =>
    lab.sh(
      from,
      `${process.execPath} -e "const { Resolver } = require('dns').promises; const r = new Resolver({ timeout: 2000, tries: 1 }); r.setServers(['${gateway(from)}']); r.resolve4('${name}').then((a) => console.log(a.join()), (e) => console.log(e.code))"`,
    );
  t.is((await query('safe', 'safe')).trim(), ip('safe'));
  t.is((await query('safe', 'outside.example')).trim(), 'EREFUSED');
  // Others' queries leave; nothing answers here.
  t.not((await query('near', 'outside.example')).trim(), 'EREFUSED');
});
