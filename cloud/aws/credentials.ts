// Credentials for AWS, from where its own tools have them: the environment, the shared file, the instance's role.
//
// They are in no log, no error and no status. Those of a role end after hours and are renewed before.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { messageOf, permissionDenied, unavailable, WeftError } from '../../core/errors.js';
import type { InstanceMetadata } from './metadata.js';
import type { Signer } from './signature.js';

export interface Credentials extends Signer {
  /** Where they are from, for errors. */
  from: string;
  /** Milliseconds since 1970; absent: they do not end. */
  expires?: number;
}

/** New ones of a role are there at least this long before the old ones end. */
const AHEAD_MS = 300_000;

type Environment = Readonly<Record<string, string | undefined>>;

export class CredentialSource {
  #cached: Credentials | undefined;

  constructor(
    private readonly environment: Environment,
    private readonly metadata: InstanceMetadata,
    private readonly now: () => number = Date.now,
  ) {}

  /** @throws WeftError PERMISSION_DENIED where there are none */
  async current(): Promise<Credentials> {
    const { expires } = this.#cached ?? {};
    if (this.#cached !== undefined && (expires === undefined || expires - AHEAD_MS > this.now()))
      return this.#cached;
    this.#cached = fromEnvironment(this.environment) ?? fromFile(this.environment) ?? (await this.#ofRole());
    return this.#cached;
  }

  /** AWS has refused them: the next call reads them anew. */
  forget(): void {
    this.#cached = undefined;
  }

  async #ofRole(): Promise<Credentials> {
    const path = 'meta-data/iam/security-credentials/';
    let role: string | undefined;
    try {
      role = (await this.metadata.get(path))?.split('\n')[0]?.trim();
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      throw noCredentials(`and the instance's role is not known: ${error.message}`, error);
    }
    if (role === undefined || role === '') throw noCredentials('and the instance has no role');
    const text = await this.metadata.get(`${path}${role}`);
    const found = parsed(text);
    const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken } = found;
    if (accessKeyId === undefined || secretAccessKey === undefined)
      throw unavailable(
        `the instance metadata service gives no credentials of the role ${role}: ${found['Code'] ?? 'it does not say why'}`,
        'See the role of the instance profile, and whom it trusts (ec2.amazonaws.com).',
      );
    const expires = Date.parse(found['Expiration'] ?? '');
    return {
      ...{ accessKeyId, secretAccessKey, sessionToken },
      from: `the role ${role} of this instance`,
      ...(!Number.isNaN(expires) && { expires }),
    };
  }
}

/** Texts alone; nothing where it is no such object. */
function parsed(text: string | undefined): Record<string, string> {
  try {
    const value: unknown = JSON.parse(text ?? '');
    const entries = Object.entries(value as Record<string, unknown>);
    return Object.fromEntries(
      entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    );
  } catch {
    return {};
  }
}

const noCredentials = (why: string, cause?: Error): WeftError =>
  permissionDenied(
    `there are no credentials for AWS: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor a shared credentials file, ${why}`,
    'Give the instance a role with the permissions in docs/backends.md.',
    cause && { cause },
  );

function fromEnvironment(environment: Environment): Credentials | undefined {
  const {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_SESSION_TOKEN: sessionToken,
  } = environment;
  if (!accessKeyId || !secretAccessKey) return undefined;
  return { accessKeyId, secretAccessKey, sessionToken: sessionToken || undefined, from: 'AWS_ACCESS_KEY_ID' };
}

/** The shared credentials file of AWS's tools. @throws WeftError PERMISSION_DENIED where a named one cannot be used */
function fromFile(environment: Environment): Credentials | undefined {
  const { AWS_SHARED_CREDENTIALS_FILE: named, AWS_PROFILE: profile = 'default' } = environment;
  const path = named || join(environment['HOME'] || homedir(), '.aws/credentials');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (named === undefined || named === '') return undefined;
    throw permissionDenied(
      `AWS_SHARED_CREDENTIALS_FILE: ${path} cannot be read: ${messageOf(error)}`,
      'Name a file that this daemon can read.',
      { cause: error },
    );
  }
  const found = profileIn(text, profile);
  const accessKeyId = found?.get('aws_access_key_id');
  const secretAccessKey = found?.get('aws_secret_access_key');
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  return { accessKeyId, secretAccessKey, sessionToken: found?.get('aws_session_token'), from: path };
}

function profileIn(text: string, profile: string): Map<string, string> | undefined {
  const profiles = new Map<string, Map<string, string>>();
  let current = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name] = /^\s*\[\s*([^\]]+?)\s*\]/.exec(line) ?? [];
    if (name !== undefined) profiles.set(name, (current = new Map<string, string>()));
    const [, key, value] = /^\s*([a-z_]+)\s*=\s*(\S+)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) current.set(key, value);
  }
  return profiles.get(profile);
}
