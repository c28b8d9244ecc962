// Applies steps in one namespace, in as few round trips as possible.
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import { itemKindOf, type LinkObject } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import type { NamespaceRole, StepFailure } from './kernel.js';
import { SystemError } from './libc.js';
import { BATCH, NetlinkSocket, type KernelError } from './netlink-socket.js';
import type { Message, Request } from './netlink-message.js';
import type { Pumps } from './pump/processes.js';
import {
  changeLink,
  createLink,
  decodeLink,
  deleteLink,
  getLink,
  itemCodecOf,
  makeLink,
  StepRefused,
  type DirectContext,
  type KernelLink,
  type LinkContext,
  type PortMover,
  type PrivateKeys,
} from './objects/index.js';
import { otherOwner } from './ownership.js';

/** Errnos of a deletion whose object is already absent. */
const GONE = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL', 'ENXIO']);

/** How long steps may block the event loop, in milliseconds. An attach takes far less. */
const TURN_MS = 10;

/** One apply: batches requests, and sends the batch when the next step depends on its outcome. */
export class Application {
  readonly #failures = new Map<Step, StepFailure>();
  readonly #links = new Map<string, KernelLink | undefined>();
  readonly #context: LinkContext;
  readonly #direct: DirectContext;
  #pending: { step: Step; request: Request }[] = [];

  constructor(
    private readonly socket: NetlinkSocket,
    private readonly role: NamespaceRole,
    private readonly inside: <T>(work: () => T) => T,
    peerFd: (link: string) => number | undefined,
    ports: PortMover | undefined,
    privateKey: PrivateKeys,
    pumps: Pumps,
  ) {
    this.#context = {
      bridgeIndex: (name) => {
        const index = this.#index(name);
        if (index === undefined) throw new StepRefused('ENODEV', `bridge ${name} does not exist`);
        return index;
      },
      peerFd,
    };
    this.#direct = {
      ports,
      privateKey,
      pumps,
      link: (name) => this.#link(name),
      forget: (name) => void this.#links.delete(name),
      inside,
    };
  }

  async run(steps: readonly Step[]): Promise<StepFailure[]> {
    let begin = performance.now();
    for (const step of steps) {
      try {
        const other = otherOwner(step, (name) => this.#link(name));
        if (other !== undefined) this.#leave(step, other);
        else if (step.do === 'delete-link') await this.#deleteLink(step);
        else this.#one(step);
      } catch (error) {
        this.#fail(
          step,
          error instanceof StepRefused || error instanceof SystemError
            ? error
            : { errno: 'EIO', message: messageOf(error) },
        );
      }
      if (this.#pending.length >= BATCH) this.#flush();
      if (performance.now() - begin < TURN_MS) continue;
      this.#flush();
      await turn();
      // Yields to the event loop.
      this.#links.clear();
      begin = performance.now();
    }
    this.#flush();
    return [...this.#failures.values()];
  }

  /** Never puts anything of weft's on an unowned link; nothing of weft's can be on one to delete. */
  #leave(step: Step, other: string): void {
    if (step.do === 'delete') return;
    this.#fail(step, {
      errno: 'EEXIST',
      message: `EEXIST, ${other} exists already, and weft did not make it`,
    });
  }

  #one(step: Exclude<Step, { do: 'delete-link' }>): void {
    switch (step.do) {
      case 'create-link':
        return this.#create(step);
      case 'change-link':
        return this.#change(step, step.link, false);
      case 'put':
      case 'delete':
        return this.#item(step);
    }
  }

  /**
   * Most of the time of a deletion, the kernel waits for readers of a link that lookups no longer find (rcu_barrier in
   * netdev_run_todo, net/core/dev.c). The deletion counts as done as soon as lookups do not find the link.
   */
  async #deleteLink(step: Extract<Step, { do: 'delete-link' }>): Promise<void> {
    this.#flush();
    const { name } = step;
    const index = this.#index(name);
    if (index === undefined) return;
    // Yields to the event loop.
    this.#links.clear();
    const socket = this.inside(() => new NetlinkSocket());
    let failure: KernelError | undefined;
    let over = false;
    const deleting = socket
      .aside(deleteLink(index))
      .catch((error: unknown) => ({ errno: 'EIO', message: messageOf(error) }))
      .then((answer) => {
        failure = answer;
        over = true;
        socket.close();
      });
    do await Promise.race([deleting, delay(1)]);
    while (!over && this.socket.get(getLink(name))?.body.readInt32LE(4) === index);
    if (failure !== undefined) this.#refused(step, failure);
  }

  #create(step: Extract<Step, { do: 'create-link' }>): void {
    const { link } = step;
    this.#flush();
    const isMade = this.inside(() => makeLink(link));
    this.#links.delete(link.name);
    if (!isMade) {
      const { failure, object } = this.socket.create(createLink(link, this.#context));
      if (failure !== undefined) return this.#refused(step, failure);
      if (object !== undefined) this.#links.set(link.name, this.#decode(object));
    }
    this.#change(step, link, true);
    if (!isMade) return;
    // It gets its mark only now, and nothing is put on a link without.
    this.#flush();
    this.#links.delete(link.name);
  }

  #change(step: Step, link: LinkObject, created: boolean): void {
    const current = this.#link(link.name);
    if (current === undefined) throw new StepRefused('ENODEV', `link ${link.name} does not exist`);
    for (const request of changeLink(link, current, { ...this.#context, created })) this.#add(step, request);
  }

  #item(step: Extract<Step, { do: 'put' | 'delete' }>): void {
    const { object } = step;
    const codec = itemCodecOf(object);
    if ('carryOut' in codec) {
      this.#flush();
      const failure = codec.carryOut(object, step.do, this.#direct);
      if (failure !== undefined) this.#fail(step, failure);
      return;
    }
    const link = itemKindOf(object).link?.(object);
    // Without a link: an unreachable route.
    const index = link === undefined ? 0 : this.#index(link);
    if (index === undefined) {
      if (step.do === 'delete') return;
      throw new StepRefused('ENODEV', `link ${link} does not exist`);
    }
    const how = step.do === 'delete' ? 'delete' : step.replace ? 'replace' : 'create';
    // IPv6 refuses a gateway that it reaches by another link, which the route itself leads to until it is replaced
    // (net/ipv6/route.c, ip6_route_check_nh_onlink).
    if (how === 'replace' && object.kind === 'route' && object.onlink === true && object.to.includes(':'))
      this.#add(
        step,
        codec.request({ kind: 'route', to: object.to, link: '', unreachable: true }, 0, 'delete'),
      );
    this.#add(step, codec.request(object, index, how));
  }

  /** Looked up once per name and apply, so that an index is never that of an earlier link of the same name. */
  #link(name: string): KernelLink | undefined {
    if (name === '') return undefined;
    if (this.#links.has(name)) return this.#links.get(name);
    const found = this.socket.get(getLink(name));
    const link = found === undefined ? undefined : this.#decode(found);
    this.#links.set(name, link);
    return link;
  }

  #decode({ body }: Message): KernelLink {
    return decodeLink(body, this.role, () => '');
  }

  #index(name: string): number | undefined {
    return this.#link(name)?.index;
  }

  #add(step: Step, request: Request): void {
    this.#pending.push({ step, request });
  }

  #flush(): void {
    const pending = this.#pending;
    if (pending.length === 0) return;
    this.#pending = [];
    let failures: (KernelError | undefined)[];
    try {
      failures = this.socket.batch(pending.map(({ request }) => request));
    } catch (error) {
      for (const { step } of pending) this.#fail(step, { errno: 'EIO', message: messageOf(error) });
      return;
    }
    for (const [i, { step }] of pending.entries()) {
      const failure = failures[i];
      if (failure !== undefined) this.#refused(step, failure);
    }
  }

  #refused(step: Step, failure: KernelError): void {
    const deletes = step.do === 'delete' || step.do === 'delete-link';
    if (!deletes || !GONE.has(failure.errno)) this.#fail(step, failure);
  }

  #fail(step: Step, { errno, message }: KernelError): void {
    if (!this.#failures.has(step)) this.#failures.set(step, { step, errno, message });
  }
}
