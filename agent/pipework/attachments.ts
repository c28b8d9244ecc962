// Attachments of pipework on this host: make, restore and remove.
//
// They (core/attachment.ts) use the reconciler that endpoints use. A failed attach is rolled back; the state directory is
// authoritative.
import { parseInterface } from '../../core/address.js';
import { alreadyExists, failedPrecondition, messageOf, notFound } from '../../core/errors.js';
import { hostIfname } from '../../core/link-names.js';
import { DEFAULT_ROUTE, type KernelObject, type ObjectKey } from '../../core/objects/index.js';
import type { PipeworkAttach, PipeworkDetach } from '../../core/pipework.js';
import { newId, type Sandbox } from '../../core/records.js';
import {
  checkVlan,
  compileHostInterface,
  compileAttachment,
  differences,
  attachmentMac,
  portVlan,
  type HostInterface,
  type Attachment,
} from '../../core/attachment.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import type { Logger } from '../../daemon/log.js';
import type { Kernel, KernelNamespace } from '../kernel/index.js';
import { Mutex } from '../../core/keyed-mutex.js';
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

/** The parsed command, with the name of the host interface; the caller has resolved a MAC address to it. */
export type AttachRequest = Omit<PipeworkAttach, 'do' | 'host'> & { host: string };
export type DetachRequest = Omit<PipeworkDetach, 'do' | 'host'> & { host: string };

const recordOf = ({ id }: Attachment): SandboxKey => ({ kind: 'attachment', id });
const hostRecordOf = ({ name }: HostInterface): RecordKey => ({ kind: 'host-interface', id: name });
const insideOf = (attachment: Attachment, objects: readonly KernelObject[]): SandboxRecord => ({
  sandbox: attachment.sandbox,
  hostIfname: attachment.hostIfname,
  objects,
});

/** One attach: request and container. */
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
  readonly #lock = new Mutex();

  constructor(private readonly options: AttachmentsOptions) {}

  list(): Attachment[] {
    return [...this.#byId.values()];
  }

  /** Restores saved attachments, before the reconciler starts. */
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
      // Serialized: the first attachment on a host interface prepares it for all.
      this.#lock.run(() => this.#attachTo({ request, target, sandbox, namespace, signal })),
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
    if (request.force !== true) this.#checkAddress(attachment);
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
    log.info('made an attachment', {
      target: attachment.target,
      on: hostInterface.name,
      ifname: attachment.ifname,
    });
    return attachment;
  }

  /** @throws WeftError ALREADY_EXISTS if the name of either end is taken */
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

  /** @throws WeftError ALREADY_EXISTS if another container on the bridge has the address, in the same VLAN */
  #checkAddress(attachment: Attachment): void {
    const { address, vlan } = attachment;
    if (address === undefined) return;
    const host = attachment.hostInterface.name;
    const ip = parseInterface(address).address;
    const other = this.list().find(
      (one) =>
        one.hostInterface.name === host &&
        // Without one it is the bridge's own, which may be asked for, too.
        portVlan(one) === portVlan(attachment) &&
        one.address !== undefined &&
        parseInterface(one.address).address.equals(ip),
    );
    if (other === undefined) return;
    throw alreadyExists(
      `pipework: ${ip.toString()} is the address of ${other.target} on ${host}${vlan === undefined ? '' : `, VLAN ${vlan}`}`,
      'Give another address; where both shall have it, which then answer in turns: --force.',
    );
  }

  /** Creates the bridge, or makes the NIC a port of one. */
  async #prepare(hostInterface: HostInterface, rollback: Rollback): Promise<void> {
    if (this.#hostInterfaces.has(hostInterface.name)) return;
    rollback.add(() => this.#release(hostInterface));
    // Saved first: after a crash, weft must know that it made the interface.
    this.options.state.saveHostInterface(hostInterface);
    this.#hostInterfaces.set(hostInterface.name, hostInterface);
    const [failure] = await this.options.reconciler.set([
      [hostRecordOf(hostInterface), compileHostInterface(hostInterface)],
    ]);
    if (failure !== undefined) {
      throw failedPrecondition(
        `pipework: ${hostInterface.name} cannot be prepared: ${failure.message}`,
        'Nothing was left behind; see `weft status` for other problems of this host.',
      );
    }
  }

  async #release(hostInterface: HostInterface): Promise<void> {
    this.options.state.deleteHostInterface(hostInterface.name);
    this.#hostInterfaces.delete(hostInterface.name);
    // Not `set`, which deletes nothing before etcd's first list: the owner of this record is known without etcd.
    await this.options.reconciler.detach(hostRecordOf(hostInterface));
  }

  /** Removes an attachment; the last one on a host interface also releases the interface. @throws WeftError NOT_FOUND */
  async detach(request: DetachRequest, signal?: AbortSignal): Promise<Attachment> {
    return this.#lock.run(async () => {
      signal?.throwIfAborted();
      const attachment = await this.#find(request);
      await this.#remove(attachment);
      if (!this.list().some(({ hostInterface }) => hostInterface.name === attachment.hostInterface.name))
        await this.#release(attachment.hostInterface);
      return attachment;
    });
  }

  /** By the guest's name, or by its namespace. */
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
      'Give the name of the interface with -i, as when it was made.',
    );
  }

  /** A container has ended. The host interface stays for the next one: operators give such bridges addresses. */
  sandboxGone(id: string): void {
    const attachment = this.#byId.get(id);
    if (attachment === undefined) return;
    void this.#lock.run(async () => {
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
        this.options.log.info('removed the attachment of a container that ended', {
          target: attachment.target,
        });
    });
  }

  /** @throws WeftError if the state directory fails; then nothing was changed */
  async #remove(attachment: Attachment): Promise<void> {
    this.options.state.delete(attachment.id);
    this.#byId.delete(attachment.id);
    this.options.problems.clearScope({ kind: 'attachment', id: attachment.id });
    await this.options.reconciler.detach(recordOf(attachment)).catch((error: unknown) => {
      // Its objects are in no record any more: the next reconciliation prunes them.
      this.options.log.warn('a removed attachment is still in the kernel', {
        target: attachment.target,
        error: messageOf(error),
      });
    });
  }
}

function describe({ request, target, sandbox }: Attach, on: HostInterface): Attachment {
  const { guest: _guest, host: _host, force: _force, ...asked } = request;
  const id = newId();
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
 * Last of all: it may replace a route that is not weft's, as pipework did, and that route cannot be restored.
 * @throws WeftError FAILED_PRECONDITION if the kernel rejects it
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
    'Nothing was left behind. Check the gateway.',
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

/** @throws WeftError FAILED_PRECONDITION if a network of weft's has the default route: its reconciler would restore it */
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
