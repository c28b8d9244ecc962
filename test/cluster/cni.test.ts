// Containers attached by CNI on two hosts: the shim, started as libcni starts it, and the agent behind it.
import { spawn } from 'node:child_process';
import { chmodSync, chownSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { CniRuntime, SHIM, type CniCall, type CniResult } from '../lab/cni.js';
import { environment, exec, type Outcome } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

let lab: Cluster;
const h1 = new CniRuntime(() => lab, 'h1');
const h2 = new CniRuntime(() => lab, 'h2');

interface Endpoint extends EndpointJson {
  manager: string;
  labels: Record<string, string>;
  aliases: string[];
}

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2', 'c3', 'c4');
    await lab.startController();
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await lab.json('h1', 'network', 'create', 'red', '--subnet', '10.101.0.0/16');
  },
  async () => lab?.lab.down(),
  nothingIsLeft,
);

/** A test releases what it has attached; what it did not, or what a failed ADD left, shows. */
async function nothingIsLeft(t: ExecutionContext): Promise<void> {
  for (const host of ['h1', 'h2']) t.notRegex(await lab.sh(host, 'ip -br link'), /wfep/, host);
  for (const container of ['c1', 'c2', 'c3']) {
    t.regex(await lab.sh(container, 'ip -br link'), /^lo .*\n$/, container);
  }
  await lab.until('etcd has no endpoint', async () => (await endpoints()).length === 0);
}

const endpoints = (): Promise<Endpoint[]> => lab.json<Endpoint[]>('h1', 'endpoint', 'ls');

/** Waits until the cluster has heard of them. */
const listed = (count: number): Promise<Endpoint[]> =>
  lab.until(`${count} endpoints are listed`, async () => {
    const all = await endpoints();
    return all.length === count && all.toSorted((a, b) => a.name.localeCompare(b.name));
  });

const ipOf = ({ ips }: CniResult): string => bare(ips[0]?.address ?? '');

test.serial(
  'containers of two hosts reach each other, are found by name, checked, and released',
  async (t) => {
    const one = {
      id: 'c0ffee01',
      container: 'c1',
      args: 'IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop',
    };
    const two = { id: 'c0ffee02', container: 'c2' };
    const web = await h1.add(one);
    const db = await h2.add({ ...two, args: 'K8S_POD_NAME=db;NOMAD_META={"a":"b=c"}' });
    await lab.until('c1 reaches c2', () => lab.reaches('c1', ipOf(db)));
    t.true(await lab.reaches('c2', ipOf(web)));

    // The order and the places that plugins chained after it rely on.
    const [bridge, pair, link] = web.interfaces;
    t.regex(bridge?.name ?? '', /^wfbr/);
    t.is(bridge?.sandbox, undefined);
    t.regex(pair?.name ?? '', /^wfep/);
    t.is(pair?.sandbox, undefined);
    t.like(link, { name: 'eth0', sandbox: h1.netns('c1') });
    t.is(web.interfaces.length, 3);
    t.like(web.ips, [{ interface: 2 }]);
    t.is(web.ips.length, 1);
    t.true(web.routes.some(({ dst, gw }) => dst === '0.0.0.0/0' && gw === web.ips[0]?.gateway));
    t.like(web.dns, { nameservers: ['169.254.53.53'], search: ['blue.weft'] });
    t.deepEqual(
      await lab.sh('h1', `cat /sys/class/net/${bridge?.name ?? ''}/address`),
      `${bridge?.mac ?? ''}\n`,
    );
    t.is(await lab.sh('c1', 'cat /sys/class/net/eth0/address'), `${link?.mac ?? ''}\n`);

    const [shownDb, shownWeb] = await listed(2);
    t.like(shownDb, { name: 'db', node: 'h2', ip: db.ips[0]?.address, manager: 'cni' });
    t.like(shownWeb, { name: 'web', node: 'h1', ifname: 'eth0' });
    t.like(shownWeb?.labels, {
      ...{ 'cni.network': 'blue', 'cni.container': 'c0ffee01', K8S_POD_NAMESPACE: 'shop' },
    });
    t.true((shownWeb?.labels['cni.runtime'] ?? '') !== '');
    t.is(shownDb?.labels['NOMAD_META'], '{"a":"b=c"}');
    const asked = await lab.sh('c1', 'dig +short +timeout=2 @169.254.53.53 db.blue.weft');
    t.is(asked, `${ipOf(db)}\n`);

    const held = { ...one, conf: { prevResult: web } };
    await h1.done({ command: 'CHECK', ...held });
    // What the container lost is put right by the check.
    await lab.sh('c1', 'ip route del default');
    await h1.done({ command: 'CHECK', ...held });
    t.regex(await lab.sh('c1', 'ip route'), /^default via/m);
    const other = { ...web, ips: [{ address: '10.100.9.9/24', interface: 2 }] };
    t.is((await h1.refused({ command: 'CHECK', ...held, conf: { prevResult: other } })).code, 103);
    t.is((await h1.refused({ command: 'CHECK', ...one, id: 'unknown' })).code, 3);

    const audit = readFileSync(join(lab.lab.host(1).stateDir, 'audit/agent.log'), 'utf8');
    t.regex(audit, /"actor":\{"uid":0\},"method":"cni ADD","object":\{"network":"blue","id":"c0ffee01"/);
    // A detach by another way than it came is refused.
    const { code, stderr } = await lab.weft('h1', 'detach', 'blue', lab.ns('c1'));
    t.is(code, 1);
    t.regex(stderr, /by a CNI runtime/);
    await h1.done({ command: 'DEL', ...one });
    await h1.done({ command: 'DEL', ...one });
    await h2.done({ command: 'DEL', ...two, container: '', conf: { prevResult: undefined } });
    await h1.done({ command: 'DEL', id: 'never', container: '' });
  },
);

test.serial(
  'a MAC address that a chained plugin set counts once the runtime says so; one that the container set does not',
  async (t) => {
    const call = { id: 'm', container: 'c1' };
    const made = await h1.add(call);
    const gateway = made.ips[0]?.gateway ?? '';
    const reached = (): Promise<boolean> => lab.reaches('c1', gateway);
    const set = (mac: string): Promise<string> => lab.sh('c1', `ip link set dev eth0 address ${mac}`);
    const told = (mac: string): Promise<void> => {
      const interfaces = made.interfaces.map((one) => (one.name === 'eth0' ? { ...one, mac } : one));
      return h1.done({ command: 'CHECK', ...call, conf: { prevResult: { ...made, interfaces } } });
    };
    await lab.until('it reaches the gateway', reached);
    await set('02:00:00:00:00:66');
    t.false(await reached());
    await told('02:00:00:00:00:66');
    await lab.until('with what the chain set', reached);
    t.like(
      await lab.until('it is listed', async () => {
        const [one] = await endpoints();
        return one?.mac === '02:00:00:00:00:66' && one;
      }),
      { ifname: 'eth0' },
    );
    await set('02:00:00:00:00:67');
    t.false(await reached());
    await h1.done({ command: 'DEL', ...call });
  },
);

test.serial('a name that is taken fails no ADD, and stands for all that have it', async (t) => {
  const taken = await lab.attach('h1', 'blue', 'c4', '--name', 'web');
  const args = 'K8S_POD_NAME=web';
  const ips = [bare(taken.ip)];
  const others = [[h1, 'c1'] as const, [h2, 'c2'] as const, [h1, 'c3'] as const];
  for (const [host, id] of others) ips.push(ipOf(await host.add({ id, container: id, args })));
  t.deepEqual(
    (await listed(4)).map(({ name }) => name),
    ips.map(() => 'web'),
  );
  const answer = await lab.sh('c1', 'dig +short +timeout=2 @169.254.53.53 web.blue.weft');
  t.deepEqual(answer.trim().split('\n').toSorted(), ips.toSorted());
  for (const [host, id] of others) await host.done({ command: 'DEL', id });
  await lab.weft('h1', 'detach', 'blue', lab.ns('c4'));
});

test.serial('every version is answered in its own form, and another one refused', async (t) => {
  const call = { id: 'v', container: 'c1' };
  for (const version of ['0.4.0', '1.0.0', '1.1.0']) {
    const conf = { cniVersion: version };
    const made = await h1.add({ ...call, conf });
    t.is(made.cniVersion, version);
    t.is(made.ips[0]?.version, version === '0.4.0' ? '4' : undefined, version);
    t.is(made.interfaces[2]?.mtu, version === '1.1.0' ? 1450 : undefined, version);
    await h1.done({ command: 'DEL', ...call, conf });
  }
  t.like(await h1.refused({ command: 'ADD', ...call, conf: { cniVersion: '0.3.1' } }), { code: 1 });
  const { stdout } = await h1.call({ command: 'VERSION' });
  t.deepEqual(JSON.parse(stdout), {
    cniVersion: '1.1.0',
    supportedVersions: ['0.4.0', '1.0.0', '1.1.0'],
  });
});

test.serial(
  'what is asked for: addresses, MAC, ports, aliases, no default route; and what is not held',
  async (t) => {
    const runtimeConfig = {
      portMappings: [{ HostPort: 8080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' }],
      ips: ['10.100.0.0/24'],
      mac: '02:00:00:00:00:2a',
      aliases: { blue: ['postgres', 'c0ffee'] },
      dns: { Servers: ['192.0.2.53'], Searches: ['example.com'], Options: null },
    };
    // An address of this node's subnet, which is known once it is on the network.
    const first = await h1.add({ id: 'a', container: 'c1' });
    await h1.done({ command: 'DEL', id: 'a', container: 'c1' });
    const wanted = ipOf(first).replace(/\d+$/, '77');
    const call = { id: 'b', container: 'c1' };
    const made = await h1.add({
      ...call,
      conf: { runtimeConfig: { ...runtimeConfig, ips: [`${wanted}/24`] }, defaultRoute: false },
    });
    t.is(ipOf(made), wanted);
    t.is(made.interfaces[2]?.mac, '02:00:00:00:00:2a');
    t.false(made.routes.some(({ dst }) => dst === '0.0.0.0/0'));
    t.deepEqual(made.dns, { nameservers: ['192.0.2.53'], search: ['example.com'], options: [] });
    const [shown] = await listed(1);
    t.like(shown, { aliases: ['postgres', 'c0ffee'], mac: '02:00:00:00:00:2a', ifname: 'eth0' });
    t.like(shown?.publish, [{ hostPort: 8080, port: 80, protocol: 'tcp' }]);
    t.is(shown?.publish.length, 1);

    // As podman and nerdctl ask for one address; the port is another container's.
    const args = `IP=${wanted.replace(/77$/, '78')};MAC=02:00:00:00:00:2b`;
    const taken = { runtimeConfig: { portMappings: runtimeConfig.portMappings } };
    t.like(await h1.refused({ command: 'ADD', id: 'c', container: 'c2', args, conf: taken }), { code: 101 });
    t.like(await h1.refused({ command: 'ADD', id: 'c', container: 'c2', args: `IP=${wanted}` }), {
      code: 101,
    });
    const second = await h1.add({ id: 'c', container: 'c2', args });
    t.is(ipOf(second), wanted.replace(/77$/, '78'));
    t.is(second.interfaces[2]?.mac, '02:00:00:00:00:2b');
    // Not on one network twice, and not under a name that is taken.
    t.like(await h1.refused({ command: 'ADD', id: 'c', container: 'c2', ifname: 'eth1' }), { code: 101 });
    t.like(
      await h1.refused({ command: 'ADD', id: 'd', container: 'c2', conf: { name: 'red', network: 'red' } }),
      {
        code: 101,
      },
    );
    const range = (subnet: string, more = {}): object => ({
      runtimeConfig: { ipRanges: [[{ subnet, ...more }]] },
    });
    const ranged = { command: 'ADD', id: 'r', container: 'c3' };
    t.regex((await h1.refused({ ...ranged, conf: range('10.9.0.0/24') as never })).msg, /cannot be kept/);
    t.is(
      (await h1.refused({ ...ranged, conf: range('10.100.0.0/16', { rangeStart: '10.100.5.9' }) as never }))
        .code,
      7,
    );
    await h1.add({ ...ranged, conf: range('10.100.0.0/16') as never });
    await h1.done({ command: 'DEL', id: 'r', container: 'c3' });
    await h1.done({ command: 'DEL', ...call });
    await h1.done({ command: 'DEL', id: 'c', container: 'c2' });
  },
);

test.serial('an ADD that fails says why, in one JSON, and leaves nothing', async (t) => {
  const call = { command: 'ADD', id: 'f', container: 'c1' };
  const refusals: [Record<string, unknown>, Partial<typeof call>, number, RegExp][] = [
    [{ network: 'nowhere' }, {}, 7, /nowhere/],
    [{ network: 'no way' }, {}, 7, /network/],
    [{ name: '../blue' }, {}, 7, /name/],
    [{ ipam: { type: 'host-local' } }, {}, 7, /host-local/],
    [{ defaultRoute: 'yes' }, {}, 7, /defaultRoute/],
    [{ runtimeConfig: { bandwidth: { IngressRate: 1000 } } }, {}, 7, /bandwidth/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 99999, containerPort: 80 }] } }, {}, 7, /portMappings/],
    [{}, { container: '' }, 4, /CNI_NETNS/],
    [{}, { id: '' }, 4, /CNI_CONTAINERID/],
    [{}, { command: 'JUMP' }, 4, /CNI_COMMAND/],
  ];
  for (const [conf, changes, code, words] of refusals) {
    const failure = await h1.refused({ ...call, ...changes, conf });
    t.is(failure.code, code, JSON.stringify(failure));
    t.regex(failure.msg, words);
    t.is(failure.cniVersion, '1.0.0');
  }
  const gone = await h1.refused({ ...call, env: { CNI_NETNS: '/run/netns/never' } });
  t.is(gone.code, 8, gone.msg);
  const huge = await h1.refused({ ...call, conf: { junk: 'x'.repeat(5 << 20) } });
  t.like(huge, { code: 999, cniVersion: '1.0.0' });
  t.regex(huge.msg, /too long: \d+ bytes/);
  const noAgent = { ...call, conf: { socket: join(lab.folder, 'none.sock') } };
  t.like(await h1.refused(noAgent), { code: 11, cniVersion: '1.0.0' });
  t.like(await h1.refused({ ...noAgent, command: 'STATUS' }), { code: 50 });
  const { code, stdout } = await asNobody(t, call);
  t.is(code, 1);
  t.like(JSON.parse(stdout), { code: 11 });
  t.regex(stdout, /only root may ask.*weft attach/);
});

/** Asks as a rootless runtime does: its root may not write to a socket of another user. */
async function asNobody(t: ExecutionContext, call: CniCall): Promise<Outcome> {
  const socket = join(temporaryFolder(t, 'weft-cni-'), 'cni.sock');
  const server = createServer();
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  chmodSync(socket, 0o600);
  chownSync(socket, 65_534, 65_534);
  const powerless = ['setpriv', '--bounding-set', '-all', '--inh-caps', '-all', 'sh', SHIM];
  return exec(lab.place('h1').inside(powerless), {
    env: h1.environment(call),
    input: JSON.stringify(h1.conf({ socket })),
  });
}

test.serial('ADDs of one container at once, on two networks', async (t) => {
  const red = { name: 'red', network: 'red' };
  const call = { id: 'p', container: 'c1' };
  const [blue] = await Promise.all([h1.add(call), h1.add({ ...call, ifname: 'eth1', conf: red })]);
  // An ADD that is repeated, as after an answer that was lost, is answered with what is there.
  t.deepEqual(await h1.add(call), blue);
  t.is((await lab.sh('c1', 'ip route show default')).trim().split('\n').length, 1);
  t.is((await listed(2)).length, 2);
  await Promise.all([
    h1.done({ command: 'DEL', ...call }),
    h1.done({ command: 'DEL', ...call, ifname: 'eth1', conf: red }),
  ]);
});

test.serial('an ADD whose caller is killed is undone, and can be repeated', async (t) => {
  const far = await h2.add({ id: 'far', container: 'c4' });
  // The owner of the address is silent: the ADD waits for its agreement.
  const owner = lab.process('agent-h2');
  owner.signal('SIGSTOP');
  try {
    const ips = [ipOf(far).replace(/\d+$/, '200')];
    const call = { command: 'ADD', id: 'k', container: 'c1', conf: { runtimeConfig: { ips } } };
    const [program = '', ...args] = lab.place('h1').inside(['sh', SHIM]);
    const killed = spawn(program, args, {
      env: environment(h1.environment(call)),
      stdio: ['pipe', 'ignore', 'ignore'],
      // A process group of its own: the shim is killed with what it has started.
      detached: true,
    });
    const ended = new Promise((resolve) => killed.once('exit', resolve));
    killed.stdin.end(JSON.stringify(h1.conf(call.conf)));
    const isClaimed = async (): Promise<boolean> =>
      (await keys('/weft/')).some((key) => key.includes(ips[0] ?? ''));
    await lab.until('it waits for the address', isClaimed);
    process.kill(-(killed.pid ?? 0), 'SIGKILL');
    await ended;
    await lab.until('the claim is given back', async () => !(await isClaimed()));
    t.regex(await lab.sh('c1', 'ip -br link'), /^lo .*\n$/);
  } finally {
    owner.signal('SIGCONT');
  }
  await h1.add({ id: 'k', container: 'c1' });
  await h1.done({ command: 'DEL', id: 'k', container: 'c1' });
  await h2.done({ command: 'DEL', id: 'far', container: 'c4' });
});

const keys = async (prefix: string): Promise<string[]> =>
  (await lab.etcdctl('get', '--prefix', '--keys-only', prefix)).split('\n').filter(Boolean);

test.serial('the agent restarts, a DEL is lost, a container vanishes: nothing stays', async (t) => {
  const call = { id: 's', container: 'c1' };
  const before = await h1.add(call);
  await lab.addContainers('gone');
  await h1.add({ id: 'gone', container: 'gone' });
  await listed(2);
  await lab.process('agent-h1').kill();
  t.like(await h1.refused({ command: 'DEL', ...call }), { code: 11 });
  await lab.removeContainer('gone');
  await lab.startAgents(['h1']);
  await h1.done({ command: 'CHECK', ...call, conf: { prevResult: before } });
  // Its container ended while nobody looked.
  const [kept] = await listed(1);
  t.like(kept, { ip: before.ips[0]?.address });

  // The runtime lost its record, and made the container anew.
  await lab.removeContainer('c1');
  await lab.addContainers('c1');
  const after = await h1.add(call);
  t.is((await listed(1)).length, 1);
  t.regex(await lab.sh('c1', 'ip -br addr show eth0'), new RegExp(ipOf(after)));

  // GC removes what is not listed and dead, and nothing that lives; the list may be absent.
  await h1.done({ command: 'GC', conf: { 'cni.dev/valid-attachments': [] } });
  await h1.done({ command: 'GC' });
  t.true(await lab.reaches('c1', after.ips[0]?.gateway ?? ''));
  await h1.done({ command: 'STATUS' });
  const { plugins } = await lab.json<{ plugins: object[] }>('h1', 'status');
  t.deepEqual(
    plugins,
    ['cni', 'netavark'].map((manager) => ({ manager, socket: h1.socket })),
  );
  t.like(await h1.refused({ command: 'STATUS', conf: { network: 'nowhere' } }), { code: 50 });
  await h1.done({ command: 'DEL', ...call });
  t.deepEqual(readdirSync(join(lab.lab.host(1).stateDir, 'endpoints')), []);
});

test.serial('perl, curl and node ask alike', async (t) => {
  const tools = join(lab.folder, 'tools');
  const answers: CniResult[] = [];
  for (const tool of ['perl', 'curl', 'node']) {
    const folder = join(tools, tool);
    const path = await lab.sh('h1', `command -v ${tool}`);
    await lab.sh('h1', `mkdir -p ${folder} && ln -s ${path.trim()} $(command -v cat) ${folder}/`);
    // The shim adds the usual folders to a PATH: without them it has this tool alone.
    await lab.sh('h1', `sed 's|^PATH=.*|PATH=${folder}|' ${SHIM} >${folder}/weft`);
    const call = { id: 't', container: 'c1', args: 'K8S_POD_NAME=é;A={"x":"y;z"}' };
    const { code, stdout } = await lab.try('h1', `/bin/sh ${folder}/weft`, {
      env: h1.environment({ command: 'ADD', ...call }),
      input: JSON.stringify(h1.conf()),
    });
    t.is(code, 0, `${tool}: ${stdout}`);
    answers.push(JSON.parse(stdout) as CniResult);
    await h1.done({ command: 'DEL', ...call });
  }
  t.deepEqual(
    answers.map(({ interfaces, routes, dns }) => [interfaces[0], interfaces.length, routes.length, dns]),
    answers.map(() => {
      const [{ interfaces, routes, dns } = answers[0]!] = answers;
      return [interfaces[0], interfaces.length, routes.length, dns];
    }),
  );
});
