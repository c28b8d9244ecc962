// The demonstration: two hosts, a controller, a network, and traffic across.
//
// A controller that is a certificate authority, an embedded etcd, two agents that join by token, a container on each host, and the objects by which they reach each other. It exits with 0 only
// if they really did.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { messageOf } from '../../core/errors.js';
import { bare, Cluster, CONTROLLER, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { WEFT } from '../lab/lab.js';
import { DEMO_RUN, isKept, namespacesOf, removeRun, sweep } from '../lab/runs.js';
import { transfer } from '../lab/traffic.js';

const HELP = `npm run demo             two hosts, a network, traffic across; nothing is left behind
npm run demo -- --keep   leaves the hosts up, and prints commands to try
npm run demo -- --down   removes them
`;

const HOSTS = ['h1', 'h2'] as const;
/** Of the run; a test of the demo has another. */
const RUN = process.env['WEFT_DEMO_RUN'] ?? DEMO_RUN;
const BYTES = 64 * 1024 * 1024;

const say = (text = ''): void => void process.stdout.write(`${text}\n`);
const heading = (text: string): void => say(`\n${text}\n${'─'.repeat(text.length)}`);
const show = (command: string, output: string): void =>
  say(`  $ ${command}\n${output.trimEnd().replace(/^/gm, '    ')}`);

async function main(argv: readonly string[]): Promise<number> {
  const unknown = argv.find((word) => !['--keep', '--down', '--help'].includes(word));
  if (unknown !== undefined) {
    process.stderr.write(`weft demo: unknown option ${unknown}\n${HELP}`);
    return 2;
  }
  if (argv.includes('--help')) {
    say(HELP.trimEnd());
    return 0;
  }
  sweep();
  const there = isKept(RUN) || namespacesOf(RUN).length > 0;
  if (there) {
    const left = removeRun(RUN);
    if (left.length > 0) throw new Error(`could not be removed: ${left.join(', ')}`);
    say('Removed the hosts of an earlier demo.');
  } else if (argv.includes('--down')) say('There are no hosts of a demo.');
  if (argv.includes('--down')) return 0;

  const lab = await Cluster.create(2, { ...(argv.includes('--keep') && { run: RUN }), secure: true });
  try {
    const far = await demonstrate(lab);
    if (argv.includes('--keep')) invite(lab, far);
    else await lab.lab.down();
    return 0;
  } catch (error) {
    process.stderr.write(`\nweft demo: ${messageOf(error)}\n\n${lab.lab.logs()}\n`);
    await lab.lab.down();
    return 1;
  }
}

/** Returns the container of h2. */
async function demonstrate(lab: Cluster): Promise<EndpointJson> {
  heading('Two hosts, an embedded etcd, a controller, two agents that join by token');
  await lab.startController();
  await lab.startAgents(HOSTS);
  say(`  infra  ${INFRA_IP}   weft controller, the certificate authority, with an etcd of its own`);
  for (const n of [1, 2])
    say(`  h${n}     ${lab.ipOf(`h${n}`)}  weft agent --token WEFT-1-… --controller ${CONTROLLER}`);

  heading('A network, and a container on each host');
  const made = await lab.weft('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  if (made.code !== 0) throw new Error(`the network could not be made: ${made.stderr}`);
  show('weft network create blue --subnet 10.100.0.0/16', made.stdout);
  const ends: EndpointJson[] = [];
  for (const n of [1, 2]) {
    await lab.addContainers(`c${n}`);
    const began = performance.now();
    const end = await lab.attach(`h${n}`, 'blue', `c${n}`);
    show(
      `weft attach blue c${n}`,
      `${end.ip} on ${end.node}, ${(performance.now() - began).toFixed(0)} ms with the command's own start`,
    );
    ends.push(end);
  }
  const [a, b] = ends;
  if (a === undefined || b === undefined) throw new Error('a container is missing');
  picture(a, b);

  heading('They reach each other');
  await lab.until('the route to the other host exists', () => lab.reaches('c1', bare(b.ip)));
  for (const [from, to] of [
    ['c1', b],
    ['c2', a],
  ] as const) {
    const command = `ping -c 5 -i 0.2 ${bare(to.ip)}`;
    const { stdout, code } = await lab.try(from, command);
    show(`(in ${from}) ${command}`, stdout.trimEnd().split('\n').slice(-2).join('\n'));
    if (code !== 0 || !stdout.includes(' 0% packet loss'))
      throw new Error(`${from} does not reach ${bare(to.ip)} without loss`);
  }
  const moved = await transfer(lab.place('c1'), lab.place('c2'), bare(b.ip), BYTES);
  show(
    `(in c1) send ${BYTES / 1024 / 1024} MiB to c2 by TCP`,
    `${moved.intact ? 'arrived whole' : 'did not arrive whole'}, ${moved.megabitsPerSecond.toFixed(0)} Mbit/s`,
  );
  if (!moved.intact) throw new Error('the bytes that arrived are not those that were sent');

  heading('What made it possible, on h1');
  for (const command of [
    'ip route show proto 119',
    'bridge fdb show | grep wfvx | grep dst',
    'ip neigh show nud permanent | grep wfvx',
    'ip -d -br link show type vxlan',
  ]) {
    show(command, await lab.sh('h1', command));
  }
  heading('How long an attach takes');
  show('attach, as the agents measured it', await attachTimes(lab));
  const status = await lab.weft('h1', 'status');
  heading('weft status, on h1');
  say(status.stdout.trimEnd().replace(/^/gm, '  '));
  if (status.code !== 0) throw new Error('the status is not good');
  say('\nThe containers reached each other. Every packet and every byte arrived.');
  return b;
}

function picture(a: EndpointJson, b: EndpointJson): void {
  const ip = (it: EndpointJson): string => it.ip.padEnd(17);
  say(`
   ┌─ h1 ────────────────────┐              ┌─ h2 ────────────────────┐
   │  c1  ${ip(a)}  │              │  c2  ${ip(b)}  │
   │   │                     │              │   │                     │
   │  bridge ── vxlan ═══════╪══ underlay ══╪═══════ vxlan ── bridge  │
   └────── ${'192.0.2.11'.padEnd(12)} ─────┘              └────── ${'192.0.2.12'.padEnd(12)} ─────┘`);
}

async function attachTimes(lab: Cluster): Promise<string> {
  const lines = [];
  for (const host of HOSTS) {
    const metrics = await lab.sh(host, 'curl -s http://127.0.0.1:7402/metrics');
    const sum = /weft_attach_duration_seconds_sum\{result="done"\} ([\d.e-]+)/.exec(metrics)?.[1];
    lines.push(`${host}: ${(Number(sum) * 1000).toFixed(1)} ms, with joining the network for the first time`);
  }
  for (const n of [3, 4]) {
    await lab.addContainers(`c${n}`);
    await lab.attach('h1', 'blue', `c${n}`);
  }
  const metrics = await lab.sh('h1', 'curl -s http://127.0.0.1:7402/metrics');
  const sum =
    Number(/weft_attach_duration_seconds_sum\{result="done"\} ([\d.e-]+)/.exec(metrics)?.[1]) * 1000;
  const first = Number(/h1: ([\d.]+) ms/.exec(lines[0] ?? '')?.[1]);
  lines.push(`h1: ${((sum - first) / 2).toFixed(1)} ms each for two more`);
  for (const n of [3, 4]) {
    await lab.weft('h1', 'detach', 'blue', lab.ns(`c${n}`));
    await lab.removeContainer(`c${n}`);
  }
  return lines.join('\n');
}

/** What it prints are lines of a shell. @param far the container of h2 */
function invite(lab: Cluster, far: EndpointJson): void {
  const { run } = lab.lab;
  const wrapper = join(lab.folder, 'weft');
  const env = Object.entries(lab.environment('h1')).map(
    ([name, value]) => `${name}=${value.replace(`${lab.folder}/h1/`, `${lab.folder}/$host/`)}`,
  );
  writeFileSync(
    wrapper,
    `#!/bin/sh
# weft on one of the demo's hosts: ${wrapper} h1 status
host=$1; shift
exec ip netns exec ${run}-$host env ${env.join(' ')} ${WEFT} "$@"
`,
    { mode: 0o755 },
  );
  lab.lab.keep();
  heading('The hosts stay up. Try');
  const down = RUN === DEMO_RUN ? '' : `WEFT_DEMO_RUN=${RUN} `;
  for (const line of [
    `${wrapper} h1 status`,
    `${wrapper} h1 node ls`,
    `${wrapper} h1 network inspect blue`,
    `ip netns add ${run}-c5 && ${wrapper} h2 attach blue ${run}-c5 --name db`,
    `ip netns exec ${run}-c1 ping -c 3 ${bare(far.ip)}`,
    '# the tunnel of h1 is deleted, and is there again',
    `ip -n ${run}-h1 link del $(ip -n ${run}-h1 -br link show type vxlan | cut -d' ' -f1)`,
    `ip netns exec ${run}-c1 ping -c 3 ${bare(far.ip)}`,
    ...HOSTS.map((host) => `# the agent of ${host} has pid ${lab.process(`agent-${host}`).pid}`),
    '# removes everything',
    `${down}npm run demo -- --down`,
  ]) {
    say(`  ${line}`);
  }
}

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`weft demo: ${messageOf(error)}\n`);
  return 1;
});
process.exit();
