// Docker's networks on the backend aws-vpc.
import { dockerBackendSuite } from '../docker/backend-suite.js';
import { Aws } from '../lab/aws.js';
import { inCloud } from '../lab/prepare.js';

dockerBackendSuite(
  [{ name: 'sky', options: ['-o', 'weft.backend=aws-vpc'], mtu: 1500 }],
  inCloud((lab, hosts) => Aws.start(lab, hosts)),
);
