// Google Cloud in a lab: the metadata server of an instance, and the part of the Compute API v1 that weft uses.
//
// After the API's published schema: fields, forms of errors, and operations that end later. It is written for these tests and no
// emulator: that Google answers like this, and how fast, it cannot show.
//
//   node build/test/lab/gce.js metadata ADDRESS:PORT JSON      what one instance is (GceMachine)
//   node build/test/lab/gce.js compute ADDRESS:PORT JSON       the API of a project (GceProject)
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { pathToFileURL } from 'node:url';

/** The token of the service account: a secret, for whoever looks for it in a log. */
export const TOKEN = 'ya29.the-token-of-the-service-account';

export interface GceMachine {
  project: string;
  zone: string;
  name: string;
  ip: string;
  network: string;
}

export interface GceProject {
  project: string;
  networks: string[];
  /** By name; whether it forwards. */
  instances: Record<string, { zone: string; canIpForward: boolean }>;
  /** Most routes of the project. */
  quota: number;
  /** Permissions that the service account lacks. */
  denied: string[];
  /** How many of the next calls are refused for their rate. */
  throttled: number;
  /** Looks at an operation until it is done. */
  looks: number;
}

type Json = Record<string, unknown>;

const answer = (response: ServerResponse, status: number, body: Json | string, headers = {}): void =>
  void response
    .writeHead(status, { 'content-type': 'application/json', ...headers })
    .end(typeof body === 'string' ? body : JSON.stringify(body));

const refuse = (response: ServerResponse, status: number, reason: string, message: string): void =>
  answer(
    response,
    status,
    { error: { code: status, message, errors: [{ message, domain: 'global', reason }] } },
    status === 429 ? { 'retry-after': '0' } : {},
  );

/** The metadata server. */
export const gceMetadata =
  (machine: () => GceMachine): RequestListener =>
  (request, response) => {
    const { project, zone, name, ip, network } = machine();
    if (request.headers['metadata-flavor'] !== 'Google') return answer(response, 403, '');
    const number = '123456789012';
    const items: Record<string, string> = {
      'project/project-id': project,
      'instance/zone': `projects/${number}/zones/${zone}`,
      'instance/name': name,
      'instance/network-interfaces/?recursive=true': JSON.stringify([
        { ip, network: `projects/${number}/networks/${network}`, mac: '42:01:0a:80:00:02', mtu: 1460 },
      ]),
      'instance/service-accounts/default/token': JSON.stringify({
        ...{ access_token: TOKEN, expires_in: 3599, token_type: 'Bearer' },
      }),
    };
    const item = items[(request.url ?? '').replace(/^\/computeMetadata\/v1\//, '')];
    answer(response, item === undefined ? 404 : 200, item ?? 'not found');
  };

/** Fields of a Route that a caller may give. */
const FIELDS = new Set([
  ...['name', 'description', 'network', 'tags', 'destRange', 'priority'],
  ...['nextHopInstance', 'nextHopIp', 'nextHopGateway'],
]);
const NAME = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const BASE = 'https://www.googleapis.com/compute/v1';

/** The Compute API of one project. */
export class ComputeApi {
  readonly routes = new Map<string, Json>();
  readonly #operations = new Map<string, { looks: number; end: () => Json | undefined }>();
  #count = 0;

  constructor(readonly state: GceProject) {}

  readonly listener: RequestListener = (request, response) => {
    void this.#answer(request, response);
  };

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const url = new URL(request.url ?? '', 'http://stand-in');
    // Of the tests: what this project is from now on.
    if (url.pathname === '/state') {
      Object.assign(this.state, JSON.parse(body));
      return answer(response, 200, {});
    }
    if (request.headers.authorization !== `Bearer ${TOKEN}`)
      return refuse(response, 401, 'authError', 'Invalid Credentials');
    if (this.state.throttled > 0) {
      this.state.throttled--;
      return refuse(response, 403, 'rateLimitExceeded', 'Rate Limit Exceeded');
    }
    const prefix = `/compute/v1/projects/${this.state.project}/`;
    if (!url.pathname.startsWith(prefix))
      return refuse(response, 404, 'notFound', 'The project was not found.');
    const path = url.pathname.slice(prefix.length);
    const [, zone, instance] = /^zones\/([^/]+)\/instances\/([^/]+)$/.exec(path) ?? [];
    if (instance !== undefined) return this.#instance(response, zone ?? '', instance);
    const [, operation] = /^global\/operations\/(.+)$/.exec(path) ?? [];
    if (operation !== undefined) return this.#look(response, operation);
    const [, name] = /^global\/routes(?:\/(.+))?$/.exec(path) ?? [];
    if (path === 'global/routes' && request.method === 'GET') return this.#list(response, url);
    if (path === 'global/routes' && request.method === 'POST') return this.#insert(response, body);
    if (name !== undefined && request.method === 'DELETE') return this.#delete(response, name);
    refuse(response, 404, 'notFound', `${path} was not found`);
  }

  #mayNot(response: ServerResponse, permission: string, object: string): boolean {
    if (!this.state.denied.includes(permission)) return false;
    const message = `Required '${permission}' permission for 'projects/${this.state.project}/${object}'`;
    refuse(response, 403, 'forbidden', message);
    return true;
  }

  #instance(response: ServerResponse, zone: string, name: string): void {
    const found = this.state.instances[name];
    if (this.#mayNot(response, 'compute.instances.get', `zones/${zone}/instances/${name}`)) return;
    if (found?.zone !== zone) return refuse(response, 404, 'notFound', `The instance ${name} was not found`);
    answer(response, 200, { kind: 'compute#instance', name, canIpForward: found.canIpForward });
  }

  #list(response: ServerResponse, url: URL): void {
    if (this.#mayNot(response, 'compute.routes.list', 'global/routes')) return;
    // Two to a page, so that there are pages.
    const all = [...this.routes.values()];
    const from = Number(url.searchParams.get('pageToken') ?? 0);
    const next = from + 2 < all.length ? { nextPageToken: String(from + 2) } : {};
    answer(response, 200, { kind: 'compute#routeList', items: all.slice(from, from + 2), ...next });
  }

  #insert(response: ServerResponse, text: string): void {
    const { project } = this.state;
    const body = JSON.parse(text) as Json;
    const { name, destRange, nextHopInstance } = body;
    const network = String(body['network']).replace(/^.*\/(?=[^/]+$)/, '');
    if (this.#mayNot(response, 'compute.routes.create', `global/routes/${String(name)}`)) return;
    const unknown = Object.keys(body).find((field) => !FIELDS.has(field));
    if (unknown !== undefined)
      return refuse(response, 400, 'invalid', `Invalid JSON payload received. Unknown name "${unknown}"`);
    const wrong = [
      ['name', typeof name === 'string' && NAME.test(name)],
      ['network', this.state.networks.includes(network)],
      ['destRange', typeof destRange === 'string' && /^[\d.]+\/\d+$/.test(destRange)],
      [
        'nextHopInstance',
        typeof nextHopInstance === 'string' && /projects\/.*\/instances\//.test(nextHopInstance),
      ],
    ].find(([, isRight]) => isRight !== true);
    if (wrong !== undefined)
      return refuse(response, 400, 'invalid', `Invalid value for field 'resource.${String(wrong[0])}'`);
    if (this.routes.has(String(name)))
      return refuse(
        response,
        409,
        'alreadyExists',
        `The resource 'projects/${project}/global/routes/${String(name)}' already exists`,
      );
    const partial = /projects\/.*$/.exec(String(nextHopInstance))?.[0];
    this.#begin(response, () => {
      if (this.routes.size >= this.state.quota)
        return {
          code: 'QUOTA_EXCEEDED',
          message: `Quota 'ROUTES' exceeded.  Limit: ${this.state.quota}.0 globally.`,
        };
      this.routes.set(String(name), {
        ...{
          kind: 'compute#route',
          ...body,
          network: `${BASE}/projects/${project}/global/networks/${network}`,
        },
        nextHopInstance: `${BASE}/${partial}`,
      });
      return undefined;
    });
  }

  #delete(response: ServerResponse, name: string): void {
    if (this.#mayNot(response, 'compute.routes.delete', `global/routes/${name}`)) return;
    if (!this.routes.has(name)) return refuse(response, 404, 'notFound', `The route ${name} was not found`);
    this.#begin(response, () => {
      this.routes.delete(name);
      return undefined;
    });
  }

  #begin(response: ServerResponse, end: () => Json | undefined): void {
    const name = `operation-${++this.#count}`;
    this.#operations.set(name, { looks: 0, end });
    answer(response, 200, { kind: 'compute#operation', name, status: 'PENDING', progress: 0 });
  }

  #look(response: ServerResponse, name: string): void {
    const operation = this.#operations.get(name);
    if (operation === undefined) return refuse(response, 404, 'notFound', `${name} was not found`);
    if (++operation.looks < this.state.looks)
      return answer(response, 200, { kind: 'compute#operation', name, status: 'RUNNING', progress: 50 });
    const error = operation.end();
    operation.end = () => error;
    const failed = error === undefined ? {} : { error: { errors: [error] }, httpErrorStatusCode: 403 };
    answer(response, 200, { kind: 'compute#operation', name, status: 'DONE', progress: 100, ...failed });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , what, listen = '', json = ''] = process.argv;
  const given: unknown = JSON.parse(json);
  const listener =
    what === 'metadata'
      ? gceMetadata(() => given as GceMachine)
      : new ComputeApi(given as GceProject).listener;
  const [host, port] = listen.split(':');
  createServer(listener).listen(Number(port), host, () => console.log('serves'));
}
