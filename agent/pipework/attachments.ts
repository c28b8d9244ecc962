// The attachments of this host (core/attachment.ts): making and removing them, all or nothing, through the same reconciler that
// containers of networks go through. The state directory is the truth about them.
import { randomBytes } from 'node:crypto';

import { alreadyExists, failedPrecondition, messageOf, notFound } from '../../core/errors.js';
import { hostIfname } from '../../core/link-names.js';
import { DEFAULT_ROUTE, type KernelObject, type ObjectKey } from '../../core/objects/index.js';
import type { PipeworkAttach, PipeworkDetach } from '../../core/pipework.js';
import type { Sandbox } from '../../core/records.js';
import {
  checkVlan,
  compileHostInterface,
  compileAttachment,
  differences,
  attachmentMac,
  type HostInterface,
  type Attachment,
} from '../../core/attachment.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import type { Logger } from '../../daemon/log.js';
import type { Kernel, KernelNamespace } from '../kernel/index.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import { attempt, type Problems } from '../health/index.js';
import {
  type Reconciler,
  type RecordKey,
  sameSandbox,
  type SandboxKey,
  type SandboxRecord,
} from '../reconcile/index.js';
import { canonicalForms, inSandbox, resolveTarget, type Target } from '../targets/index.js';
import { allOrNothing, type Rollback } from '../../daemon/rollback.js';
import { findHostInterface, type HostInterfaceSources } from './host-interfaces.js';
import type { AttachmentState } from './attachment-state.js';

export interface AttachmentsOptions extends Omit<HostInterfaceSources, 'known'> {
  kernel: Kernel;
  reconciler: Reconciler;
  state: AttachmentState;
  problems: Problems;
  log: Logger;
  docker: EngineAddress;
}

/** The parsed words, with the name of the host's interface; a MAC address is looked up by who asks. */
export type AttachRequest = Omit<PipeworkAttach, 'do' | 'host'> & { host: string };
export type DetachRequest = Omit<PipeworkDetach, 'do' | 'host'> & { host: string };

const recordOf = ({ id }: Attachment): SandboxKey => ({ kind: 'attachment', id });
const hostRecordOf = ({ name }: HostInterface): RecordKey => ({ kind: 'host-interface', id: name });
const insideOf = (attachment: Attachment, objects: readonly KernelObject[]): SandboxRecord => ({
  sandbox: attachment.sandbox,
  hostIfname: attachment.hostIfname,
  objects,
});

/** One attach: what is asked, and of which container. */
interface Attach {
  request: AttachRequest;
  target: Target;
  sandbox: Sandbox;
  namespace: KernelNamespace;
  signal: AbortSignal | undefined;
}

export class Attachments {
  readonly #byId = new Map<string, Attachment>();
  readonly #hostInterfaces = new Map<string, HostInterface>();
  readonly #locks = new KeyedMutex();

  constructor(private readonly options: AttachmentsOptions) {}

  list(): Attachment[] {
    return [...this.#byId.values()];
  }

  /** Takes up what is remembered, before the reconciler starts. */
  async restore({
    attachments,
    hostInterfaces,
  }: {
    attachments: readonly Attachment[];
    hostInterfaces: readonly HostInterface[];
  }): Promise<void> {
    const { reconciler } = this.options;
    for (const hostInterface of hostInterfaces) {
      this.#hostInterfaces.set(hostInterface.name, hostInterface);
      await reconciler.set([[hostRecordOf(hostInterface), compileHostInterface(hostInterface)]]);
    }
    for (const attachment of attachments) {
      const { host, container } = compileAttachment(attachment);
      this.#byId.set(attachment.id, attachment);
      await reconciler.adopt(recordOf(attachment), host, insideOf(attachment, container));
    }
  }

  /** @throws WeftError, or the signal's reason; then nothing was changed */
  async attach(request: AttachRequest, signal?: AbortSignal): Promise<Attachment> {
    const { kernel, docker } = this.options;
    const target = await resolveTarget(request.guest, docker);
    return inSandbox(kernel, target, (sandbox, namespace) =>
      // One after the other: the first attachment on an interface of the host prepares it for all.
      this.#locks.run('attachments', () => this.#attachTo({ request, target, sandbox, namespace, signal })),
    );
  }

  async #attachTo(attach: Attach): Promise<Attachment> {
    const { request, target, sandbox, namespace, signal } = attach;
    signal?.throwIfAborted();
    const there = this.list().find(
      (attachment) => attachment.ifname === request.ifname && sameSandbox(attachment.sandbox, sandbox),
    );
    if (there !== undefined) return same(request, there);
    await this.#checkNames(attach);
    const hostInterface = await findHostInterface({ ...this.options, known: this.#hostInterfaces }, request);
    checkVlan(hostInterface, request.vlan);
    const actual = await namespace.observe([]);
    checkDefaultRoute(request, target, actual.objects);
    const attachment = describe(attach, hostInterface);
    const { host, container } = compileAttachment(attachment);
    const { reconciler, state, log } = this.options;
    await allOrNothing(log, attachment.id, async (rollback) => {
      await this.#prepare(hostInterface, rollback);
      const first = container.filter((object) => object.kind !== 'route');
      rollback.add(() => reconciler.detach(recordOf(attachment)));
      await reconciler.attach(recordOf(attachment), host, insideOf(attachment, first), namespace, actual);
      signal?.throwIfAborted();
      rollback.add(() => state.delete(attachment.id));
      state.save(attachment);
      await replaceDefaultRoute(namespace, attachment, container);
    });
    await reconciler.adopt(recordOf(attachment), host, insideOf(attachment, container));
    this.#byId.set(attachment.id, attachment);
    log.info('an attachment was made', {
      target: attachment.target,
      on: hostInterface.name,
      ifname: attachment.ifname,
    });
    return attachment;
  }

  /** @throws WeftError ALREADY_EXISTS where the name of either end is taken */
  async #checkNames({ request, target, namespace }: Attach): Promise<void> {
    if ((await namespace.linkNames()).has(request.ifname)) {
      throw alreadyExists(
        `pipework: ${target.canonical} has an interface ${request.ifname} already`,
        'Choose another with -i.',
      );
    }
    const { hostIfname } = request;
    if (hostIfname === undefined || (await this.options.kernel.parentLink(hostIfname)) === undefined) return;
    throw alreadyExists(
      `pipework: this host has an interface ${hostIfname} already`,
      'Choose another with -l.',
    );
  }

  /** Makes the bridge, or the NIC a port of one. */
  async #prepare(hostInterface: HostInterface, rollback: Rollback): Promise<void> {
    if (this.#hostInterfaces.has(hostInterface.name)) return;
    rollback.add(() => this.#release(hostInterface));
    // Written down first: what is made must be known for weft's after a crash.
    this.options.state.saveHostInterface(hostInterface);
    this.#hostInterfaces.set(hostInterface.name, hostInterface);
    const [failure] = await this.options.reconciler.set([
      [hostRecordOf(hostInterface), compileHostInterface(hostInterface)],
    ]);
    if (failure !== undefined) {
      throw failedPrecondition(
        `pipework: ${hostInterface.name} cannot be prepared: ${failure.message}`,
        'Nothing was left behind; see `weft status` for what else is wrong on this host.',
      );
    }
  }

  async #release(hostInterface: HostInterface): Promise<void> {
    this.options.state.deleteHostInterface(hostInterface.name);
    this.#hostInterfaces.delete(hostInterface.name);
    // Not `set`, which takes nothing away before etcd's first list: whose this is, is known here.
    await this.options.reconciler.detach(hostRecordOf(hostInterface));
  }

  /** The last attachment on something releases what was prepared for it. @throws WeftError NOT_FOUND */
  async detach(request: DetachRequest, signal?: AbortSignal): Promise<Attachment> {
    return this.#locks.run('attachments', async () => {
      signal?.throwIfAborted();
      const attachment = await this.#find(request);
      await this.#remove(attachment);
      if (!this.list().some(({ hostInterface }) => hostInterface.name === attachment.hostInterface.name))
        await this.#release(attachment.hostInterface);
      return attachment;
    });
  }

  /** By the guest's words, or by its namespace. */
  async #find({ host, guest, ifname }: DetachRequest): Promise<Attachment> {
    const there = this.list().filter(
      (attachment) => attachment.hostInterface.name === host && attachment.ifname === ifname,
    );
    const forms = canonicalForms(guest);
    const named = there.find(({ target }) => forms.includes(target));
    if (named !== undefined) return named;
    const { path } = await resolveTarget(guest, this.options.docker);
    const sandbox = this.options.kernel.identify(path);
    const found = there.find(
      (attachment) => sandbox !== undefined && sameSandbox(attachment.sandbox, sandbox),
    );
    if (found !== undefined) return found;
    throw notFound(
      `pipework: ${guest} has no interface ${ifname} on ${host} that \`weft pipework\` made`,
      'Name the interface with -i, as when it was made.',
    );
  }

  /** A container went by itself. What was prepared stays for the next one: people give such bridges addresses. */
  sandboxGone(id: string): void {
    const attachment = this.#byId.get(id);
    if (attachment === undefined) return;
    void this.#locks.run('attachments', async () => {
      if (!this.#byId.has(attachment.id)) return;
      await attempt(
        this.options,
        {
          scope: { kind: 'attachment', id },
          kind: 'removal',
          what: `the removal of interface ${attachment.ifname} of ${attachment.target} on ${attachment.hostInterface.name}`,
          again: 'It is tried again every 10 seconds.',
        },
        () => this.#remove(attachment),
      );
      if (!this.#byId.has(attachment.id))
        this.options.log.info('a container is gone: its attachment is removed', {
          target: attachment.target,
        });
    });
  }

  /** @throws WeftError where the state directory refuses; then it is there as before */
  async #remove(attachment: Attachment): Promise<void> {
    this.options.state.delete(attachment.id);
    this.#byId.delete(attachment.id);
    this.options.problems.clearScope({ kind: 'attachment', id: attachment.id });
    await this.options.reconciler.detach(recordOf(attachment)).catch((error: unknown) => {
      // In no record any more, it goes with the next comparison.
      this.options.log.warn('a removed attachment is not gone yet', {
        target: attachment.target,
        error: messageOf(error),
      });
    });
  }
}

function describe({ request, target, sandbox }: Attach, on: HostInterface): Attachment {
  const { guest: _guest, host: _host, force: _force, ...asked } = request;
  const id = randomBytes(8).toString('hex');
  return {
    ...asked,
    id,
    hostInterface: on,
    name: target.name,
    target: target.canonical,
    sandbox,
    hostIfname: request.hostIfname ?? hostIfname(id),
    mac: attachmentMac(request, id),
  };
}

/**
 * Last of all: it may replace a route that is not weft's, as pipework's did, and that is not put back.
 * @throws WeftError FAILED_PRECONDITION where the kernel refuses it
 */
async function replaceDefaultRoute(
  namespace: KernelNamespace,
  { gateway }: Attachment,
  container: readonly KernelObject[],
): Promise<void> {
  const [failure] = await namespace.apply(
    container
      .filter((object) => object.kind === 'route')
      .map((object) => ({ do: 'put', object, replace: true })),
  );
  if (failure === undefined) return;
  throw failedPrecondition(
    `pipework: the kernel refused the default route via ${gateway}: ${failure.message}`,
    'Nothing was left behind; is the gateway right?',
  );
}

/** @throws WeftError ALREADY_EXISTS with the difference */
function same(request: AttachRequest, there: Attachment): Attachment {
  const different = differences(
    { ...request, do: 'attach', host: { name: request.host } },
    request.host,
    there,
  );
  if (different.length === 0) return there;
  throw alreadyExists(
    `pipework: ${there.target} has an interface ${there.ifname} on ${there.hostInterface.name} already: ${different.join('; ')}`,
    `To change it: weft pipework --detach ${there.hostInterface.name} -i ${there.ifname} ${there.target}, then call again.`,
  );
}

/** @throws WeftError FAILED_PRECONDITION where the default route is a network's of weft's, which would put it back */
function checkDefaultRoute(
  { gateway }: AttachRequest,
  target: Target,
  objects: ReadonlyMap<ObjectKey, { owned: boolean }>,
): void {
  if (gateway === undefined) return;
  const current = objects.get(DEFAULT_ROUTE[gateway.includes(':') ? 6 : 4]);
  if (current?.owned !== true) return;
  throw failedPrecondition(
    `pipework: the default route of ${target.canonical} leads through a network of weft's`,
    'Leave out @GATEWAY, or attach it to that network with --no-default-route.',
  );
}
