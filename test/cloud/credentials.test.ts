// Where credentials for AWS come from, and when they are renewed.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { CredentialSource } from '../../cloud/aws/credentials.js';
import { InstanceMetadata } from '../../cloud/aws/metadata.js';
import { IpAddress } from '../../core/address.js';
import type { WeftError } from '../../core/errors.js';
import { ec2Metadata, type Ec2Machine } from '../lab/ec2-metadata.js';
import { serve, signalOf } from './server.js';

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
