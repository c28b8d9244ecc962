// One network and four managers: containers of Docker, podman, a CNI runtime and weft itself, on two hosts, by name.
import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { CniRuntime } from '../lab/cni.js';
import { dockerHosts, IMAGE as DOCKER_IMAGE, type DockerHost } from '../lab/docker.js';
import type { Outcome } from '../lab/exec.js';
import { PodmanHost, podmanHosts } from '../lab/podman.js';
import { shareAmongTests } from '../lab/fresh.js';

let lab: Cluster;
let docker: DockerHost;
let podman: PodmanHost;
const h1 = new CniRuntime(() => lab, 'h1');

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    // One after the other: they make the same image.
    const [first] = await dockerHosts(lab, ['h1']);
    const [second] = await podmanHosts(lab, ['h2'], PodmanHost);
    await lab.startController();
    if (first === undefined || second === undefined) throw new Error('the lab has fewer than two hosts');
    docker = first;
    podman = second;
    await lab.startAgents(['h1', 'h2']);
  },
  async () => {
    await podman?.podman('rm', '-f', '-a', '-t', '0');
    await lab?.lab.down();
  },
);

test.serial('each finds and reaches the three others', async (t) => {
  await docker.ask(
    ...['network', 'create', '-d', 'weft', '--ipam-driver', 'weft', '--subnet', '10.9.0.0/16', 'blue'],
  );
  await podman.install(lab, 'blue');
  await docker.ask(
    ...['run', '-d', '--name', 'docker1', '--network', 'blue', '--dns', '169.254.53.53'],
    ...[DOCKER_IMAGE, 'sleep', 'infinity'],
  );
  await podman.start('podman1', '--network', 'blue');
  await docker.must(['ip', 'netns', 'add', 'n1']);
  await h1.add({
    ...{ id: 'cni1', args: 'K8S_POD_NAME=cni1', env: { CNI_NETNS: '/run/netns/n1' } },
  });
  await podman.must(['ip', 'netns', 'add', 'weft1']);
  await lab.json('h2', 'attach', 'blue', 'weft1');

  const all = await lab.until('all four are listed by name', async () => {
    const found = await lab.json<(EndpointJson & { manager: string })[]>('h1', 'endpoint', 'ls');
    const names = found.map(({ name }) => name).toSorted();
    return names.join(' ') === 'cni1 docker1 podman1 weft1' && found;
  });
  t.deepEqual(Object.fromEntries(all.map(({ name, manager, node }) => [name, `${manager} on ${node}`])), {
    docker1: 'docker on h1',
    cni1: 'cni on h1',
    podman1: 'cni on h2',
    weft1: 'weft on h2',
  });
  const within: Record<string, (command: string) => Promise<Outcome>> = {
    docker1: (command) => docker.in('docker1', command),
    podman1: (command) => podman.in('podman1', command),
    cni1: (command) => docker.exec(['ip', 'netns', 'exec', 'n1', 'busybox', ...command.split(' ')]),
    weft1: (command) => podman.exec(['ip', 'netns', 'exec', 'weft1', 'busybox', ...command.split(' ')]),
  };
  for (const [from, run] of Object.entries(within)) {
    for (const { name, ip } of all) {
      if (name === from) continue;
      const found = await run(`nslookup ${name}.blue.weft 169.254.53.53`);
      t.true(found.stdout.includes(bare(ip)), `${from} asks for ${name}: ${found.stdout}`);
      await lab.until(
        `${from} reaches ${name}`,
        async () => (await run(`ping -c 1 -W 1 ${bare(ip)}`)).code === 0,
      );
    }
  }
  await h1.done({ command: 'DEL', id: 'cni1' });
  await docker.ask('rm', '-f', 'docker1');
});
