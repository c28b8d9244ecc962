// The wires of this host (core/wire.ts): making and removing them, all or nothing, through the same reconciler that
// containers of networks go through. The state directory is the truth about them.
import { randomBytes } from 'node:crypto';

import {
  alreadyExists,
  failedPrecondition,
  invalidArgument,
  messageOf,
  notFound,
} from '../../core/errors.js';
import { hostIfname } from '../../core/link-names.js';
import type { KernelObject } from '../../core/objects.js';
import type { PipeworkAttach, PipeworkDetach } from '../../core/pipework.js';
import type { Sandbox } from '../../core/records.js';
import {
  checkVlan,
  compilePlace,
  compileWire,
  differences,
  wireMac,
  type Place,
  type Wire,
} from '../../core/attachment.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import type { Logger } from '../../daemon/log.js';
import type { Kernel, KernelNamespace } from '../kernel/index.js';
import { Locks } from '../../core/keyed-mutex.js';
import { attempt, type Problems } from '../health/index.js';
import { type Reconciler, sameSandbox, type SandboxRecord } from '../reconcile/index.js';
import { canonicalForms, resolveTarget, type Target } from '../targets/index.js';
import { Undo } from '../../daemon/rollback.js';
import { findPlace, type PlaceSources } from './attach-points.js';
import type { WireState } from './attachment-state.js';

export interface WiresOptions extends Omit<PlaceSources, 'known'> {
  kernel: Kernel;
  reconciler: Reconciler;
  state: WireState;
  problems: Problems;
  log: Logger;
  docker: EngineAddress;
}

/** The parsed words, with the name of the host's interface; a MAC address is looked up by who asks. */
export type WireRequest = Omit<PipeworkAttach, 'do' | 'host'> & { host: string };
export type WireDetach = Omit<PipeworkDetach, 'do' | 'host'> & { host: string };

const WIRE = 'wire ';
const PLACE = 'wires on ';
const recordOf = ({ id }: Wire): string => `${WIRE}${id}`;
/** What a problem with taking one away is kept under. */
const endOf = ({ target, ifname, place }: Wire): string =>
  `the end of the wire ${ifname} of ${target} on ${place.name}`;
const insideOf = (wire: Wire, objects: readonly KernelObject[]): SandboxRecord => ({
  sandbox: wire.sandbox,
  hostIfname: wire.hostIfname,
  objects,
});

export class Wires {
  readonly #byId = new Map<string, Wire>();
  readonly #places = new Map<string, Place>();
  readonly #locks = new Locks();

  constructor(private readonly options: WiresOptions) {}

  list(): Wire[] {
    return [...this.#byId.values()];
  }

  /** Takes up what is remembered, before the reconciler starts. */
  async restore({ wires, places }: { wires: readonly Wire[]; places: readonly Place[] }): Promise<void> {
    const { reconciler } = this.options;
    for (const place of places) {
      this.#places.set(place.name, place);
      await reconciler.set(new Map([[`${PLACE}${place.name}`, compilePlace(place)]]));
    }
    for (const wire of wires) {
      const { host, container } = compileWire(wire);
      this.#byId.set(wire.id, wire);
      await reconciler.adopt(recordOf(wire), host, insideOf(wire, container));
    }
  }

  /** Whether a record of the reconciler's is one of these. */
  owns(record: string): boolean {
    return record.startsWith(WIRE);
  }

  /** @throws WeftError; then nothing was changed */
  async attach(request: WireRequest): Promise<Wire> {
    const target = await resolveTarget(request.guest, this.options.docker);
    const { isNode, sandbox, namespace } = await this.options.kernel.openNamespace(target.path);
    try {
      if (isNode) {
        throw invalidArgument(
          `${target.canonical} has the network of this host itself, which cannot be attached`,
          'Give the container a network namespace of its own.',
        );
      }
      // One after the other: the first wire on an interface of the host prepares it for all.
      return await this.#locks.run('wires', () => this.#attachTo(request, target, sandbox, namespace));
    } finally {
      namespace.close();
    }
  }

  async #attachTo(
    request: WireRequest,
    target: Target,
    sandbox: Sandbox,
    namespace: KernelNamespace,
  ): Promise<Wire> {
    const there = this.list().find(
      (wire) => wire.ifname === request.ifname && sameSandbox(wire.sandbox, sandbox),
    );
    if (there !== undefined) return same(request, there);
    const { kernel, reconciler, state, log } = this.options;
    if ((await namespace.linkNames()).has(request.ifname)) {
      throw alreadyExists(
        `pipework: ${target.canonical} has an interface ${request.ifname} already`,
        'Choose another with -i.',
      );
    }
    if (request.hostIfname !== undefined && (await kernel.parentLink(request.hostIfname)) !== undefined) {
      throw alreadyExists(
        `pipework: this host has an interface ${request.hostIfname} already`,
        'Choose another with -l.',
      );
    }
    const place = await findPlace({ ...this.options, known: this.#places }, request);
    checkVlan(place, request.vlan);
    const actual = await namespace.observe([]);
    checkDefaultRoute(request, target, actual.objects);
    const id = randomBytes(8).toString('hex');
    const { guest: _guest, host: _host, force: _force, ...asked } = request;
    const wire: Wire = {
      ...asked,
      id,
      place,
      name: target.name,
      target: target.canonical,
      sandbox,
      hostIfname: request.hostIfname ?? hostIfname(id),
      mac: wireMac(request, id),
    };
    const { host, container } = compileWire(wire);
    const undo = new Undo();
    try {
      if (!this.#places.has(place.name)) undo.push(() => this.#release(place));
      await this.#prepare(place);
      const first = container.filter((object) => object.kind !== 'route');
      await reconciler.attach(recordOf(wire), host, insideOf(wire, first), namespace, actual);
      undo.push(() => reconciler.detach(recordOf(wire)));
      state.save(wire);
      undo.push(() => Promise.resolve(state.delete(id)));
      // Last of all: it may replace one that is not weft's, as pipework's did, and that is not put back.
      const [failure] = await namespace.apply(
        container
          .filter((object) => object.kind === 'route')
          .map((object) => ({ do: 'put', object, replace: true })),
      );
      if (failure !== undefined) {
        throw failedPrecondition(
          `pipework: the kernel refused the default route via ${wire.gateway}: ${failure.message}`,
          'Nothing was left behind; is the gateway right?',
        );
      }
    } catch (error) {
      await undo.takeBack(log, id);
      throw error;
    }
    await reconciler.adopt(recordOf(wire), host, insideOf(wire, container));
    this.#byId.set(id, wire);
    log.info('a wire was made', { target: wire.target, on: place.name, ifname: wire.ifname });
    return wire;
  }

  /** Makes the bridge, or the NIC a port of one. */
  async #prepare(place: Place): Promise<void> {
    if (this.#places.has(place.name)) return;
    // Written down first: what is made must be known for weft's after a crash.
    this.options.state.savePlace(place);
    this.#places.set(place.name, place);
    const [failure] = await this.options.reconciler.set(
      new Map([[`${PLACE}${place.name}`, compilePlace(place)]]),
    );
    if (failure !== undefined) {
      throw failedPrecondition(
        `pipework: ${place.name} cannot be prepared: ${failure.message}`,
        'Nothing was left behind; see `weft status` for what else is wrong on this host.',
      );
    }
  }

  async #release(place: Place): Promise<void> {
    this.options.state.deletePlace(place.name);
    this.#places.delete(place.name);
    // Not `set`, which takes nothing away before etcd's first list: whose this is, is known here.
    await this.options.reconciler.detach(`${PLACE}${place.name}`);
  }

  /** The last wire on something takes back what was prepared for it. @throws WeftError NOT_FOUND */
  async detach(request: WireDetach): Promise<Wire> {
    return this.#locks.run('wires', async () => {
      const wire = await this.#find(request);
      await this.#remove(wire);
      if (!this.list().some(({ place }) => place.name === wire.place.name)) await this.#release(wire.place);
      return wire;
    });
  }

  /** By the guest's words, or by its namespace. */
  async #find({ host, guest, ifname }: WireDetach): Promise<Wire> {
    const there = this.list().filter((wire) => wire.place.name === host && wire.ifname === ifname);
    const forms = canonicalForms(guest);
    const named = there.find(({ target }) => forms.includes(target));
    if (named !== undefined) return named;
    const { path } = await resolveTarget(guest, this.options.docker);
    const sandbox = this.options.kernel.identify(path);
    const found = there.find((wire) => sandbox !== undefined && sameSandbox(wire.sandbox, sandbox));
    if (found !== undefined) return found;
    throw notFound(
      `pipework: ${guest} has no interface ${ifname} on ${host} that \`weft pipework\` made`,
      'Name the interface with -i, as when it was made.',
    );
  }

  /** A container went by itself. What was prepared stays for the next one: people give such bridges addresses. */
  vanished(record: string): void {
    const wire = this.#byId.get(record.slice(WIRE.length));
    if (wire === undefined) return;
    void this.#locks.run('wires', async () => {
      if (!this.#byId.has(wire.id)) return;
      await attempt(
        this.options,
        endOf(wire),
        () => this.#remove(wire),
        'It is tried again every 10 seconds.',
      );
      if (!this.#byId.has(wire.id))
        this.options.log.info('a container is gone: its wire is removed', { target: wire.target });
    });
  }

  /** @throws WeftError where the state directory refuses; then it is there as before */
  async #remove(wire: Wire): Promise<void> {
    this.options.state.delete(wire.id);
    this.#byId.delete(wire.id);
    this.options.problems.clear(endOf(wire));
    await this.options.reconciler.detach(recordOf(wire)).catch((error: unknown) => {
      // In no record any more, it goes with the next comparison.
      this.options.log.warn('a removed wire is not gone yet', {
        target: wire.target,
        error: messageOf(error),
      });
    });
  }
}

/** @throws WeftError ALREADY_EXISTS with the difference */
function same(request: WireRequest, there: Wire): Wire {
  const different = differences(
    { ...request, do: 'attach', host: { name: request.host } },
    request.host,
    there,
  );
  if (different.length === 0) return there;
  throw alreadyExists(
    `pipework: ${there.target} has an interface ${there.ifname} on ${there.place.name} already: ${different.join('; ')}`,
    `To change it: weft pipework --detach ${there.place.name} -i ${there.ifname} ${there.target}, then call again.`,
  );
}

/** @throws WeftError FAILED_PRECONDITION where the default route is a network's of weft's, which would put it back */
function checkDefaultRoute(
  { gateway }: WireRequest,
  target: Target,
  objects: ReadonlyMap<string, { owned: boolean }>,
): void {
  if (gateway === undefined) return;
  const current = objects.get(gateway.includes(':') ? 'route ::/0' : 'route 0.0.0.0/0');
  if (current?.owned !== true) return;
  throw failedPrecondition(
    `pipework: the default route of ${target.canonical} leads through a network of weft's`,
    'Leave out @GATEWAY, or attach it to that network with --no-default-route.',
  );
}
