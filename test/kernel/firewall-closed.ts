// What containers, and machines beside the host, do not reach: for every firewall driver.
import { join } from 'node:path';

import test from 'ava';

import { IpNetwork } from '../../core/address.js';
import type { Firewall, FirewallMember, FirewallPort } from '../../core/firewall.js';
import { CHECKOUT } from '../lab/lab.js';
import { until } from '../lab/wait.js';
import type { Subject } from './firewall-subject.js';
import { ADDRESSES, network, PORT, sh, type Container } from './firewall-world.js';

const CLOSED = [network(1, { directAccess: false }), network(2, { directAccess: false })];
const [outside, outside6] = ADDRESSES.outside;

const member = (about: Partial<FirewallMember>): FirewallMember => ({
  ...{ addresses: [outside, outside6], vnis: [], plain: [] },
  ...about,
});

export function closedSuite(subject: Subject): void {
  const ensure = (more: Partial<Firewall> = {}): Promise<unknown> =>
    subject.firewall.ensure({ networks: CLOSED, ...more });

  test.serial('what is not published is not reached from outside; answers come in', async (t) => {
    await ensure();
    await subject.isKept(t, 'outside', 'a1');
    await subject.isKept(t, 'outside', 'remote1');
    await subject.reaches(t, 'a1', 'outside', 'host');
    await subject.reaches(t, 'remote1', 'a1');
    await subject.reaches(t, 'host', 'a1', 'gateway1');
    const port: FirewallPort = {
      ...{ hostPort: 7001, protocol: 'tcp', ip: ADDRESSES.a1[0], port: PORT, clients: 'themselves' },
    };
    await ensure({ ports: new Map([['one', port]]) });
    t.is(await subject.world.connect('outside', 'host', 4, { port: 7001 }), outside);
    await ensure();
  });

  test.serial('members without a tunnel reach the network that they are on', async (t) => {
    const plain = [
      [`${outside}/32`, '10.1.0.0/16'],
      [`${outside6}/128`, 'fd00:1::/48'],
    ].map(([from = '', to = '']) => ({ from: IpNetwork.parse(from), to: IpNetwork.parse(to) }));
    await ensure({ members: new Map([['h2', member({ plain })]]) });
    await subject.reaches(t, 'outside', 'a1');
    await subject.isKept(t, 'outside', 'a2');
    await ensure();
    await subject.isKept(t, 'outside', 'a1');
  });

  test.serial(
    'controllers are closed to containers, at every address of the node that has one',
    async (t) => {
      const away = [outside, outside6].map((ip) => ({ ip, port: PORT, here: false }));
      await ensure({ control: away });
      await subject.isKept(t, 'a1', 'outside');
      await subject.reaches(t, 'host', 'outside');
      await subject.reaches(t, 'a1', 'host');
      await ensure({ control: [{ ip: '127.0.0.1', port: PORT, here: true }] });
      for (const to of ['host', 'gateway1'] as const) await subject.isKept(t, 'a1', to);
      await subject.isKept(t, 'remote1', 'gateway1');
      await subject.reaches(t, 'outside', 'host');
      await subject.reaches(t, 'a1', 'outside', 'host');
      await ensure();
      await subject.reaches(t, 'a1', 'host');
    },
  );

  test.serial('the tunnels’ ports of nodes are closed to containers, and other hosts’ are not', async (t) => {
    /** Whether a datagram to the port arrives at the outside. */
    const arrives = async (from: Container): Promise<boolean> => {
      const heard = subject.world.run('outside', `sh -c 'timeout 1 nc -u -l -p 8472 || true'`);
      await subject.world.run(
        from,
        `sh -c 'for i in 1 2 3; do echo word | nc -u -q 0 ${outside} 8472; sleep 0.2; done'`,
      );
      return (await heard).includes('word');
    };
    await ensure({ backendPorts: [8472] });
    t.true(await arrives('a1'));
    await ensure({ backendPorts: [8472], members: new Map([['h2', member({})]]) });
    t.false(await arrives('a1'));
    await ensure();
  });

  test.serial('a container has so many connections in each family, where that is set', async (t) => {
    await ensure({ maxConnections: 1 });
    const node = (program: string): string =>
      `sh -c "timeout 20 ${process.execPath} -e \\"const net = require('net'); ${program}\\" || true"`;
    // It ends when somebody connects to its other port.
    const server = subject.world.run(
      'outside',
      node(
        `net.createServer(() => {}).listen(7100, '::'); net.createServer(() => process.exit()).listen(7101, '::')`,
      ),
    );
    const open = [outside, outside6].map((to) =>
      subject.world.run(
        'a1',
        node(
          `const f = () => net.connect(7100, '${to}').on('error', () => setTimeout(f, 50)).on('end', () => process.exit()).resume(); f()`,
        ),
      ),
    );
    await until('the connections are there', async () => {
      const flows = await sh('cat /proc/net/nf_conntrack');
      return (flows.match(/ESTABLISHED.*dport=7100 /g) ?? []).length === 2;
    });
    await subject.isKept(t, 'a1', 'outside');
    await subject.reaches(t, 'b1', 'outside', 'host');
    await subject.world.connect('host', 'outside', 4, { port: 7101 });
    await Promise.all([server, ...open]);
    await ensure();
    await subject.reaches(t, 'a1', 'outside', 'host');
  });

  if (subject.choice !== 'nftables') return;

  test.serial('containers of other nodes send this one a thousand queries a second', async (t) => {
    await ensure();
    const lost = (): number => subject.firewall.drops().find(({ reason }) => reason === 'dns')?.packets ?? 0;
    for (const [type, to] of [
      ['udp4', ADDRESSES.gateway1[0]],
      ['udp6', ADDRESSES.gateway1[1]],
    ] as const) {
      const known = lost();
      const program = `const s = require('dgram').createSocket('${type}').on('error', () => {}); s.connect(53, '${to}', () => { for (let i = 0; i < 5000; i++) s.send('x'); s.close(); })`;
      await subject.world.run('remote1', `${process.execPath} -e "${program}"`);
      t.true(lost() - known > 1000, `${type}: ${lost() - known}`);
    }
  });

  test.serial(
    'only members send packets of this node’s VXLAN networks; other VNIs are let through',
    async (t) => {
      const [host] = ADDRESSES.host;
      const vnis = [{ port: 8472, vni: 4097 }];
      const packet = (vni: number): string =>
        [8, 0, 0, 0, vni >> 16, (vni >> 8) & 255, vni & 255, 0]
          .map((byte) => `\\${byte.toString(8).padStart(3, '0')}`)
          .join('');
      const heard = async (vni: number): Promise<boolean> => {
        const listening = sh('timeout 1 nc -u -l -p 8472 | od -An -tx1 || true');
        await subject.world.run(
          'outside',
          `sh -c 'for i in 1 2 3; do printf "${packet(vni)}" | nc -u -q 0 ${host} 8472; sleep 0.2; done'`,
        );
        return (await listening).trim() !== '';
      };
      await ensure({ vnis });
      t.false(await heard(4097));
      t.true(await heard(4098));
      await ensure({ vnis, members: new Map([['h2', member({ vnis })]]) });
      t.true(await heard(4097));
      await ensure();
    },
  );

  test.serial(
    'networks of one tunnel: what strangers send in IP is dropped, and all else is let be',
    async (t) => {
      const [host] = ADDRESSES.host;
      const networks = CLOSED.map((one, i) => ({
        ...one,
        shared: { link: 'wfipip', source: ADDRESSES[i === 0 ? 'gateway1' : 'gateway2'][0] },
      }));
      const lost = (): number =>
        subject.firewall.drops().find(({ reason }) => reason === 'tunnel')?.packets ?? 0;
      const program = join(CHECKOUT, 'build/test/lab/datagram.js');
      /** How many packets were dropped of one with this source inside. */
      const dropped = async (source: string): Promise<number> => {
        const before = lost();
        await subject.world.run(
          'outside',
          `${process.execPath} ${program} ${outside} ${host} ipip ${source} ${ADDRESSES.a1[0]}`,
        );
        return lost() - before;
      };
      await ensure({ networks });
      t.is(await dropped(ADDRESSES.remote1[0]), 1);
      t.is(await dropped('203.0.113.7'), 0, 'of another program');
      await ensure({ networks, members: new Map([['h2', member({})]]) });
      t.is(await dropped(ADDRESSES.remote1[0]), 0);
      const again = await subject.firewall.ensure({ networks, members: new Map([['h2', member({})]]) });
      t.deepEqual(again.repaired, [], 'the kernel has what was written');
      await ensure();
    },
  );

  test.serial(
    'packets in UDP that the kernel takes itself: from peers alone, with sources of their own',
    async (t) => {
      const [host] = ADDRESSES.host;
      const [source] = ADDRESSES.remote1;
      const fou = {
        ...{ link: 'wfud-closed', port: 8285 },
        prefixes: CLOSED.flatMap(({ prefixes }) => prefixes.filter(({ family }) => family === 4)),
      };
      const lost = (): number =>
        subject.firewall.drops().find(({ reason }) => reason === 'tunnel')?.packets ?? 0;
      const program = join(CHECKOUT, 'build/test/lab/datagram.js');
      const dropped = async (way: string, inner: string): Promise<number> => {
        const before = lost();
        const words = [program, outside, host, way, inner, ADDRESSES.a1[0]];
        await subject.world.run('outside', `${process.execPath} ${words.join(' ')}`);
        return lost() - before;
      };
      await ensure({ fou });
      t.is(await dropped('8285', source), 1, 'there is no peer');
      t.is(await dropped('8286', source), 0, 'another port');
      t.is(await dropped('ipip', source), 1);
      t.is(await dropped('ipip', '203.0.113.7'), 0, 'of another program');
      const peer = member({ fou: [IpNetwork.parse(`${source}/32`)] });
      await ensure({ fou, members: new Map([['h2', peer]]) });
      t.is(await dropped('8285', source), 0);
      t.is(await dropped('8285', ADDRESSES.a1[0]), 1, 'in the name of another');
      t.is(await dropped('ipip', source), 1);
      const again = await subject.firewall.ensure({
        networks: CLOSED,
        fou,
        members: new Map([['h2', peer]]),
      });
      t.deepEqual(again.repaired, [], 'the kernel has what was written');
      await ensure();
    },
  );
}
