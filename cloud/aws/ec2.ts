// The query API of EC2: form fields in, XML out.
//
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html
import { XMLParser } from 'fast-xml-parser';

import { isObject } from '../../core/parse.js';
import { type Calls, send, Temporary } from '../http.js';
import type { Credentials, CredentialSource } from './credentials.js';
import { Ec2Error, explain } from './errors.js';
import { sign } from './signature.js';

const VERSION = '2016-11-15';

export type Fields = Readonly<Record<string, string>>;

const parser = new XMLParser({
  ignoreAttributes: true,
  // Every value stays text: an id of digits is no number.
  parseTagValue: false,
  isArray: (name) => name === 'item' || name === 'Error',
});

/** An element of an answer. */
export class Element {
  constructor(private readonly value: unknown) {}

  text(name: string): string | undefined {
    const value = this.#child(name);
    return typeof value === 'string' && value !== '' ? value : undefined;
  }

  /** The items of a set; none where there is no such set. */
  items(set: string): Element[] {
    const value = this.#child(set);
    const items = isObject(value) ? value['item'] : undefined;
    return Array.isArray(items) ? items.map((item) => new Element(item)) : [];
  }

  at(name: string): Element {
    return new Element(this.#child(name));
  }

  errors(): Element[] {
    const value = this.#child('Error');
    return Array.isArray(value) ? value.map((error) => new Element(error)) : [];
  }

  #child(name: string): unknown {
    return isObject(this.value) ? this.value[name] : undefined;
  }
}

/** These pass, and AWS asks to come back (Error codes for the Amazon EC2 API). */
const TEMPORARY = new Set([
  'RequestLimitExceeded',
  'Throttling',
  'ThrottlingException',
  'EC2ThrottledException',
  'InternalError',
  'InternalFailure',
  'ServiceUnavailable',
  'Unavailable',
  'ConcurrentModification',
]);
/** The credentials have ended, or were replaced meanwhile. */
const STALE = new Set(['RequestExpired', 'ExpiredToken', 'ExpiredTokenException', 'AuthFailure']);

export interface Ec2Options {
  calls: Calls;
  credentials: CredentialSource;
  region: () => Promise<string>;
  /** Where it is not AWS's own. */
  endpoint?: string | undefined;
}

export class Ec2 {
  constructor(private readonly options: Ec2Options) {}

  /**
   * @param object what the call is about, for errors
   * @throws Ec2Error for a code in `expected`; WeftError that names the call and what it needs for every other
   */
  async call(
    action: string,
    object: string,
    fields: Fields,
    { changes = false, expected = [] }: { changes?: boolean; expected?: readonly string[] } = {},
  ): Promise<Element> {
    const { calls } = this.options;
    let renewed = false;
    const region = await this.options.region();
    const one = async (): Promise<Element> => {
      const credentials = await this.options.credentials.current();
      try {
        return await this.#send(action, fields, region, credentials);
      } catch (error) {
        if (!(error instanceof Ec2Error)) throw error;
        if (STALE.has(error.code) && !renewed) {
          renewed = true;
          this.options.credentials.forget();
          throw new Temporary(explain(error, { action, object, region, credentials }));
        }
        if (expected.includes(error.code)) throw error;
        const why = explain(error, { action, object, region, credentials });
        throw TEMPORARY.has(error.code) || error.status >= 500 ? new Temporary(why) : why;
      }
    };
    return calls.run(one, { changes });
  }

  /** All pages of a list. @param set the element with the items */
  async list(action: string, object: string, set: string, fields: Fields): Promise<Element[]> {
    const found: Element[] = [];
    let next: string | undefined;
    do {
      const page: Element = await this.call(action, object, {
        ...fields,
        ...(next !== undefined && { NextToken: next }),
      });
      found.push(...page.items(set));
      next = page.text('nextToken');
    } while (next !== undefined);
    return found;
  }

  async #send(action: string, fields: Fields, region: string, credentials: Credentials): Promise<Element> {
    const { calls, endpoint = endpointOf(region) } = this.options;
    const body = new URLSearchParams({ Action: action, Version: VERSION, ...fields }).toString();
    const request = {
      method: 'POST' as const,
      url: endpoint.endsWith('/') ? endpoint : `${endpoint}/`,
      headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
      body,
    };
    const headers = sign({ ...request, region, service: 'ec2' }, credentials, new Date());
    const answer = await send({ ...request, what: `ec2:${action} in ${region}`, headers }, calls.signal);
    const root = rootOf(answer.text);
    if (answer.status === 200) return root;
    const [error] = root.at('Errors').errors();
    throw new Ec2Error(
      error?.text('Code') ?? `status ${answer.status}`,
      error?.text('Message') ?? 'no reason given',
      answer.status,
    );
  }
}

/** China has a domain of its own. */
const endpointOf = (region: string): string =>
  `https://ec2.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`;

/** The one element of a document. */
function rootOf(text: string): Element {
  let document: unknown;
  try {
    document = parser.parse(text);
  } catch {
    document = {};
  }
  const root = isObject(document)
    ? Object.entries(document).find(([name]) => !name.startsWith('?'))?.[1]
    : {};
  return new Element(root);
}
