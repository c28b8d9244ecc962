// Temporary containers for `weft connectivity test`: each lives as long as the call that has asked for it.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';

import { decode, encode, RECURSION_DESIRED } from 'dns-packet';

import { containerMtu, type Membership } from '../../core/compile.js';
import { invalidArgument, messageOf, notFound } from '../../core/errors.js';
import { RESOLVER_IP } from '../../core/link-names.js';
import { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import type { ProbeQuery, ProbeResult, SandboxQuery } from '../../proto/gen/weft/v1/inspection.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import { DNS_PORT } from '../dns/index.js';
import type { Kernel, TestNamespace } from '../kernel/index.js';

/** On which a temporary container answers by TCP and UDP. */
const TEST_PORT = 7357;
const TIMEOUT_MS = 2000;
/** Bytes of a small packet. */
const SMALL = 100;

export interface SandboxesOptions {
  kernel: Pick<Kernel, 'openTestNamespace'>;
  memberships: { get(network: string): Membership | undefined; leave(network: string): Promise<void> };
  /** Whether a network has containers here. */
  isUsed: (network: string) => boolean;
  attach: (request: AttachRequest, signal: AbortSignal) => Promise<Endpoint>;
  detach: (request: { network: string; target: string }) => Promise<unknown>;
}

interface Running {
  namespace: TestNamespace;
  endpoint: Endpoint;
}

export class Sandboxes {
  readonly #running = new Map<string, Running>();
  readonly #ends = new Set<Promise<void>>();
  /** Networks that the node is on for temporary containers alone, and how many of them there are. */
  readonly #visited = new Map<string, number>();
  readonly #stopping = new AbortController();

  constructor(private readonly options: SandboxesOptions) {}

  /** One container, until the signal aborts. @throws WeftError as an attach */
  async *run(
    { network, publish }: SandboxQuery,
    caller: AbortSignal,
  ): AsyncGenerator<{ $case: 'sandbox'; value: Endpoint }> {
    const signal = AbortSignal.any([caller, this.#stopping.signal]);
    const { kernel, attach } = this.options;
    // A network that is being left cannot be joined.
    await Promise.all(this.#ends);
    const namespace = kernel.openTestNamespace();
    this.#visit(network);
    const target = `netns:${namespace.path}`;
    let endpoint: Endpoint | undefined;
    try {
      endpoint = await attach(
        AttachRequest.fromPartial({
          ...{ network, target, name: `weft-test-${randomBytes(4).toString('hex')}` },
          publish: publish === 0 ? [] : [`${publish}:${TEST_PORT}`],
        }),
        signal,
      );
      namespace.listen(TEST_PORT);
      this.#running.set(endpoint.id, { namespace, endpoint });
      yield { $case: 'sandbox', value: endpoint };
      if (!signal.aborted) await once(signal, 'abort');
    } finally {
      const end = this.#end(namespace, endpoint, { network, target });
      this.#ends.add(end);
      await end;
      this.#ends.delete(end);
    }
  }

  async #end(
    namespace: TestNamespace,
    endpoint: Endpoint | undefined,
    where: { network: string; target: string },
  ): Promise<void> {
    if (endpoint !== undefined) {
      this.#running.delete(endpoint.id);
      // Its namespace ends now, and what is left is taken away with it.
      await this.options.detach(where).catch(() => undefined);
    }
    namespace.close();
    await this.#endVisit(where.network);
  }

  #visit(network: string): void {
    const before = this.#visited.get(network);
    if (before !== undefined || this.options.memberships.get(network) === undefined)
      this.#visited.set(network, (before ?? 0) + 1);
  }

  /** The last one gives the node's subnet back, unless somebody else has come to use it. */
  async #endVisit(network: string): Promise<void> {
    const before = this.#visited.get(network);
    if (before === undefined) return;
    if (before > 1) {
      this.#visited.set(network, before - 1);
      return;
    }
    this.#visited.delete(network);
    const { memberships, isUsed } = this.options;
    // Without etcd the node stays on it, as on any other.
    if (!isUsed(network)) await memberships.leave(network).catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#ends);
  }

  /** @throws WeftError NOT_FOUND for a container that is not there */
  async probe(query: ProbeQuery): Promise<ProbeResult> {
    const found = this.#running.get(query.sandbox);
    if (found === undefined)
      throw notFound(`${query.sandbox}: there is no such temporary container`, 'It ended with its call.');
    const answer = await this.#try(query, found);
    return { ok: answer === undefined, why: answer ?? '' };
  }

  /** Why it did not get through; undefined where it did. @throws WeftError INVALID_ARGUMENT */
  async #try(query: ProbeQuery, { namespace, endpoint }: Running): Promise<string | undefined> {
    const { kind, to, port, size } = query;
    const membership = this.options.memberships.get(endpoint.network);
    const full = size > 0 ? size : membership === undefined ? endpoint.mtu : containerMtu(membership);
    const at = port === 0 ? TEST_PORT : port;
    const attempts = new Map<string, () => Promise<string | undefined>>([
      ['small', () => echo(namespace, to, SMALL)],
      ['full', () => echo(namespace, to, full)],
      ['tcp', async () => whyNot(await namespace.connect(to, at, TIMEOUT_MS))],
      ['udp', async () => whyNot(await namespace.ask(to, at, TIMEOUT_MS))],
      ['dns', () => lookUp(namespace, to)],
    ]);
    const attempt = attempts.get(kind);
    if (attempt !== undefined) return await attempt();
    throw invalidArgument(`kind: "${kind}" is not known`, `Give ${[...attempts.keys()].join(', ')}.`);
  }
}

async function echo(namespace: TestNamespace, to: string, bytes: number): Promise<string | undefined> {
  const rtt = await namespace.ping(to, bytes, TIMEOUT_MS);
  return rtt === undefined ? `no answer to ${bytes} bytes within ${TIMEOUT_MS / 1000} s` : undefined;
}

const whyNot = (answer: Buffer | string): string | undefined =>
  typeof answer === 'string' ? answer : undefined;

async function lookUp(namespace: TestNamespace, name: string): Promise<string | undefined> {
  const id = randomBytes(2).readUInt16BE();
  const question = encode({ type: 'query', id, flags: RECURSION_DESIRED, questions: [{ type: 'A', name }] });
  const answer = await namespace.ask(RESOLVER_IP, DNS_PORT, TIMEOUT_MS, question);
  if (typeof answer === 'string') return `the name server ${RESOLVER_IP}: ${answer}`;
  try {
    const { answers = [] } = decode(answer);
    return answers.length > 0 ? undefined : `the name server does not know ${name}`;
  } catch (error) {
    return `the answer of the name server cannot be read: ${messageOf(error)}`;
  }
}
