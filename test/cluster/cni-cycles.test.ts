// ADD and DEL while everything is killed in turn: the shim, the agent, the container. No address may be lost by it.
//
// The node has five addresses: were a few lost, no more could be given. WEFT_CYCLES=500 for the long form, by hand.
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import { Cluster } from '../lab/cluster.js';
import { CniRuntime, SHIM } from '../lab/cni.js';
import { environment } from '../lab/exec.js';

const CYCLES = Number(process.env['WEFT_CYCLES'] ?? 60);
/** Of a /29, without base, gateway and broadcast. */
const ADDRESSES = 5;

test('kill -9 of shim, agent and container in turn, and every address is there at the end', async (t) => {
  t.timeout(60_000 + CYCLES * 3000);
  const lab = await Cluster.create(1);
  t.teardown(() => lab.lab.down());
  const runtime = new CniRuntime(() => lab, 'h1');
  const containers = ['c1', 'c2', 'c3', 'c4', 'c5'] as const;
  await lab.addContainers(...containers);
  await lab.startController();
  await lab.startAgents(['h1']);
  const create = ['network', 'create', 'blue', '--subnet', '10.100.0.0/24', '--host-prefix', '29'];
  await lab.json('h1', ...create);

  /** An ADD whose shim is killed after a while, with what it started. */
  const interrupted = async (id: string, container: string, afterMs: number): Promise<void> => {
    const place = lab.place('h1').inside(['sh', SHIM]);
    const [program = '', ...args] = place;
    const shim = spawn(program, args, {
      env: environment(runtime.environment({ command: 'ADD', id, container })),
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    const ended = new Promise((resolve) => shim.once('exit', resolve));
    shim.stdin.on('error', () => undefined);
    shim.stdin.end(JSON.stringify(runtime.conf()));
    await delay(afterMs);
    kill(-(shim.pid ?? 0));
    await ended;
  };
  const kill = (pid: number): void => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  };

  const done = { added: 0, refused: 0, shims: 0, agents: 0, containers: 0 };
  for (let i = 0; i < CYCLES; i++) {
    const container = containers[i % containers.length] ?? 'c1';
    const id = `cycle-${i}`;
    const call = { id, container };
    switch (i % 6) {
      case 1:
      case 3:
        await interrupted(id, container, (i * 7) % 30);
        done.shims++;
        break;
      case 5: {
        // The agent dies while it works, every second time.
        const busy = i % 12 === 5 ? runtime.call({ command: 'ADD', ...call }) : runtime.add(call);
        if (i % 12 === 5) await delay((i * 5) % 25);
        else await busy;
        await lab.process('agent-h1').kill();
        await busy;
        await lab.startAgents(['h1']);
        done.agents++;
        break;
      }
      default:
        if ((await runtime.call({ command: 'ADD', ...call })).code === 0) done.added++;
        else done.refused++;
    }
    if (i % 6 === 4) {
      // Its DEL never comes.
      await lab.removeContainer(container);
      await lab.addContainers(container);
      done.containers++;
    } else await runtime.done({ command: 'DEL', ...call });
  }
  t.log(JSON.stringify(done));
  t.is(done.refused, 0);
  await lab.until(
    'nothing is attached',
    async () => (await lab.json<unknown[]>('h1', 'endpoint', 'ls')).length === 0,
  );
  t.notRegex(await lab.sh('h1', 'ip -br link'), /wfep/);
  const last = await Promise.all(
    containers.map((container, n) => runtime.add({ id: `last-${n}`, container })),
  );
  t.is(new Set(last.map(({ ips }) => ips[0]?.address)).size, ADDRESSES);
});
