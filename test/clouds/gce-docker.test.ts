// Docker's networks on the backend gce.
import { dockerBackendSuite } from '../docker/backend-suite.js';
import { GceLab } from '../lab/gce-lab.js';
import { inCloud } from '../lab/prepare.js';

dockerBackendSuite(
  [{ name: 'sky', options: ['-o', 'weft.backend=gce'], mtu: 1500 }],
  inCloud((lab, hosts) => GceLab.start(lab, hosts)),
);
