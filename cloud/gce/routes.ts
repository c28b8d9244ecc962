// Routes of a VPC network of Google Cloud, under flannel's names.
//
// They are of the whole network and no table's. The name is the mark: of other names weft touches none.
import { IpNetwork, type IpAddress } from '../../core/address.js';
import type { CloudNetwork, CloudRoute, CloudStep, CloudTable } from '../../core/cloud.js';
import { aborted, failedPrecondition } from '../../core/errors.js';
import type { CloudApi, CloudOptions } from '../api.js';
import { Calls } from '../http.js';
import { Compute } from './compute.js';
import { ComputeError } from './errors.js';
import { last, MetadataServer } from './metadata.js';

/** flannel's: 10.5.94.0/24 is flannel-10-5-94-0-24. */
const nameOf = (to: IpNetwork): string => `flannel-${to.toString().replaceAll(/[./]/g, '-')}`;

/** flannel's; the subnets' own routes have none, and come first. */
const PRIORITY = 1000;

const HTTP = { notFound: 404, conflict: 409 } as const;

/** projects/P/zones/Z/instances/I of a URL. */
const partial = (url: unknown): string | undefined =>
  typeof url === 'string' ? /projects\/.*$/.exec(url)?.[0] : undefined;

export class GceRoutes implements CloudApi {
  readonly #metadata: MetadataServer;
  readonly #compute: Compute;

  constructor({ signal, environment, gceEndpoint, backoffMs }: CloudOptions) {
    this.#metadata = new MetadataServer(environment, signal);
    this.#compute = new Compute({
      calls: new Calls({
        signal,
        ...(backoffMs !== undefined && { backoff: { firstMs: backoffMs, lastMs: 20_000 } }),
      }),
      metadata: this.#metadata,
      endpoint: gceEndpoint,
      ...(backoffMs !== undefined && { lookMs: backoffMs }),
    });
  }

  async hop(): Promise<string> {
    const { project, zone, name } = await this.#metadata.instance();
    return `projects/${project}/zones/${zone}/instances/${name}`;
  }

  /** Checks it: only who makes an instance can let it forward. */
  async forward(): Promise<void> {
    const { zone, name } = await this.#metadata.instance();
    const instance = await this.#compute.call({
      call: 'compute.instances.get',
      permission: 'compute.instances.get',
      object: `instance ${name} in ${zone}`,
      path: `zones/${zone}/instances/${name}`,
    });
    if (instance['canIpForward'] !== true)
      throw failedPrecondition(
        `instance ${name} in ${zone} does not forward packets (canIpForward is off), so Google Cloud drops the containers'`,
        'Create it again with --can-ip-forward, or set canIpForward with gcloud compute instances update-from-file.',
      );
  }

  async tables(network: CloudNetwork, _scope: 'own' | 'all', ip?: IpAddress): Promise<CloudTable[]> {
    const id = await this.#metadata.network(ip);
    const routes = await this.#compute.list({
      call: 'compute.routes.list',
      permission: 'compute.routes.list',
      object: `network ${id}`,
      path: 'global/routes',
    });
    const inside = routes
      .filter((route) => last(String(route['network'])) === id)
      .flatMap((route) => routeIn(id, network, route));
    // Several routes may have one destination; weft's own counts.
    return [{ id, routes: inside.toSorted((a, b) => Number(b.isMachine) - Number(a.isMachine)) }];
  }

  async apply(step: CloudStep): Promise<void> {
    // No call changes a route.
    if (step.do !== 'create') await this.#delete(step.route);
    if (step.do === 'create') await this.#insert(step.table, step.to, step.hop);
    if (step.do === 'replace') await this.#insert(step.route.table, step.route.to, step.hop);
  }

  async #delete({ to, name = nameOf(to) }: CloudRoute): Promise<void> {
    await ignoring(HTTP.notFound, () =>
      this.#compute.operate({
        call: 'compute.routes.delete',
        permission: 'compute.routes.delete',
        object: name,
        method: 'DELETE',
        path: `global/routes/${name}`,
        expected: [HTTP.notFound],
      }),
    );
  }

  async #insert(table: string, to: IpNetwork, hop: string): Promise<void> {
    const { project } = await this.#metadata.instance();
    const name = nameOf(to);
    const there = await ignoring(HTTP.conflict, () =>
      this.#compute.operate({
        call: 'compute.routes.insert',
        permission: 'compute.routes.create',
        object: name,
        method: 'POST',
        path: 'global/routes',
        body: {
          ...{ name, destRange: to.toString(), priority: PRIORITY, tags: [], nextHopInstance: hop },
          network: `projects/${project}/global/networks/${table}`,
          description: 'A route to a node of a weft network.',
        },
        expected: [HTTP.conflict],
      }),
    );
    if (there) throw aborted(`the route ${name} has changed meanwhile`);
  }
}

/** @returns whether the call ended with this status */
async function ignoring(status: number, call: () => Promise<void>): Promise<boolean> {
  try {
    await call();
    return false;
  } catch (error) {
    if (error instanceof ComputeError && error.status === status) return true;
    throw error;
  }
}

/** A route inside of the network. */
function routeIn(table: string, { prefix }: CloudNetwork, route: Record<string, unknown>): CloudRoute[] {
  const to = IpNetwork.tryParse(String(route['destRange']));
  const name = String(route['name']);
  if (to === undefined || !prefix.contains(to)) return [];
  const instance = partial(route['nextHopInstance']);
  const others = [
    'nextHopGateway',
    'nextHopIp',
    'nextHopIlb',
    'nextHopVpnTunnel',
    'nextHopPeering',
    'nextHopNetwork',
  ];
  const [other] = others.map((kind) => route[kind]).filter((hop) => typeof hop === 'string');
  const hop = instance ?? other ?? 'nothing';
  return [{ table, to, hop, name, isMachine: instance !== undefined && name === nameOf(to) }];
}
