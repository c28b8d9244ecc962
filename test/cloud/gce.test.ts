// The client of Google Cloud's routes against a stand-in of the Compute API.
import test, { type ExecutionContext } from 'ava';

import { GceRoutes } from '../../cloud/gce/routes.js';
import { IpAddress, IpNetwork } from '../../core/address.js';
import { planCloud, type CloudMember, type CloudPlan } from '../../core/cloud.js';
import type { WeftError } from '../../core/errors.js';
import { ComputeApi, gceMetadata, TOKEN, type GceMachine, type GceProject } from '../lab/gce.js';
import { serve, signalOf } from './server.js';

const MACHINE: GceMachine = {
  ...{ project: 'lab', zone: 'europe-west1-b', name: 'h1', ip: '192.0.2.11', network: 'default' },
};
const MEMBER: CloudMember = {
  ...{ cloud: 'gce', name: 'sky', tables: [], hostPrefix: 24, routes: [IpNetwork.parse('10.5.94.0/24')] },
  prefix: IpNetwork.parse('10.5.0.0/16'),
  ip: IpAddress.parse('192.0.2.11'),
};
const HOP = 'projects/lab/zones/europe-west1-b/instances/h1';

async function client(
  t: ExecutionContext,
  state: Partial<GceProject> = {},
): Promise<{ api: GceRoutes; cloud: ComputeApi; settle: (member?: CloudMember) => Promise<CloudPlan> }> {
  const cloud = new ComputeApi({
    ...{ project: 'lab', networks: ['default', 'other'], quota: 250, denied: [], throttled: 0, looks: 3 },
    instances: { h1: { zone: 'europe-west1-b', canIpForward: true } },
    ...state,
  });
  const metadata = await serve(
    t,
    gceMetadata(() => MACHINE),
  );
  const api = new GceRoutes({
    signal: signalOf(t),
    environment: { GCE_METADATA_HOST: new URL(metadata).host },
    gceEndpoint: await serve(t, cloud.listener),
    backoffMs: 1,
  });
  const settle = async (member = MEMBER): Promise<CloudPlan> => {
    const plan = planCloud(await api.tables(member, 'own', member.ip), member, await api.hop(), true);
    await api.forward();
    for (const step of plan.steps) await api.apply(step);
    return plan;
  };
  return { api, cloud, settle };
}

const put = (cloud: ComputeApi, name: string, destRange: string, more: object = {}): void =>
  void cloud.routes.set(name, {
    ...{
      name,
      destRange,
      network: 'https://www.googleapis.com/compute/v1/projects/lab/global/networks/default',
    },
    ...{ nextHopInstance: `https://www.googleapis.com/compute/v1/${HOP.replace('h1', 'h2')}` },
    ...more,
  });

test('a route under flannel’s name, when its operation is done; a second look changes nothing', async (t) => {
  const { cloud, settle } = await client(t);
  await settle();
  t.deepEqual([...cloud.routes.keys()], ['flannel-10-5-94-0-24']);
  t.like(cloud.routes.get('flannel-10-5-94-0-24'), {
    ...{ destRange: '10.5.94.0/24', priority: 1000, tags: [] },
    nextHopInstance: `https://www.googleapis.com/compute/v1/${HOP}`,
  });
  t.deepEqual((await settle()).steps, []);
});

test('a route that leads elsewhere is replaced, an obsolete one deleted, others stay', async (t) => {
  const { cloud, settle } = await client(t);
  put(cloud, 'flannel-10-5-94-0-24', '10.5.94.0/24');
  put(cloud, 'flannel-10-5-95-0-24', '10.5.95.0/24', { nextHopInstance: HOP });
  put(cloud, 'flannel-10-5-96-0-24', '10.5.96.0/24');
  put(cloud, 'by-hand', '10.5.97.0/24', { nextHopInstance: HOP });
  put(cloud, 'flannel-10-6-1-0-24', '10.6.1.0/24', { nextHopInstance: HOP });
  put(cloud, 'flannel-10-5-98-0-24', '10.5.98.0/24', {
    network: 'projects/lab/global/networks/other',
    nextHopInstance: HOP,
  });
  await settle();
  t.deepEqual(
    [...cloud.routes.keys()].toSorted(),
    [
      'by-hand',
      ...['10-5-94-0-24', '10-5-96-0-24', '10-5-98-0-24', '10-6-1-0-24'].map((name) => `flannel-${name}`),
    ].toSorted(),
  );
  t.regex(String(cloud.routes.get('flannel-10-5-94-0-24')?.['nextHopInstance']), /instances\/h1$/);
});

test('another program’s route to the subnet is in the way', async (t) => {
  const { cloud, settle } = await client(t);
  put(cloud, 'by-hand', '10.5.94.0/24', {
    nextHopInstance: undefined,
    nextHopGateway: 'projects/lab/global/gateways/default-internet-gateway',
  });
  const { steps, conflicts } = await settle();
  t.deepEqual(steps, []);
  t.deepEqual(
    conflicts.map(({ hop }) => hop),
    ['projects/lab/global/gateways/default-internet-gateway'],
  );
});

const REFUSALS: {
  what: string;
  state: Partial<GceProject>;
  is: WeftError['code'];
  why: RegExp;
  next: RegExp;
}[] = [
  {
    what: 'the quota',
    state: { quota: 0 },
    is: 'RESOURCE_EXHAUSTED',
    why: /^Google Cloud refuses compute\.routes\.insert of flannel-10-5-94-0-24 \(QUOTA_EXCEEDED\): Quota 'ROUTES' exceeded/,
    next: /quota "Routes"/,
  },
  {
    what: 'no permission to create',
    state: { denied: ['compute.routes.create'] },
    is: 'PERMISSION_DENIED',
    why: /compute\.routes\.insert .*Required 'compute\.routes\.create' permission/,
    next: /Allow compute\.routes\.create to the service account/,
  },
  {
    what: 'no permission to list',
    state: { denied: ['compute.routes.list'] },
    is: 'PERMISSION_DENIED',
    why: /compute\.routes\.list of network default/,
    next: /Allow compute\.routes\.list/,
  },
  {
    what: 'an instance that does not forward',
    state: { instances: { h1: { zone: 'europe-west1-b', canIpForward: false } } },
    is: 'FAILED_PRECONDITION',
    why: /instance h1 in europe-west1-b does not forward packets \(canIpForward is off\)/,
    next: /--can-ip-forward/,
  },
  {
    what: 'another project',
    state: { project: 'elsewhere' },
    is: 'NOT_FOUND',
    why: /project was not found/,
    next: /project, zone and network/,
  },
  {
    what: 'too many calls, for long',
    state: { throttled: 1000 },
    is: 'UNAVAILABLE',
    why: /again and again: the project makes too many calls/,
    next: /every minute/,
  },
];

for (const { what, state, is, why, next } of REFUSALS) {
  test(`${what}: a sentence with the call, the permission and the next step`, async (t) => {
    const { settle } = await client(t, state);
    const error = await t.throwsAsync<WeftError>(settle());
    t.is(error?.code, is);
    t.regex(error?.message ?? '', why);
    t.regex(error?.next ?? '', next);
    t.false(JSON.stringify([error?.message, error?.next, error?.stack]).includes(TOKEN));
  });
}

test('a call that is refused for its rate is made again', async (t) => {
  const { cloud, settle } = await client(t, { throttled: 3 });
  await settle();
  t.is(cloud.routes.size, 1);
});

test('a route that came meanwhile is read again; one that is gone already is no error', async (t) => {
  const { api, cloud, settle } = await client(t);
  await settle();
  const to = IpNetwork.parse('10.5.94.0/24');
  const error = await t.throwsAsync<WeftError>(api.apply({ do: 'create', table: 'default', to, hop: HOP }));
  t.is(error?.code, 'ABORTED');
  cloud.routes.clear();
  await t.notThrowsAsync(
    api.apply({
      do: 'delete',
      route: { table: 'default', to, hop: HOP, isMachine: true, name: 'flannel-10-5-94-0-24' },
    }),
  );
});

test('outside of Google Cloud: the reason, and what to do', async (t) => {
  const api = new GceRoutes({
    signal: signalOf(t),
    environment: { GCE_METADATA_HOST: '127.0.0.1:1' },
    backoffMs: 1,
  });
  const error = await t.throwsAsync<WeftError>(api.hop());
  t.regex(error?.message ?? '', /metadata server: 127\.0\.0\.1:1 does not answer/);
  t.regex(error?.next ?? '', /must be an instance of Google Cloud/);
});
