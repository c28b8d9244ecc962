// podman 5 with netavark.
import test from 'ava';

import { Podman5Host } from '../lab/podman5.js';
import { podmanTests } from '../lab/podman-tests.js';

podmanTests(test, Podman5Host, 'netavark', { 'netavark.network': 'blue' });
