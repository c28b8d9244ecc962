// Two real Docker hosts on one network of weft, used as a Docker user would: networks, containers, addresses, names.
import test from 'ava';

import { Cluster } from '../lab/cluster.js';
import { dockerHosts, IMAGE, type DockerHost } from '../lab/docker.js';

let lab: Cluster;
let h1: DockerHost;
let h2: DockerHost;

const CREATE = ['network', 'create', '-d', 'weft', '--ipam-driver', 'weft'];

test.before(async () => {
  lab = await Cluster.create(2);
  const [[first, second]] = await Promise.all([dockerHosts(lab, ['h1', 'h2']), lab.startController()]);
  if (first === undefined || second === undefined) throw new Error('two hosts were asked for');
  [h1, h2] = [first, second];
  await lab.startAgents(['h1', 'h2']);
});
test.after.always(() => lab?.lab.down());

test.serial('a network of that name on each host is one network', async (t) => {
  await h1.ask(...CREATE, '--subnet', '10.9.0.0/16', 'blue');
  await h2.ask(...CREATE, '--subnet', '10.9.0.0/16', 'blue');
  const blue = await lab.until('both are on it', async () => {
    const found = await lab.json<{ leases: { node: string }[]; subnet: string }>(
      'h1',
      'network',
      'inspect',
      'blue',
    );
    return found.leases.length === 2 && found;
  });
  t.is(blue.subnet, '10.9.0.0/16');
});

test.serial('containers of both hosts reach each other', async (t) => {
  await h1.ask('run', '-d', '--name', 'web', '--network', 'blue', IMAGE);
  await h2.ask('run', '-d', '--name', 'db', '--network', 'blue', IMAGE);
  const ip = await h2.ask('inspect', '-f', '{{.NetworkSettings.Networks.blue.IPAddress}}', 'db');
  const ping = await h1.in('web', `ping -c 1 -w 10 ${ip}`);
  t.is(ping.code, 0, ping.stdout + ping.stderr);
});
