// The table of backends with gce: what every backend must do, by the routes of a VPC network.
import { backendSuite, PLAIN, VXLAN } from '../cluster/backend-suite.js';
import { GceLab } from '../lab/gce-lab.js';

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
  prepare: async (lab, hosts) => {
    const gce = await GceLab.start(lab, hosts);
    return { flags: gce.flags, stop: gce.follow() };
  },
});
