// Announcements: addresses that another link answers for once steps are applied.
//
// Each is made twice: the bridge forwards for a new port only some milliseconds after its link is up, and a frame may be lost.
import { addressBits, parseInterface } from '../../core/address.js';
import type { KernelObject } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import type { Logger } from '../../daemon/log.js';
import { messageOf } from '../../core/errors.js';
import type { Announcement } from '../kernel/index.js';

/** Milliseconds after the change. */
const AFTER_MS = [20, 300] as const;

/** One for all: thousands of peers make no announcement. */
const NOTHING: Announcement[] = [];

/** Of objects of a container: its addresses. */
export const addressesIn = (objects: readonly KernelObject[]): Announcement[] =>
  objects.flatMap((object) =>
    object.kind === 'address' ? [{ link: object.link, ip: bare(object.address) }] : [],
  );

/**
 * Of steps on the node: its own new addresses, and those that it answers for from now on.
 * @param all what the node is to have
 */
export const announcedBy = (steps: readonly Step[], all: () => Iterable<KernelObject>): Announcement[] =>
  steps.flatMap((step) => {
    // With another MAC address a bridge asks for its neighbours, who remember that one then.
    if (step.do === 'change-link')
      return addressesIn([...all()]).filter(({ link }) => link === step.link.name);
    if (step.do === 'put' && step.object.kind === 'proxy')
      return [{ link: step.object.link, ip: step.object.ip }];
    if (step.do === 'put') return step.object.kind === 'address' ? addressesIn([step.object]) : NOTHING;
    // An address that was on this link is elsewhere: its neighbours reach it by the gateway again.
    return step.do === 'delete' && isOnLinkAddress(step.object)
      ? [{ link: step.object.link, ip: bare(step.object.to) }]
      : NOTHING;
  });

function isOnLinkAddress(object: KernelObject): object is Extract<KernelObject, { kind: 'route' }> {
  if (object.kind !== 'route' || object.via !== undefined) return false;
  const { address, length } = parseInterface(object.to);
  return length === addressBits(address.family);
}

const bare = (text: string): string => parseInterface(text).address.toString();

export class Announcer {
  #stopped = false;

  constructor(private readonly log: Pick<Logger, 'debug'>) {}

  /** @param announce called after each delay; an error is not reported to people, who cannot do anything about it */
  repeat(announce: () => Promise<void> | void): void {
    for (const ms of AFTER_MS) setTimeout(() => void this.#once(announce), ms).unref();
  }

  async #once(announce: () => Promise<void> | void): Promise<void> {
    if (this.#stopped) return;
    try {
      await announce();
    } catch (error) {
      this.log.debug('an address could not be announced', { error: messageOf(error) });
    }
  }

  stop(): void {
    this.#stopped = true;
  }
}
