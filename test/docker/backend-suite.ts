// Docker's networks on several backends, as one table: a network of each with containers of two engines, all at once.
import test from 'ava';

import { RESOLVER_IP } from '../../core/link-names.js';
import { exec } from '../lab/exec.js';
import { linkKinds, type LinkKind } from '../lab/link-kinds.js';
import { shareAmongTests } from '../lab/fresh.js';
import type { Prepare } from '../lab/prepare.js';
import { sideBySide } from '../lab/wait.js';
import { connection, DockerCluster, start } from './cluster.js';

export interface DockerBackend {
  name: string;
  /** Of `docker network create`. */
  options: readonly string[];
  mtu: number;
  /** The kind of link that not every kernel has. */
  needs?: LinkKind;
}

export function dockerBackendSuite(
  backends: readonly DockerBackend[],
  prepare?: Prepare,
): { lab: () => DockerCluster } {
  let lab: DockerCluster;
  let kinds: readonly LinkKind[] = [];
  const sites = (): DockerBackend[] =>
    backends.filter(({ needs }) => needs === undefined || kinds.includes(needs));

  /** On each network a container of h1, and one of h2 that publishes a port and echoes on it. */
  async function setUp(): Promise<void> {
    lab = await DockerCluster.up(prepare);
    kinds = await linkKinds((argv) => exec(lab.cluster.place('outside').inside(argv)));
    for (const [i, { name, options }] of sites().entries()) {
      await lab.createOnBoth('--subnet', `10.${30 + i}.0.0/16`, ...options, name);
      await Promise.all([
        start(lab.h1, `${name}-a`, '--network', name, '--dns', RESOLVER_IP),
        start(lab.h2, `${name}-b`, '--network', name, '-p', `${8000 + i}:80`),
      ]);
      // It listens on: one that is started for each connection would refuse the next while it starts.
      await lab.h2.ask('exec', '-d', `${name}-b`, 'nc', '-ll', '-p', '80', '-e', 'cat');
      await lab.until(`${name}-b listens`, async () =>
        (await lab.h2.in(`${name}-b`, 'netstat -ltn')).stdout.includes(':80 '),
      );
    }
  }

  shareAmongTests(test, setUp, async () => lab?.down());

  test.serial(
    'containers of two engines reach each other, by name and with the MTU of the path',
    async (t) => {
      await sideBySide(
        sites().map(({ name, mtu }) => async () => {
          const { IPAddress } = await connection(lab.h2, `${name}-b`, name);
          for (const to of [IPAddress, `${name}-b`])
            await lab.until(
              `${name}: ${to}`,
              async () => (await lab.h1.in(`${name}-a`, `ping -c 1 -w 2 ${to}`)).code === 0,
            );
          t.is((await lab.h1.in(`${name}-a`, 'cat /sys/class/net/eth0/mtu')).stdout.trim(), `${mtu}`, name);
          const { code } = await lab.h1.in(`${name}-a`, `ping -c 1 -w 2 -s ${mtu - 28} ${IPAddress}`);
          t.is(code, 0, `${name}: ${mtu} bytes`);
        }),
      );
    },
  );

  test.serial('published ports', async (t) => {
    for (const [i, { name }] of sites().entries())
      for (const from of ['outside', 'h1'])
        t.regex(
          await lab.cluster.sh(from, `echo hello | nc -N -w 3 ${lab.cluster.ipOf('h2')} ${8000 + i}`),
          /hello/,
          `${name} from ${from}`,
        );
  });

  test.serial('a container that restarts, and an agent that does, have what they had', async (t) => {
    const before = await Promise.all(sites().map(({ name }) => connection(lab.h1, `${name}-a`, name)));
    await lab.cluster.process('agent-h1').stop();
    await lab.cluster.startAgents(['h1'], lab.flags);
    await sideBySide(
      sites().map(
        ({ name }) =>
          () =>
            lab.h1.ask('restart', `${name}-a`),
      ),
    );
    for (const [i, { name }] of sites().entries()) {
      const after = await connection(lab.h1, `${name}-a`, name);
      t.is(after.IPAddress, before[i]?.IPAddress ?? '', name);
      await lab.until(
        `${name}: reached`,
        async () => (await lab.h1.in(`${name}-a`, `ping -c 1 -w 2 ${name}-b`)).code === 0,
      );
    }
  });

  return { lab: () => lab };
}
