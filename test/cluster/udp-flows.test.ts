// Uninterrupted UDP flows to ports that open, move and close.
//
// They follow their port; flows of other ports go on.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';

let lab: Cluster;

async function talk(name: string, where: string, ...words: string[]): Promise<LabProcess> {
  const program = join(CHECKOUT, 'build/test/lab/udp-talk.js');
  const started = lab.spawn(name, where, [process.execPath, program, ...words]);
  await lab.says(started, 'ready');
  return started;
}

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  const subnets = ['--subnet', '10.100.0.0/16', '--subnet6', 'fd42:100::/48'];
  await lab.json('h1', 'network', 'create', 'blue', ...subnets);
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** A container on the network, for one test, which answers queries with its name. */
async function answering(t: ExecutionContext, host: string, name: string): Promise<EndpointJson> {
  await lab.addContainers(name);
  t.teardown(() => lab.removeContainer(name));
  const end = await lab.attach(host, 'blue', name, '--name', name);
  t.teardown(() => lab.weft(host, 'detach', 'blue', lab.ns(name)));
  await talk(`answers-${name}`, name, 'answer', '53', name);
  return end;
}

const flows = (): Promise<string> => lab.sh('h1', 'grep udp /proc/net/nf_conntrack');

test.serial('a client that started before the port opened follows it as it moves', async (t) => {
  const [, two] = await Promise.all([
    answering(t, 'h1', 'one'),
    answering(t, 'h1', 'two'),
    answering(t, 'h2', 'far'),
  ]);
  const askers = await Promise.all([
    talk('ask-outside', 'outside', 'ask', lab.ipOf('h1'), '6000'),
    talk('ask-outside-6', 'outside', 'ask', '2001:db8::11', '6000'),
    talk('ask-host', 'h1', 'ask', '127.0.0.1', '6000'),
    talk('ask-neighbour', 'two', 'ask', lab.ipOf('h1'), '6000'),
  ]);
  await lab.until('conntrack has the flows', async () => /dst=127.0.0.1 .*dport=6000 /.test(await flows()));
  /** This one answers all of them, and from then on no other does. */
  const answered = async (by: string): Promise<void> => {
    const from = askers.map((asker) => asker.log().length);
    const since = (i: number): string[] => askers[i]?.log().slice(from[i]).trim().split('\n') ?? [];
    await lab.until(`${by} answers all`, () => askers.every((_asker, i) => since(i).at(-1) === by), {
      timeoutMs: 3000,
    });
    t.pass();
  };
  await lab.json('h1', 'port', 'publish', 'one', '6000:53/udp');
  await answered('one');
  await lab.json('h1', 'port', 'rm', 'one', '6000/udp');
  await lab.json('h1', 'port', 'publish', 'two', '6000:53/udp');
  await answered('two');
  // To the port, and answered by `two`; a flow that `two` itself started is listed, too, but leads no client there.
  const leadsToTwo = async (): Promise<boolean> =>
    new RegExp(` dport=6000 .*src=${bare(two.ip)} dst=\\S+ sport=53 `).test(await flows());
  t.true(await leadsToTwo());
  await lab.json('h1', 'detach', 'blue', lab.ns('two'));
  await lab.until('no flow leads to the deleted endpoint', async () => !(await leadsToTwo()));
  await lab.json('h2', 'port', 'publish', 'far', '6000:53/udp', '--everywhere');
  // The neighbour was deleted with its network.
  askers.pop();
  await answered('far');
  for (const asker of askers) await asker.stop();
});

test.serial('other flows to a port of the same number are not touched', async (t) => {
  await answering(t, 'h1', 'idle');
  const answers = await talk('answers-outside', 'outside', 'answer', '7000', 'outside');
  t.teardown(() => answers.stop());
  const toThem = async (): Promise<number> =>
    (await flows()).match(/dst=192\.0\.2\.1 sport=\d+ dport=7000 /g)?.length ?? 0;
  // One query and its answer from a container to the outside, and one of the host’s own; both are idle then.
  for (const from of ['idle', 'h1'])
    t.is((await lab.sh(from, 'echo x | nc -u -w 1 192.0.2.1 7000')).trim(), 'outside', from);
  t.is(await toThem(), 2);
  await lab.json('h1', 'port', 'publish', 'idle', '7000:53/udp');
  await lab.json('h1', 'port', 'rm', 'idle', '7000/udp');
  t.is(await toThem(), 2);
});
