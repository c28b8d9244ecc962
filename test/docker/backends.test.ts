// Docker's networks on every backend that the machine's kernel has.
import test from 'ava';

import { dockerBackendSuite } from './backend-suite.js';
import { CREATE, refused } from './cluster.js';

const { lab } = dockerBackendSuite([
  { name: 'vx', options: ['-o', 'weft.backend=vxlan'], mtu: 1450 },
  { name: 'near', options: ['-o', 'weft.direct-routing=true'], mtu: 1450 },
  { name: 'gw', options: ['-o', 'weft.backend=host-gw'], mtu: 1500 },
  { name: 'wg', options: ['-o', 'encrypted'], mtu: 1440, needs: 'wireguard' },
  { name: 'ud', options: ['-o', 'weft.backend=udp'], mtu: 1472 },
  { name: 'ip', options: ['-o', 'weft.backend=ipip'], mtu: 1480, needs: 'ipip' },
]);

test.serial('what a backend cannot be is refused with the reason', async (t) => {
  const create = (...options: string[]): string[] => [
    ...CREATE,
    '--subnet',
    '10.39.0.0/16',
    ...options,
    'no',
  ];
  await refused(t, lab().h1, create('--internal', '-o', 'weft.backend=host-gw'), /hosts' own link/);
  await refused(t, lab().h1, create('-o', 'encrypted', '-o', 'weft.backend=vxlan'), /does not encrypt/);
  await refused(t, lab().h1, create('-o', 'weft.backend=ipsec'), /ipsec is not served/);
  t.false(await lab().hasNetwork('no'));
});
