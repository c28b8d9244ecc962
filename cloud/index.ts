// The clouds, by name: clients for their route tables.
//
// Agents write their own routes by them, and the controllers' leader deletes those of nodes that are gone. A client is loaded
// with the first network that needs it: most daemons are in no cloud, and start faster without.
import type { CloudName } from '../core/backends/types.js';
import type { CloudApi, CloudOptions } from './api.js';

export type { CloudApi, CloudOptions } from './api.js';

const LOAD: Readonly<Record<CloudName, () => Promise<new (options: CloudOptions) => CloudApi>>> = {
  aws: async () => (await import('./aws/vpc.js')).AwsVpc,
  gce: async () => (await import('./gce/routes.js')).GceRoutes,
};

export class Clouds {
  readonly #open = new Map<CloudName, Promise<CloudApi>>();

  constructor(private readonly options: CloudOptions) {}

  get(name: CloudName): Promise<CloudApi> {
    const known = this.#open.get(name) ?? LOAD[name]().then((Client) => new Client(this.options));
    this.#open.set(name, known);
    return known;
  }
}
