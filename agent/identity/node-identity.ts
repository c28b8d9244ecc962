// The node's certificate: got with a token at the first start, renewed without one, and what was learnt with it.
import { setTimeout as delay } from 'node:timers/promises';

import { Backoff } from '../../core/backoff.js';
import { failedPrecondition, messageOf, nextOf, WeftError } from '../../core/errors.js';
import { authorityHashesOf, endsSoon, type CertificateInfo } from '../../daemon/certificate.js';
import { readCluster, saveCluster, type Cluster } from '../../daemon/cluster-file.js';
import type { IdentityFolder } from '../../daemon/identity-folder.js';
import type { Logger } from '../../daemon/log.js';
import { keepRenewed } from '../../daemon/renewal.js';
import type { Tls } from '../../daemon/tls.js';
import type { Membership } from '../../proto/gen/weft/v1/identity.js';
import { NODE, type Problems } from '../health/index.js';

export interface NodeIdentityOptions {
  folder: IdentityFolder;
  node: string;
  controllers: readonly string[];
  log: Logger;
  /** Called with each reason why the token has not given a certificate yet. */
  onWait?: (error: WeftError) => void;
}

const BACKOFF = { firstMs: 500, lastMs: 10_000 } as const;
/** Between looks at how long the certificate still lives. */
const LOOK_MS = 1000;

const EXPIRY = { scope: NODE, kind: 'certificate' } as const;

export class NodeIdentity {
  #current: { tls: Tls; info: CertificateInfo };
  #lastError: string | undefined;
  /** Hashes of the CAs that a controller has named, until a certificate was got for them. */
  #wanted: readonly string[] | undefined;

  private constructor(
    private readonly options: NodeIdentityOptions,
    /** Undefined where the certificate was put there by somebody else. */
    readonly cluster: Cluster | undefined,
  ) {
    this.#current = options.folder.read();
    const { identity } = this.#current.info;
    const isOwn = identity.role === 'node' && identity.node === options.node;
    if (isOwn) return;
    throw failedPrecondition(
      `the certificate in ${options.folder.path} is of ${identity.role === 'node' ? `node ${identity.node}` : `the role ${identity.role}`}, and this is node ${options.node}`,
      `Start the agent with the name that it has, or move that folder away and get a certificate for ${options.node} with a token.`,
    );
  }

  /**
   * The stored identity, or a new one for the token, which is asked for only then: its file may be gone later.
   * @throws WeftError where the token does not give one; the signal's reason
   */
  static async open(
    options: NodeIdentityOptions,
    readToken: () => Promise<string | undefined> | undefined,
    signal: AbortSignal,
  ): Promise<NodeIdentity | undefined> {
    const { folder } = options;
    const isUsable = folder.exists && folder.read().info.to.getTime() > Date.now();
    const token = isUsable ? undefined : await readToken();
    if (token !== undefined) saveCluster(folder, await obtain(options, token, signal));
    return folder.exists ? new NodeIdentity(options, readCluster(folder)) : undefined;
  }

  get tls(): Tls {
    return this.#current.tls;
  }

  get info(): CertificateInfo {
    return this.#current.info;
  }

  /** Gets a new certificate, and these CAs with it, where other ones are trusted. @param hashes of CAs */
  mustTrust(hashes: readonly string[]): void {
    const isTrusted = authorityHashesOf(this.tls.ca).toSorted().join() === hashes.toSorted().join();
    this.#wanted = isTrusted ? undefined : hashes;
  }

  /** Keeps it renewed, and says in status where that fails. Settles when the signal aborts. */
  async follow(problems: Problems, signal: AbortSignal): Promise<void> {
    await Promise.all([
      keepRenewed(
        {
          info: () => this.info,
          renew: async () => await this.#renew(),
          onFailure: this.#onFailure,
        },
        signal,
      ),
      this.#watch(problems, signal),
    ]);
  }

  readonly #onFailure = (error: unknown): void => {
    const next = nextOf(error);
    this.#lastError = `${messageOf(error)}${next === undefined ? '' : `. ${next}`}`;
    this.options.log.debug('the certificate could not be renewed yet', { error: this.#lastError });
  };

  async #renew(): Promise<void> {
    const { folder, controllers, log } = this.options;
    const { renew } = await import('../../daemon/enrolment.js');
    let failure = failedPrecondition('no controller is set', 'Give --controller HOST:PORT.');
    for (const address of controllers) {
      try {
        saveCluster(folder, await renew(address, folder));
        this.#current = folder.read();
        this.#lastError = undefined;
        log.info('renewed the certificate', { serial: this.info.serial, until: this.info.to.toISOString() });
        return;
      } catch (error) {
        if (!(error instanceof WeftError)) throw error;
        failure = error;
      }
    }
    throw failure;
  }

  async #watch(problems: Problems, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const wanted = this.#wanted;
      if (wanted !== undefined)
        await this.#renew().then(() => {
          // Once for each change: where a controller gives others than another names, that would not end.
          if (this.#wanted === wanted) this.#wanted = undefined;
        }, this.#onFailure);
      const { to } = this.info;
      if (endsSoon(this.info)) {
        const over = to.getTime() <= Date.now();
        problems.set(EXPIRY, {
          what: 'the certificate of this node',
          why: `${over ? 'ended' : 'ends'} at ${to.toISOString()}, and was not renewed: ${this.#lastError ?? 'not tried yet'}`,
          fix: over
            ? 'Start the agent with a new token for this node (weft token create --node NAME). Is the clock of this host right?'
            : 'See that the agent reaches its controller (--controller) and that the clock of this host is right.',
        });
      } else problems.clear(EXPIRY);
      await delay(LOOK_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}

/** Asks the controllers in turn until one answers. @throws WeftError that asking again would not change */
async function obtain(options: NodeIdentityOptions, token: string, signal: AbortSignal): Promise<Membership> {
  const { controllers, folder, node, log } = options;
  // Loaded for the first start and for a renewal alone.
  const { enrol } = await import('../../daemon/enrolment.js');
  const backoff = new Backoff(BACKOFF);
  for (;;) {
    for (const address of controllers) {
      try {
        const made = await enrol({ address, token, node, roles: ['node'], folder: () => folder });
        log.info('got the certificate of this node', { controller: address });
        return made;
      } catch (error) {
        const again = error instanceof WeftError && ['UNAVAILABLE', 'DEADLINE_EXCEEDED'].includes(error.code);
        if (!again) throw error;
        options.onWait?.(error);
        log.warn('no certificate yet', { controller: address, error });
      }
    }
    await delay(backoff.next(), undefined, { signal });
  }
}
