// Debian's podman with its CNI backend.
import test from 'ava';

import { PodmanHost } from '../lab/podman.js';
import { podmanTests } from '../lab/podman-tests.js';

podmanTests(test, PodmanHost, 'cni', {
  ...{ 'cni.runtime': 'podman', 'cni.network': 'blue', K8S_POD_NAME: 'web' },
});
