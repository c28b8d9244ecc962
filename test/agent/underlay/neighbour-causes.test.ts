// Causes on the link: two hosts with one address, a wrong permanent entry, and nothing where nothing is wrong.
import test from 'ava';

import type { NextHop } from '../../../agent/kernel/index.js';
import { NeighbourCauses } from '../../../agent/underlay/neighbour-causes.js';
import { isOpen, pathsTo, type OpenPath } from '../../../agent/underlay/path.js';
import { IpAddress } from '../../../core/address.js';
import { leaseOf, membershipOf, overlay } from '../../core/records.js';

const blue = overlay();
const paths = [2, 3].flatMap((n) => pathsTo(membershipOf(blue), leaseOf(blue, n)).filter(isOpen));
const [two, three] = paths as [OpenPath, OpenPath];
const A = '02:00:00:00:00:0a';
const B = '02:00:00:00:00:0b';

async function found(who: Record<string, string[]>, hop: Partial<NextHop> = {}): Promise<string[]> {
  const causes = new NeighbourCauses({
    kernel: {
      nextHop: (ip) => ({ ip, link: 'eth0', ...hop }),
      whoHas: (_link, ip) => Promise.resolve(who[ip] ?? []),
    },
    own: () => ({ link: 'eth0', ips: [IpAddress.parse('192.0.2.1')] }),
    log: { debug: () => undefined },
  });
  await causes.inspect(two);
  return causes.causes(paths, paths).map(({ problem, explains }) => {
    const explained = paths.filter(explains).map(({ node }) => node);
    return `${problem.what}: ${problem.why} (${explained.join()})`;
  });
}

test('two hosts answer for a peer’s address', async (t) => {
  t.deepEqual(await found({ '192.0.2.2': [A, B] }), [
    `the address 192.0.2.2, which two hosts have: hosts with the link addresses ${A} and ${B} answer for it on eth0: packets go to either of them (n2)`,
  ]);
});

test('another host answers for this node’s address', async (t) => {
  t.deepEqual(await found({ '192.0.2.1': [B], '192.0.2.2': [A] }), [
    `the address 192.0.2.1, which two hosts have: it is this node's, and another host answers for it, too, on eth0, with the link address ${B} (n2,n3)`,
  ]);
});

test('a permanent neighbour with another link address than the one that answers', async (t) => {
  const who = { '192.0.2.2': [A] };
  t.deepEqual(await found(who, { permanent: B }), [
    `the permanent neighbour 192.0.2.2 of eth0: it has the link address ${B}, and the host that has the address answers with ${A} (n2)`,
  ]);
  t.deepEqual(await found(who, { permanent: A }), []);
  t.deepEqual(await found({}, { permanent: B }), [], 'nobody says what would be right');
});

test('what was found stays while it is so, also where the path is ok by chance; the rest is forgotten', async (t) => {
  const asked: string[] = [];
  let answers = [A, B];
  const causes = new NeighbourCauses({
    kernel: {
      nextHop: (ip) => ({ ip, link: 'eth0' }),
      whoHas: (_link, ip) => {
        asked.push(ip);
        return Promise.resolve(ip === '192.0.2.2' ? answers : []);
      },
    },
    own: () => ({ link: 'eth0', ips: [IpAddress.parse('192.0.2.1')] }),
    log: { debug: () => undefined },
  });
  await causes.inspect(two, 0);
  await causes.inspect(two, 4000);
  t.deepEqual(asked.splice(0), ['192.0.2.2', '192.0.2.1'], 'at most every five seconds');
  t.is(causes.causes(paths, [two], 4000).length, 1);
  t.is(causes.causes(paths, [], 5000).length, 1);
  t.deepEqual(asked.splice(0), ['192.0.2.2']);
  answers = [A];
  await Promise.resolve();
  causes.causes(paths, [], 10_000);
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(causes.causes(paths, [], 10_000), []);
  causes.causes(paths, [], 20_000);
  t.deepEqual(asked, ['192.0.2.2'], 'once more, and then no more');
  t.deepEqual(causes.causes([three], [three], 30_000), []);
});
