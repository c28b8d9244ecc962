// gce: routes of a Google Cloud VPC network, as flannel's backend.
import { goObject } from '../parse.js';
import type { Backend } from './backend.js';
import { cloudBackend } from './cloud.js';

export const gce: Backend<'gce'> = {
  ...cloudBackend<'gce'>(),
  type: 'gce',
  summary: "is routes of the project's VPC network, without a tunnel",
  options: [],
  words: [],
  cloud: { name: 'gce', tables: () => [] },

  config: { schema: goObject({}), encode: () => ({}), saved: {} },
  parse: () => ({}),
  advice: () =>
    "Check that the VPC network has a route to its subnet, and that the firewall rules admit the containers' addresses.",
};
