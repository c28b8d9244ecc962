// The table of backends with aws-vpc: what every backend must do, by the route tables of a VPC.
import { backendSuite, PLAIN, VXLAN } from '../cluster/backend-suite.js';
import { Aws } from '../lab/aws.js';
import { inCloud } from '../lab/prepare.js';

const AWS = ['--backend', 'aws-vpc'];

backendSuite({
  ipv4: true,
  backends: [
    {
      ...{ name: 'sky', flags: AWS, moves: [VXLAN, AWS], families: [4], mtu: 1500 },
      internal: PLAIN,
      ports: [null, null],
    },
  ],
  prepare: inCloud((lab, hosts) => Aws.start(lab, hosts)),
});
