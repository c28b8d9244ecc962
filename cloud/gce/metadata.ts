// The metadata server of Google Cloud: what this machine is, and the token of its service account.
//
// https://cloud.google.com/compute/docs/metadata/overview
import type { IpAddress } from '../../core/address.js';
import { failedPrecondition, permissionDenied, unavailable, WeftError } from '../../core/errors.js';
import { isObject } from '../../core/parse.js';
import { send } from '../http.js';

/** By address: the name needs the cloud's own name server. */
const HOST = '169.254.169.254';
const TIMEOUT_MS = 2_000;
/** A new token is got this long before the old one ends. */
const AHEAD_MS = 60_000;

/** This machine. */
export interface Instance {
  project: string;
  zone: string;
  name: string;
}

export class MetadataServer {
  readonly #url: string;
  #token: { text: string; until: number } | undefined;
  #instance: Instance | undefined;

  constructor(
    environment: Readonly<Record<string, string | undefined>>,
    private readonly signal: AbortSignal,
  ) {
    this.#url = `http://${environment['GCE_METADATA_HOST'] || HOST}/computeMetadata/v1`;
  }

  /** @throws WeftError UNAVAILABLE */
  async #get(path: string): Promise<string> {
    try {
      const { status, text } = await send(
        {
          what: 'metadata server',
          url: `${this.#url}/${path}`,
          headers: { 'Metadata-Flavor': 'Google' },
          timeoutMs: TIMEOUT_MS,
        },
        this.signal,
      );
      if (status === 200) return text.trim();
      throw unavailable(
        `the metadata server answers ${status} to ${path.replace(/\?.*/, '')}`,
        status === 404 && path.includes('service-accounts')
          ? 'Give the instance a service account with the permissions in docs/backends.md.'
          : 'It is tried again every minute.',
      );
    } catch (error) {
      if (!(error instanceof WeftError) || !error.message.includes('does not answer')) throw error;
      throw unavailable(
        error.message,
        'This must be an instance of Google Cloud; GCE_METADATA_HOST names another metadata server.',
        { cause: error },
      );
    }
  }

  async instance(): Promise<Instance> {
    this.#instance ??= {
      project: await this.#get('project/project-id'),
      zone: last(await this.#get('instance/zone')),
      name: await this.#get('instance/name'),
    };
    return this.#instance;
  }

  /** The VPC network of the interface with this address; without one, of the first. @throws WeftError FAILED_PRECONDITION */
  async network(ip: IpAddress | undefined): Promise<string> {
    const interfaces = listIn(await this.#get('instance/network-interfaces/?recursive=true'));
    const found = ip === undefined ? interfaces[0] : interfaces.find((one) => one['ip'] === ip.toString());
    const network = found?.['network'];
    if (typeof network === 'string') return last(network);
    throw failedPrecondition(
      `no network interface of instance ${(await this.instance()).name} has the address ${ip?.toString() ?? ''}`,
      'Name one of its own addresses with --underlay-ip.',
    );
  }

  /** The access token of the instance's service account: a secret. @throws WeftError PERMISSION_DENIED */
  async token(): Promise<string> {
    const now = performance.now();
    if (this.#token !== undefined && now < this.#token.until) return this.#token.text;
    const answer = objectIn(await this.#get('instance/service-accounts/default/token'));
    const { access_token: text, expires_in: seconds } = answer;
    if (typeof text !== 'string')
      throw permissionDenied(
        'the metadata server gives no token of a service account',
        'Give the instance a service account with the permissions in docs/backends.md.',
      );
    const life = typeof seconds === 'number' ? seconds * 1000 : 0;
    this.#token = { text, until: now + life - AHEAD_MS };
    return text;
  }

  forgetToken(): void {
    this.#token = undefined;
  }
}

/** The last part of a path: projects/123/zones/us-central1-a. */
export const last = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function objectIn(text: string): Record<string, unknown> {
  const value = jsonOf(text);
  return isObject(value) ? value : {};
}

function listIn(text: string): Record<string, unknown>[] {
  const value = jsonOf(text);
  return Array.isArray(value) ? value.filter(isObject) : [];
}
