// The client of AWS's route tables against answers in EC2's form: what each refusal says, and what is tried again.
import test, { type ExecutionContext } from 'ava';

import { AwsVpc } from '../../cloud/aws/vpc.js';
import { IpAddress, IpNetwork } from '../../core/address.js';
import type { CloudMember } from '../../core/cloud.js';
import type { WeftError } from '../../core/errors.js';
import { ec2Metadata, type Ec2Machine } from '../lab/ec2-metadata.js';
import { bodyOf, serve, signalOf } from './server.js';

const SECRET = 'the-secret-of-the-role';
const MACHINE: Ec2Machine = {
  ...{ region: 'eu-west-1', instance: 'i-1', interface: 'eni-1', subnet: 'subnet-1', vpc: 'vpc-1' },
  ...{ vpcPrefixes: ['192.0.2.0/24'], ip: '192.0.2.11' },
  role: {
    ...{ name: 'weft', accessKeyId: 'KEY', secretAccessKey: SECRET, token: 'session' },
    expiration: '2100-01-01T00:00:00Z',
  },
};
const MEMBER: CloudMember = {
  ...{ cloud: 'aws', name: 'sky', tables: [], hostPrefix: 24, routes: [IpNetwork.parse('10.100.5.0/24')] },
  prefix: IpNetwork.parse('10.100.0.0/16'),
  ip: IpAddress.parse('192.0.2.11'),
};
const STEP = { do: 'create', table: 'rtb-1', to: IpNetwork.parse('10.100.5.0/24'), hop: 'eni-1' } as const;

type Answer = { status?: number; body: string };
type Answers = (action: string, fields: URLSearchParams, call: number) => Answer;

const refusal = (code: string, message = 'because', status = 400): Answer => ({
  status,
  body: `<?xml version="1.0"?><Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>r</RequestID></Response>`,
});
const done = (action: string, inner = '<return>true</return>'): Answer => ({
  body: `<?xml version="1.0"?><${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">${inner}</${action}Response>`,
});
const route = (to: string, hop: string): string =>
  `<item><destinationCidrBlock>${to}</destinationCidrBlock>${hop}<state>active</state></item>`;
const table = (id: string, ...routes: string[]): string =>
  `<item><routeTableId>${id}</routeTableId><routeSet>${routes.join('')}</routeSet></item>`;

async function client(
  t: ExecutionContext,
  answers: Answers,
  environment: Record<string, string> = {},
): Promise<{ api: AwsVpc; calls: { action: string; fields: URLSearchParams }[] }> {
  const calls: { action: string; fields: URLSearchParams }[] = [];
  const ec2 = await serve(t, (request, response) => {
    void bodyOf(request).then((body) => {
      const fields = new URLSearchParams(body);
      const action = fields.get('Action') ?? '';
      calls.push({ action, fields });
      t.regex(
        request.headers.authorization ?? '',
        /^AWS4-HMAC-SHA256 Credential=KEY\/\d{8}\/eu-west-1\/ec2\/aws4_request/,
      );
      const { status = 200, body: text } = answers(action, fields, calls.length);
      response.writeHead(status).end(text);
    });
  });
  const metadata = await serve(
    t,
    ec2Metadata(() => MACHINE),
  );
  const api = new AwsVpc({
    signal: signalOf(t),
    environment: {
      ...{ AWS_ENDPOINT_URL_EC2: ec2, AWS_EC2_METADATA_SERVICE_ENDPOINT: metadata, HOME: '/nonexistent' },
      ...environment,
    },
    backoffMs: 1,
  });
  return { api, calls };
}

const REFUSALS: {
  code: string;
  message?: string;
  status?: number;
  is: WeftError['code'];
  why: RegExp;
  next: RegExp;
}[] = [
  {
    code: 'UnauthorizedOperation',
    message:
      'User: arn:aws:sts::1:assumed-role/weft/i-1 is not authorized to perform: ec2:CreateRoute. Encoded authorization failure message: AAAABBBB',
    is: 'PERMISSION_DENIED',
    why: /^AWS refuses ec2:CreateRoute of 10\.100\.5\.0\/24 in rtb-1 \(UnauthorizedOperation\): User: .* ec2:CreateRoute$/,
    next: /Allow ec2:CreateRoute to the role weft of this instance; docs\/backends\.md/,
  },
  {
    code: 'RouteLimitExceeded',
    message: 'The maximum number of routes has been reached.',
    is: 'RESOURCE_EXHAUSTED',
    why: /ec2:CreateRoute .*the route table is full/,
    next: /Routes per route table/,
  },
  {
    code: 'InvalidRouteTableID.NotFound',
    message: "The routeTable ID 'rtb-1' does not exist",
    is: 'NOT_FOUND',
    why: /does not exist; it was looked for in eu-west-1/,
    next: /right region \(AWS_REGION/,
  },
  {
    code: 'AuthFailure',
    is: 'UNAUTHENTICATED',
    why: /credentials of the role weft of this instance/,
    next: /role of the instance/,
  },
  {
    code: 'SignatureDoesNotMatch',
    is: 'UNAUTHENTICATED',
    why: /SignatureDoesNotMatch/,
    next: /clock of this host first \(\d{4}-/,
  },
  { code: 'OptInRequired', is: 'FAILED_PRECONDITION', why: /does not use eu-west-1/, next: /AWS_REGION/ },
  {
    code: 'RequestLimitExceeded',
    status: 503,
    is: 'UNAVAILABLE',
    why: /again and again: the account makes too many calls/,
    next: /every minute/,
  },
  { code: 'InternalError', status: 500, is: 'UNAVAILABLE', why: /InternalError/, next: /every minute/ },
  {
    code: 'InvalidParameterValue',
    message:
      "The destination CIDR block 10.100.5.0/24 is equal to or more specific than one of this VPC's CIDR blocks.",
    is: 'FAILED_PRECONDITION',
    why: /more specific than one of this VPC/,
    next: /overlaps the VPC/,
  },
  { code: 'Somethingnew', is: 'FAILED_PRECONDITION', why: /\(Somethingnew\): because/, next: /every minute/ },
];

for (const { code, message, status, is, why, next } of REFUSALS) {
  test(`${code}: a sentence with the call, the reason and the next step`, async (t) => {
    const { api } = await client(t, () => refusal(code, message, status));
    const error = await t.throwsAsync<WeftError>(api.apply(STEP));
    t.is(error?.code, is);
    t.regex(error?.message ?? '', why);
    t.regex(error?.next ?? '', next);
    t.false(JSON.stringify([error?.message, error?.next, error?.stack]).includes(SECRET));
    t.false((error?.message ?? '').includes('AAAABBBB'));
  });
}

test('a call that is refused for its rate is made again, and succeeds', async (t) => {
  const { api, calls } = await client(t, (action, _fields, call) =>
    call < 4 ? refusal(call === 2 ? 'Throttling' : 'RequestLimitExceeded', 'slow down', 503) : done(action),
  );
  await api.apply(STEP);
  t.is(calls.length, 4);
});

test('credentials that have ended are read anew, once', async (t) => {
  const { api, calls } = await client(t, (action, _fields, call) =>
    call === 1 ? refusal('RequestExpired') : done(action),
  );
  await api.apply(STEP);
  t.is(calls.length, 2);
});

test('the tables of a subnet: its own, or the main one; with the routes inside of the network', async (t) => {
  const { api, calls } = await client(t, (action, fields) => {
    const filter = fields.get('Filter.1.Name');
    if (filter === 'association.subnet-id') return done(action, '<routeTableSet/>');
    return done(
      action,
      `<routeTableSet>${table(
        'rtb-main',
        route('192.0.2.0/24', '<gatewayId>local</gatewayId>'),
        route('0.0.0.0/0', '<gatewayId>igw-1</gatewayId>'),
        route('10.100.5.0/24', '<networkInterfaceId>eni-1</networkInterfaceId><instanceId>i-1</instanceId>'),
        route('10.100.6.0/24', '<vpcPeeringConnectionId>pcx-1</vpcPeeringConnectionId>'),
        '<item><destinationIpv6CidrBlock>fd00::/64</destinationIpv6CidrBlock><gatewayId>local</gatewayId></item>',
        '<item><destinationPrefixListId>pl-1</destinationPrefixListId><gatewayId>vpce-1</gatewayId></item>',
      )}</routeTableSet>`,
    );
  });
  const [found] = await api.tables(MEMBER, 'own', MEMBER.ip);
  t.is(found?.id, 'rtb-main');
  t.deepEqual(
    found?.routes.map(({ to, hop, isMachine }) => `${to.toString()} ${hop} ${isMachine}`),
    ['10.100.5.0/24 eni-1 true', '10.100.6.0/24 pcx-1 false'],
  );
  t.is(calls.at(-1)?.fields.get('Filter.1.Name'), 'association.main');
  t.is(calls.at(-1)?.fields.get('Filter.2.Value.1'), 'vpc-1');
});

test('named tables, and all of the VPC page by page', async (t) => {
  const { api, calls } = await client(t, (action, fields) => {
    const next = fields.get('NextToken') === null ? '<nextToken>two</nextToken>' : '<nextToken/>';
    const id = fields.get('NextToken') === null ? 'rtb-1' : 'rtb-2';
    return done(action, `<routeTableSet>${table(id)}</routeTableSet>${next}`);
  });
  t.deepEqual(
    (await api.tables(MEMBER, 'all')).map(({ id }) => id),
    ['rtb-1', 'rtb-2'],
  );
  t.is(calls[0]?.fields.get('Filter.1.Name'), 'vpc-id');
  await api.tables({ ...MEMBER, tables: ['rtb-1', 'rtb-9'] }, 'own', MEMBER.ip);
  t.is(calls.at(-1)?.fields.get('RouteTableId.2'), 'rtb-9');
});

test('the source/destination check is switched off where it is on, and the VPC’s own addresses are refused', async (t) => {
  let check = 'true';
  const { api, calls } = await client(t, (action) => {
    if (action === 'DescribeNetworkInterfaces')
      return done(
        action,
        `<networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId><sourceDestCheck>${check}</sourceDestCheck></item></networkInterfaceSet>`,
      );
    check = 'false';
    return done(action);
  });
  t.is(await api.hop(MEMBER), 'eni-1');
  await api.forward('eni-1');
  await api.forward('eni-1');
  t.deepEqual(
    calls.map(({ action }) => action),
    ['DescribeNetworkInterfaces', 'ModifyNetworkInterfaceAttribute', 'DescribeNetworkInterfaces'],
  );
  t.is(calls[1]?.fields.get('SourceDestCheck.Value'), 'false');
  const error = await t.throwsAsync<WeftError>(
    api.hop({ ...MEMBER, prefix: IpNetwork.parse('192.0.0.0/16') }),
  );
  t.regex(error?.message ?? '', /network sky: 192\.0\.0\.0\/16 overlaps 192\.0\.2\.0\/24 of vpc-1/);
});

test('a table that has changed meanwhile is read again; what is gone already is no error', async (t) => {
  const codes: Record<string, string> = {
    CreateRoute: 'RouteAlreadyExists',
    ReplaceRoute: 'InvalidRoute.NotFound',
    DeleteRoute: 'InvalidRoute.NotFound',
  };
  const { api } = await client(t, (action) => refusal(codes[action] ?? ''));
  const there = { table: 'rtb-1', to: STEP.to, hop: 'eni-2', isMachine: true };
  for (const step of [STEP, { do: 'replace', route: there, hop: 'eni-1' } as const]) {
    const error = await t.throwsAsync<WeftError>(api.apply(step));
    t.is(error?.code, 'ABORTED');
  }
  await t.notThrowsAsync(api.apply({ do: 'delete', route: there }));
});

test('the region of the environment, and none at all', async (t) => {
  const { api } = await client(t, (action) => done(action, '<routeTableSet/>'), { AWS_REGION: 'eu-west-1' });
  const error = await t.throwsAsync<WeftError>(api.tables(MEMBER, 'own', MEMBER.ip));
  t.regex(error?.message ?? '', /vpc-1 has no route table for subnet-1 in eu-west-1/);
  const nowhere = new AwsVpc({
    signal: signalOf(t),
    environment: {
      AWS_REGION: 'eu-nowhere-1',
      AWS_ACCESS_KEY_ID: 'a',
      AWS_SECRET_ACCESS_KEY: 'b',
      AWS_ENDPOINT_URL_EC2: 'http://127.0.0.1:1',
    },
    backoffMs: 1,
  });
  const unreached = await t.throwsAsync<WeftError>(nowhere.apply(STEP));
  t.regex(unreached?.message ?? '', /ec2:CreateRoute in eu-nowhere-1: 127\.0\.0\.1:1 does not answer/);
});
