// An overlay between two virtual machines, on Debian's own kernel.
import type { TestFn } from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import type { Machines } from './machines.js';

export function overlayTests(test: TestFn, machines: () => Machines): void {
  test.serial('overlay: containers of two hosts reach each other, in VXLAN on the cable', async (t) => {
    const [one, two] = [machines().host(1), machines().host(2)];
    await machines().json('network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await Promise.all([one.containers('c1'), two.containers('c2')]);
    const [a, b] = await Promise.all([
      one.json<EndpointJson>('attach', 'blue', 'c1'),
      two.json<EndpointJson>('attach', 'blue', 'c2'),
    ]);
    t.is(a.mtu, 1450);
    const capture = await machines().capture(one, 0, 'udp port 8472');
    t.true(await one.reaches('c1', bare(b.ip)));
    await capture.sees(new RegExp(`${bare(a.ip)} > ${bare(b.ip)}: ICMP echo request`));
    await capture.stop();
    await machines().json('network', 'rm', 'blue', '--force');
  });
}
