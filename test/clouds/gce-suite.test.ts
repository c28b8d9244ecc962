// The table of backends with gce: what every backend must do, by the routes of a VPC network.
import { backendSuite, PLAIN, VXLAN } from '../cluster/backend-suite.js';
import { GceLab } from '../lab/gce-lab.js';
import { inCloud } from '../lab/prepare.js';

const GCE = ['--backend', 'gce'];

backendSuite({
  ipv4: true,
  backends: [
    {
      ...{ name: 'sky', flags: GCE, moves: [VXLAN, GCE], families: [4], mtu: 1500 },
      internal: PLAIN,
      ports: [null, null],
    },
  ],
  prepare: inCloud((lab, hosts) => GceLab.start(lab, hosts)),
});
