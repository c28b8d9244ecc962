// Requests to a cloud: credentials, signature, rate.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { CredentialSource } from '../../cloud/aws/credentials.js';
import { InstanceMetadata } from '../../cloud/aws/metadata.js';
import { sign } from '../../cloud/aws/signature.js';
import { Calls, send, Temporary } from '../../cloud/http.js';
import { IpAddress } from '../../core/address.js';
import type { WeftError } from '../../core/errors.js';
import { type Ec2Machine, ec2Metadata } from '../lab/ec2-metadata.js';
import { serve, signalOf } from './server.js';

// Where credentials for AWS come from, and when they are renewed.

const MACHINE: Ec2Machine = {
  ...{ region: 'eu-west-1', instance: 'i-1', interface: 'eni-1', subnet: 'subnet-1', vpc: 'vpc-1' },
  ...{ vpcPrefixes: ['192.0.2.0/24', '198.51.100.0/24'], ip: '192.0.2.11' },
};
const role = (accessKeyId: string, expiration: string): Ec2Machine['role'] => ({
  ...{ name: 'weft', accessKeyId, secretAccessKey: 'secret', token: 'token', expiration },
});

async function metadataOf(t: ExecutionContext, machine: () => Ec2Machine): Promise<InstanceMetadata> {
  const url = await serve(t, ec2Metadata(machine));
  return new InstanceMetadata({ AWS_EC2_METADATA_SERVICE_ENDPOINT: url }, signalOf(t));
}

/** A home without credentials, or with this file of them. */
function homeWith(t: ExecutionContext, credentials?: string): string {
  const home = mkdtempSync(join(tmpdir(), 'weft-aws-'));
  t.teardown(() => rmSync(home, { recursive: true }));
  if (credentials !== undefined) writeFileSync(join(home, 'credentials'), credentials);
  return home;
}

test('the environment, then the shared file, then the role', async (t) => {
  const metadata = await metadataOf(t, () => ({ ...MACHINE, role: role('OF-ROLE', '2100-01-01T00:00:00Z') }));
  const file =
    '[default]\naws_access_key_id = A\naws_secret_access_key = B\n\n[work]\naws_access_key_id=C\naws_secret_access_key=D\naws_session_token=E\n';
  const home = homeWith(t, file);
  const none = { HOME: homeWith(t) };
  const shared = { HOME: home, AWS_SHARED_CREDENTIALS_FILE: join(home, 'credentials') };
  const keys = { AWS_ACCESS_KEY_ID: 'X', AWS_SECRET_ACCESS_KEY: 'Y' };
  const first = async (environment: Record<string, string>): Promise<(string | undefined)[]> => {
    const { accessKeyId, secretAccessKey, sessionToken } = await new CredentialSource(
      environment,
      metadata,
    ).current();
    return [accessKeyId, secretAccessKey, sessionToken];
  };
  t.deepEqual(await first({ ...shared, ...keys }), ['X', 'Y', undefined]);
  t.deepEqual(await first({ ...shared, ...keys, AWS_SESSION_TOKEN: 'Z' }), ['X', 'Y', 'Z']);
  t.deepEqual(await first(shared), ['A', 'B', undefined]);
  t.deepEqual(await first({ ...shared, AWS_PROFILE: 'work' }), ['C', 'D', 'E']);
  t.deepEqual(await first(none), ['OF-ROLE', 'secret', 'token']);
});

test('those of a role are renewed before they end, and when AWS refuses them', async (t) => {
  let now = Date.parse('2026-01-01T00:00:00Z');
  let current = role('ONE', '2026-01-01T06:00:00Z');
  const metadata = await metadataOf(t, () => ({ ...MACHINE, role: current }));
  const source = new CredentialSource({ HOME: homeWith(t) }, metadata, () => now);
  const key = async (): Promise<string> => (await source.current()).accessKeyId;
  t.is(await key(), 'ONE');
  current = role('TWO', '2026-01-01T12:00:00Z');
  t.is(await key(), 'ONE');
  now = Date.parse('2026-01-01T05:56:00Z');
  t.is(await key(), 'TWO');
  current = role('THREE', '2026-01-01T12:00:00Z');
  source.forget();
  t.is(await key(), 'THREE');
});

test('no credentials at all: the reason, and what to do', async (t) => {
  const withoutRole = new CredentialSource({ HOME: homeWith(t) }, await metadataOf(t, () => MACHINE));
  const error = await t.throwsAsync<WeftError>(withoutRole.current());
  t.is(error?.code, 'PERMISSION_DENIED');
  t.regex(
    error?.message ?? '',
    /no credentials for AWS: neither AWS_ACCESS_KEY_ID .* the instance has no role/,
  );
  t.regex(error?.next ?? '', /docs\/backends\.md/);
  const outside = new InstanceMetadata(
    { AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:1' },
    signalOf(t),
  );
  const elsewhere = await t.throwsAsync<WeftError>(
    new CredentialSource({ HOME: homeWith(t) }, outside).current(),
  );
  t.regex(
    elsewhere?.message ?? '',
    /the instance's role is not known: instance metadata: 127\.0\.0\.1:1 does not answer/,
  );
  const named = new CredentialSource({ AWS_SHARED_CREDENTIALS_FILE: '/nowhere/credentials' }, outside);
  await t.throwsAsync(named.current(), {
    message: /AWS_SHARED_CREDENTIALS_FILE: \/nowhere\/credentials cannot be read/,
  });
});

test('the interface with an address, and its VPC', async (t) => {
  const metadata = await metadataOf(t, () => MACHINE);
  const found = await metadata.interfaceOf(IpAddress.parse('192.0.2.11'));
  t.like(found, { id: 'eni-1', subnet: 'subnet-1', vpc: 'vpc-1' });
  t.deepEqual(found.vpcPrefixes.map(String), ['192.0.2.0/24', '198.51.100.0/24']);
  t.is((await metadata.interfaceOf(undefined)).id, 'eni-1');
  const error = await t.throwsAsync<WeftError>(metadata.interfaceOf(IpAddress.parse('192.0.2.99')));
  t.regex(error?.message ?? '', /no network interface of instance i-1 has the address 192\.0\.2\.99/);
});

test('a session that the metadata service does not know any more is renewed', async (t) => {
  let token = 0;
  const url = await serve(t, (request, response) => {
    if (request.method === 'PUT') return void response.end(`token-${++token}`);
    const isKnown = request.headers['x-aws-ec2-metadata-token'] === `token-${token}`;
    response.writeHead(isKnown ? 200 : 401).end('eu-west-1');
  });
  const metadata = new InstanceMetadata({ AWS_EC2_METADATA_SERVICE_ENDPOINT: url }, signalOf(t));
  t.is(await metadata.region(), 'eu-west-1');
  token++;
  t.is(await metadata.region(), 'eu-west-1');
  t.is(token, 3);
});

// Signature Version 4 against the values that AWS publishes.

const signer = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
};
const at = new Date('2015-08-30T12:36:00Z');
const URL = 'https://example.amazonaws.com';
const FORM = 'application/x-www-form-urlencoded';

const VECTORS: {
  name: string;
  method?: string;
  url?: string;
  headers?: Record<string, string>;
  body?: string;
  service?: string;
  token?: string;
  names?: string;
  signature: string;
}[] = [
  // aws-sig-v4-test-suite.
  { name: 'get-vanilla', signature: '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31' },
  {
    name: 'get-vanilla-query-order-key-case',
    url: `${URL}/?Param2=value2&Param1=value1`,
    signature: 'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
  },
  {
    name: 'post-vanilla',
    method: 'POST',
    signature: '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
  },
  {
    name: 'post-x-www-form-urlencoded',
    method: 'POST',
    headers: { 'Content-Type': FORM },
    body: 'Param1=value1',
    names: 'content-type;host;x-amz-date',
    signature: 'ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
  },
  // The example of the documentation of Signature Version 4: ListUsers of IAM.
  {
    name: 'the ListUsers of the documentation',
    url: 'https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08',
    headers: { 'Content-Type': `${FORM}; charset=utf-8` },
    service: 'iam',
    names: 'content-type;host;x-amz-date',
    signature: '5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7',
  },
];

for (const {
  name,
  method = 'GET',
  url = `${URL}/`,
  headers = {},
  body = '',
  service = 'service',
  ...wanted
} of VECTORS) {
  test(name, (t) => {
    const { authorization } = sign({ method, url, headers, body, region: 'us-east-1', service }, signer, at);
    t.is(
      authorization,
      `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/${service}/aws4_request, SignedHeaders=${wanted.names ?? 'host;x-amz-date'}, Signature=${wanted.signature}`,
    );
  });
}

test('the token of temporary credentials is sent and signed, and the secret is nowhere', (t) => {
  const headers = sign(
    { method: 'POST', url: `${URL}/`, headers: {}, body: 'a=b', region: 'eu-west-1', service: 'ec2' },
    { ...signer, sessionToken: 'the-token' },
    at,
  );
  t.is(headers['x-amz-security-token'], 'the-token');
  t.regex(headers['authorization'] ?? '', /SignedHeaders=host;x-amz-date;x-amz-security-token,/);
  t.false(JSON.stringify(headers).includes(signer.secretAccessKey));
});

// Calls to a cloud: their rate, and what is tried again.

const backoff = { firstMs: 1, lastMs: 5 };

test('what passes is tried again, at most so many times, and ends with its last error', async (t) => {
  const calls = new Calls({ signal: signalOf(t), backoff, attempts: 3 });
  let attempts = 0;
  const answer = await calls.run(() => {
    if (++attempts < 3) throw new Temporary(new Error('busy'));
    return Promise.resolve('done');
  });
  t.is(answer, 'done');
  t.is(attempts, 3);
  const error = await t.throwsAsync(calls.run(() => Promise.reject(new Temporary(new Error('busy still')))));
  t.is(error?.message, 'busy still');
  t.false(error instanceof Temporary);
});

test('another error is no reason to try again', async (t) => {
  const calls = new Calls({ signal: signalOf(t), backoff });
  let attempts = 0;
  await t.throwsAsync(
    calls.run(() => {
      attempts++;
      return Promise.reject(new Error('forbidden'));
    }),
    { message: 'forbidden' },
  );
  t.is(attempts, 1);
});

test('one call at a time, and a pause between changes', async (t) => {
  const calls = new Calls({ signal: signalOf(t), backoff, paceMs: 40 });
  const began: number[] = [];
  let running = 0;
  let most = 0;
  const one = async (): Promise<void> => {
    began.push(performance.now());
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
  };
  await Promise.all([1, 2, 3].map(() => calls.run(one, { changes: true })));
  t.is(most, 1);
  t.true((began[2] ?? 0) - (began[0] ?? 0) >= 75);
});

test('the end of the daemon ends the wait', async (t) => {
  const ending = new AbortController();
  const calls = new Calls({ signal: ending.signal, backoff: { firstMs: 60_000, lastMs: 60_000 } });
  const waiting = calls.run(() => Promise.reject(new Temporary(new Error('busy'))));
  setTimeout(() => ending.abort(new Error('SIGTERM')), 10);
  await t.throwsAsync(waiting, { message: 'SIGTERM' });
});

test('no answer: an error that names the call and the host', async (t) => {
  const signal = signalOf(t);
  const silent = await serve(t, () => undefined);
  const late = await t.throwsAsync<WeftError>(
    send({ what: 'ec2:CreateRoute', url: silent, timeoutMs: 50 }, signal),
  );
  t.is(late?.code, 'UNAVAILABLE');
  t.regex(
    late?.message ?? '',
    /^ec2:CreateRoute: 127\.0\.0\.1:\d+ does not answer: no answer within 0\.05 s/,
  );
  const refused = await t.throwsAsync<WeftError>(send({ what: 'x', url: 'http://127.0.0.1:1/' }, signal));
  t.regex(refused?.message ?? '', /127\.0\.0\.1:1 does not answer: /);
  t.regex(refused?.next ?? '', /region/);
});

test('a redirection is not followed: it could take credentials along', async (t) => {
  const target = await serve(t, (_request, response) => void response.end('secret'));
  const url = await serve(
    t,
    (_request, response) => void response.writeHead(302, { location: target }).end(),
  );
  await t.throwsAsync(send({ what: 'x', url }, signalOf(t)), { message: /does not answer/ });
});
