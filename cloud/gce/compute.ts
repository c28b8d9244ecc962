// The Compute API of Google Cloud: JSON calls, and the operations that they begin.
//
// https://cloud.google.com/compute/docs/reference/rest/v1
import { setTimeout as delay } from 'node:timers/promises';

import { isObject } from '../../core/parse.js';
import { type Calls, send, Temporary } from '../http.js';
import { ComputeError, explain, isTemporary, type RefusedCall } from './errors.js';
import { type MetadataServer, objectIn } from './metadata.js';

const ENDPOINT = 'https://compute.googleapis.com';
/** Between two looks at an operation, as flannel's, and how many there are. */
const LOOK_MS = 1000;
const LOOKS = 100;

type Json = Record<string, unknown>;

export interface Call extends RefusedCall {
  method?: 'GET' | 'POST' | 'DELETE';
  /** Below /compute/v1/projects/PROJECT. */
  path: string;
  body?: object;
  /** Of these statuses the error is thrown as it is. */
  expected?: readonly number[];
}

export interface ComputeOptions {
  calls: Calls;
  metadata: MetadataServer;
  endpoint?: string | undefined;
  lookMs?: number;
}

export class Compute {
  constructor(private readonly options: ComputeOptions) {}

  /** @throws ComputeError for an expected status; WeftError for every other */
  call(call: Call): Promise<Json> {
    const { calls, metadata } = this.options;
    const changes = call.method !== undefined && call.method !== 'GET';
    let renewed = false;
    const one = async (): Promise<Json> => {
      try {
        return await this.#send(call);
      } catch (error) {
        if (!(error instanceof ComputeError)) throw error;
        if (call.expected?.includes(error.status) === true) throw error;
        const why = explain(error, call);
        if (error.status === 401 && !renewed) {
          renewed = true;
          metadata.forgetToken();
          throw new Temporary(why);
        }
        throw isTemporary(error) ? new Temporary(why, error.afterMs) : why;
      }
    };
    return calls.run(one, { changes });
  }

  /** All pages of a list. */
  async list(call: Call): Promise<Json[]> {
    const found: Json[] = [];
    let token: unknown;
    do {
      const more = typeof token === 'string' ? `&pageToken=${encodeURIComponent(token)}` : '';
      const page: Json = await this.call({ ...call, path: `${call.path}?maxResults=500${more}` });
      const { items, nextPageToken } = page;
      if (Array.isArray(items)) found.push(...items.filter(isObject));
      token = nextPageToken;
    } while (typeof token === 'string' && token !== '');
    return found;
  }

  /** A call that begins an operation; settles when the operation is done. */
  async operate(call: Call): Promise<void> {
    const { lookMs = LOOK_MS, calls } = this.options;
    let operation = await this.call(call);
    for (let looks = 0; operation['status'] !== 'DONE' && looks < LOOKS; looks++) {
      await delay(lookMs, undefined, { signal: calls.signal }).catch(() => calls.signal.throwIfAborted());
      operation = await this.call({
        call: 'compute.globalOperations.get',
        permission: 'compute.globalOperations.get',
        object: call.object,
        path: `global/operations/${String(operation['name'])}`,
      });
    }
    const failed = errorOf(operation);
    if (failed === undefined && operation['status'] === 'DONE') return;
    const error = failed ?? new ComputeError(504, 'timeout', `the operation has not ended within ${LOOKS} s`);
    if (call.expected?.includes(error.status) === true) throw error;
    throw explain(error, call);
  }

  async #send({ call, method = 'GET', path, body }: Call): Promise<Json> {
    const { calls, metadata, endpoint = ENDPOINT } = this.options;
    const { project } = await metadata.instance();
    const answer = await send(
      {
        what: call,
        method,
        url: `${endpoint.replace(/\/$/, '')}/compute/v1/projects/${project}/${path}`,
        headers: {
          authorization: `Bearer ${await metadata.token()}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      },
      calls.signal,
    );
    const json = objectIn(answer.text);
    if (answer.status < 300) return json;
    const error = isObject(json['error']) ? json['error'] : {};
    const [first] = Array.isArray(error['errors']) ? error['errors'].filter(isObject) : [];
    throw new ComputeError(
      answer.status,
      textOf(first?.['reason']) || textOf(error['status']),
      textOf(error['message']) || 'no reason given',
      Number(answer.header('retry-after') ?? 0) * 1000 || 0,
    );
  }
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Why an operation has failed. */
function errorOf(operation: Json): ComputeError | undefined {
  const { error, httpErrorStatusCode: status } = operation;
  const errors = isObject(error) && Array.isArray(error['errors']) ? error['errors'].filter(isObject) : [];
  const [first] = errors;
  if (first === undefined) return undefined;
  return new ComputeError(
    typeof status === 'number' ? status : 400,
    textOf(first['code']),
    textOf(first['message']) || 'no reason given',
  );
}
