// The bridge driver with a parent link on Debian's own kernel.
//
// Containers on the hosts' LAN with its gateway, a NIC that is bridged and restored without the host losing a connection, and an
// agent killed in the middle of it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { ExecutionContext, TestFn } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import type { Namespace } from '../lab/lab.js';
import { reaches } from '../lab/traffic.js';
import { slowness } from '../lab/wait.js';
import type { Machine } from './machine.js';
import type { Machines } from './machines.js';

/** eth2 of every machine. */
const NIC = 'eth2';
const HOST_IP = '10.9.0.11';
const ROUTER_IP = '10.9.0.1';
/** An address behind the router. */
const BEYOND = '10.99.0.1';
const LOAN = `/var/lib/weft/ports/${NIC}.json`;

export function lanTests(test: TestFn, machines: () => Machines): void {
  let routers = 0;

  /** The state of the host's NIC, without lifetimes. */
  const nicOf = (host: Machine): Promise<string> =>
    host.sh(
      `ip -o link show ${NIC}; ip -o addr show dev ${NIC} | sed 's/ *valid_lft.*//'; ip route show dev ${NIC}; ip -6 route show dev ${NIC}; ip route get ${BEYOND}`,
    );
  const create = (): Promise<unknown> =>
    machines().json(
      ...['network', 'create', 'lan', '--driver', 'bridge', '--parent', NIC, '--subnet', '10.9.0.0/24'],
      ...['--range', '10.9.0.128/26', '--gateway', ROUTER_IP],
    );
  const removeAfter = (t: ExecutionContext): void =>
    t.teardown(async () => {
      await machines().weft('network', 'rm', 'lan', '--force');
    });
  const settled = async (host: Machine): Promise<string> => {
    await machines().lab.until(
      'the IPv6 address of the NIC has passed DAD',
      async () => !(await nicOf(host)).includes('tentative'),
    );
    return nicOf(host);
  };

  /** The host's NIC on a LAN with a router, for this test; `before` is the NIC's state. */
  async function onLan(t: ExecutionContext, host: Machine): Promise<{ router: Namespace; before: string }> {
    const router = await machines().neighbour('lan', `router${++routers}`, `${ROUTER_IP}/24`);
    t.teardown(async () => void (await router.must(['ip', 'link', 'del', 'eth0'])));
    await router.must(['ip', 'addr', 'add', `${BEYOND}/32`, 'dev', 'lo']);
    await host.sh(
      `ip link set ${NIC} up; ip addr add ${HOST_IP}/24 dev ${NIC}; ip route add 10.99.0.0/24 via ${ROUTER_IP}`,
    );
    t.teardown(async () => void (await host.sh(`ip addr flush dev ${NIC}; ip link set ${NIC} down`)));
    return { router, before: await settled(host) };
  }

  const restored = (host: Machine, before: string): Promise<unknown> =>
    machines().lab.until(
      'the NIC is as it was',
      async () => {
        const now = await nicOf(host);
        if (now !== before) throw new Error(`it was\n${before}\nand is\n${now}`);
        return true;
      },
      { context: () => machines().agent(host).tail() },
    );

  /** Whether the router gets an answer of the host, or of a container there. */
  const reached = (router: Namespace, ip: string): Promise<boolean> =>
    reaches(router, ip, { waitSeconds: slowness });

  /** A connection from the router to the host: each line sent appears in the host's log. */
  async function connection(
    t: ExecutionContext,
    router: Namespace,
    host: Machine,
  ): Promise<{ send: (word: string) => Promise<void> }> {
    const listener = await host.start('listener', ['nc', '-l', '-n', HOST_IP, '7000']);
    t.teardown(() => listener.kill());
    await machines().lab.until('nc listens', async () =>
      (await host.try('ss -Hltn sport = :7000')).stdout.includes(HOST_IP),
    );
    const words = join(machines().lab.folder, 'words');
    writeFileSync(words, '');
    router.spawn('talker', ['sh', '-c', `tail -n +1 -f ${words} | nc -n ${HOST_IP} 7000`]);
    return {
      send: async (word) => {
        writeFileSync(words, `${word}\n`, { flag: 'a' });
        await machines().lab.until(`"${word}" arrives`, () => listener.log().includes(`${word}\n`));
      },
    };
  }

  test.serial('lan: a bridge to the LAN with its gateway, and the NIC restored as it was', async (t) => {
    const host = machines().host(1);
    const { router, before } = await onLan(t, host);
    const talk = await connection(t, router, host);
    await talk.send('before');

    await create();
    removeAfter(t);
    await host.containers('c1', 'c2');
    const a = await host.json<EndpointJson>('attach', 'lan', 'c1');
    t.regex(a.ip, /^10\.9\.0\.1\d\d\/24$/, 'of the range, with the mask of the LAN');
    t.is(a.gateway, ROUTER_IP);
    const b = await host.json<EndpointJson>('attach', 'lan', 'c2', '--ip', '10.9.0.77');
    t.is(b.ip, '10.9.0.77/24');
    await talk.send('while it is a port');

    t.true(await host.reaches('c1', BEYOND), 'through the gateway of the LAN');
    t.true(await host.reaches('c1', '10.9.0.77'));
    t.true(await host.reaches('c1', HOST_IP));
    t.true(await reached(router, bare(a.ip)), 'under its own address');
    t.true(await reached(router, HOST_IP));
    t.regex(await nicOf(host), /master wfp-eth2/);

    await machines().json('network', 'rm', 'lan', '--force');
    await restored(host, before);
    await talk.send('after');
    t.pass();
  });

  test.serial('lan: a host that drops what it forwards, and whose chains see what is bridged', async (t) => {
    const host = machines().host(1);
    const { router, before } = await onLan(t, host);
    // As Docker's engine sets up a host.
    await host.sh('modprobe br_netfilter; iptables -P FORWARD DROP; ip6tables -P FORWARD DROP');
    t.teardown(async () => {
      await host.sh(
        'iptables -P FORWARD ACCEPT; ip6tables -P FORWARD ACCEPT; echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables',
      );
    });
    t.is((await host.sh('cat /proc/sys/net/bridge/bridge-nf-call-iptables')).trim(), '1');
    await create();
    removeAfter(t);
    await host.containers('c1', 'c2');
    await host.json<EndpointJson>('attach', 'lan', 'c1');
    const b = await host.json<EndpointJson>('attach', 'lan', 'c2');
    t.true(await host.reaches('c1', BEYOND), 'the LAN, and what is behind it');
    t.true(await host.reaches('c1', bare(b.ip)), 'a container of the same host');
    t.true(await reached(router, bare(b.ip)));
    t.regex(await host.sh('iptables-save'), /-i wf\+ .*-j ACCEPT/);
    await machines().json('network', 'rm', 'lan', '--force');
    await restored(host, before);
    await machines().lab.until(
      'the accept rule is deleted with the network',
      async () => !(await host.sh('iptables-save')).includes('WEFT'),
    );
  });

  test.serial(
    'lan: an agent that is killed while it moves the NIC is repaired at the next start',
    async (t) => {
      const host = machines().host(1);
      const { router, before } = await onLan(t, host);
      await create();
      removeAfter(t);
      await host.containers('c1');
      // The loan record is written before anything is changed; the move follows.
      const killed = host.sh(`while [ ! -e ${LOAN} ]; do :; done; kill -9 ${machines().agent(host).pid}`);
      const { code } = await host.weft('attach', 'lan', 'c1');
      t.is(code, 1, 'the agent that was asked is no more');
      await killed;
      await machines().agent(host).ended;
      t.log(
        `killed with ${await host.sh(`cat ${LOAN}; ip -o addr show | grep ${HOST_IP} || echo no address`)}`,
      );

      await machines().startAgent(host);
      await machines().lab.until('the host is reachable again', () => reached(router, HOST_IP), {
        context: () => machines().agent(host).tail(),
      });
      const a = await host.json<EndpointJson>('attach', 'lan', 'c1');
      t.true(await reached(router, bare(a.ip)));
      await machines().json('network', 'rm', 'lan', '--force');
      await restored(host, before);
    },
  );
}
