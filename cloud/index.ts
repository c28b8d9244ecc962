// The clouds, by name: clients for their route tables.
//
// Agents write their own routes by them, and the controllers' leader deletes those of nodes that are gone. A client is made
// with the first network that needs it.
import type { CloudName } from '../core/backends/types.js';
import type { CloudApi, CloudOptions } from './api.js';
import { AwsVpc } from './aws/vpc.js';
import { GceRoutes } from './gce/routes.js';

export type { CloudApi, CloudOptions } from './api.js';

const CLOUDS: Readonly<Record<CloudName, new (options: CloudOptions) => CloudApi>> = {
  aws: AwsVpc,
  gce: GceRoutes,
};

export class Clouds {
  readonly #open = new Map<CloudName, CloudApi>();

  constructor(private readonly options: CloudOptions) {}

  get(name: CloudName): CloudApi {
    const known = this.#open.get(name) ?? new CLOUDS[name](this.options);
    this.#open.set(name, known);
    return known;
  }
}
