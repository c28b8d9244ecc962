// How a controller serves: plain text, certificates that were brought, or its own certificate authority.
//
// A new cluster gets an authority. One that has nodes without certificates stays in plain text until `weft ca init`, which
// serves both until every node has a certificate.
import { createSocket } from 'node:dgram';
import { isIP } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { failedPrecondition, messageOf } from '../core/errors.js';
import type { Problem } from '../core/problem.js';
import type { Caller } from '../daemon/caller.js';
import { certificateInfo, endsSoon, type CertificateInfo } from '../daemon/certificate.js';
import type { GrpcFront } from '../daemon/grpc-front.js';
import type { Logger } from '../daemon/log.js';
import { plainTextWarnings } from '../daemon/plain-text.js';
import { keepRenewed } from '../daemon/renewal.js';
import type { ClientTls, Tls } from '../daemon/tls.js';
import type { CertificateRecord } from '../store/credentials.js';
import type { ControllerStore } from '../store/etcd-store.js';
import type { EtcdUser } from '../store/etcd-users.js';
import { BroughtCertificate } from './brought-certificate.js';
import { Authority, hasAuthority, SUPERUSER, type AuthorityOptions, type Subject } from './ca/authority.js';
import type { EmbeddedEtcd, EtcdServing } from './embedded-etcd.js';
import { nodesWithoutCertificate } from './identity-service.js';
import { NetworkRights } from './network-rights.js';
import {
  keepRootIdentity,
  renewRootIdentity,
  rootFolder,
  type RootIdentityOptions,
} from './root-identity.js';
import { holdersOfFormer, rotationWarnings } from './rotation.js';
import { etcdListenOf, isAuthority, isOlder, type ControllerSettings } from './settings.js';

/** While plain text is served beside TLS: between looks for nodes without a certificate. */
const LOOK_MS = 1000;
/** How long the store may take to connect again to an etcd that was started again. */
const CONNECTED_MS = 10_000;
/** How many names a problem lists. */
const NAMED = 10;

export class Security {
  authority: Authority | undefined;
  readonly #brought: BroughtCertificate | undefined;
  #front: GrpcFront | undefined;
  #etcd: EmbeddedEtcd | undefined;
  /** Serial numbers of certificates without a role. */
  readonly #unrestricted = new Set<string>();
  /** Where weft decides who may write what in etcd. */
  #rights: NetworkRights | undefined;
  #renewals = new AbortController();
  #onAuthorities: () => void = () => undefined;

  private constructor(
    private readonly settings: ControllerSettings,
    private readonly options: AuthorityOptions,
    private readonly log: Logger,
  ) {
    this.#brought = BroughtCertificate.of(settings);
  }

  /** Opens the authority where it is certain that this controller is one: a new cluster with an etcd of somebody else's is not yet. */
  static async open(settings: ControllerSettings, ips: readonly string[], log: Logger): Promise<Security> {
    const { stateDir, certificateTtl } = settings;
    const options = { stateDir, lifeMs: certificateTtl.ms, ips };
    const security = new Security(settings, options, log);
    const isNew = settings.etcd === undefined && !isOlder(settings);
    if (isAuthority(settings) && (hasAuthority(stateDir) || isNew)) await security.#become();
    if (security.authority !== undefined && settings.etcdListen?.startsWith('http:') === true)
      log.warn('this cluster has certificates: its etcd serves TLS, although the settings say http', {
        next: 'Write https in --etcd-listen.',
      });
    return security;
  }

  /** Of the gRPC server; undefined: plain text. */
  get tls(): Tls | undefined {
    return this.#brought?.tls ?? this.authority?.tls();
  }

  get plain(): boolean {
    return this.tls === undefined || this.authority?.servesPlainText === true;
  }

  /** The authority's certificate ends every connection that a token holder may begin, so none is required for it. */
  get requireCertificate(): boolean {
    return this.#brought !== undefined;
  }

  /** How the embedded etcd serves. */
  etcdServing(): EtcdServing {
    const { etcdCa, etcdCert, etcdKey } = this.settings;
    const listen = etcdListenOf(this.settings);
    if (this.authority === undefined || etcdCa !== undefined)
      return { listen, tls: { etcdCa, etcdCert, etcdKey } };
    const { ca, cert, key } = this.authority.own.paths;
    return {
      listen: listen.replace('http:', 'https:'),
      tls: { etcdCa: ca, etcdCert: cert, etcdKey: key },
      plainToo: this.authority.servesPlainText,
      peerName: SUPERUSER,
    };
  }

  /** Of this controller as a client of the embedded etcd, where the user names no certificates. */
  readonly etcdTls = (): ClientTls | undefined => this.authority?.own.read().tls;

  /** With an etcd of the user's: an authority where no node is there yet. @throws the signal's reason */
  async settle(store: ControllerStore, signal: AbortSignal): Promise<void> {
    if (!isAuthority(this.settings) || this.authority !== undefined) return;
    await store.synced(signal);
    if (store.view.nodes.size === 0 && this.settings.etcd !== undefined) return await this.#become();
    this.log.warn('nodes without certificates are in this cluster: it stays in plain text', {
      next: 'Move it to TLS with weft ca init.',
    });
  }

  serve(front: GrpcFront, etcd: EmbeddedEtcd | undefined): void {
    this.#front = front;
    this.#etcd = etcd;
  }

  /** Whether weft decides who may write what in etcd. */
  get #hasUsers(): boolean {
    return this.#etcd !== undefined && this.authority !== undefined && this.settings.etcdCa === undefined;
  }

  /** A node's certificate that etcd has forgotten with its past is recorded again, and the node's user made. */
  recall({ identity, serial, until }: Caller, store: ControllerStore): void {
    const { authority, log } = this;
    if (authority === undefined || identity.role !== 'node' || serial === undefined || until === undefined)
      return;
    if (store.credentials.isKnown(serial)) return;
    const { node: name } = identity;
    const record = { serial, role: 'node', name, expires: new Date(until) } as const;
    // Which of two CAs signed it is forgotten: the former one is trusted until it is certain that nobody needs it.
    void store.credentials
      .addCertificate({ ...record, authority: authority.former ?? authority.hash })
      .then(() => this.admit({ role: 'node', name }, store))
      .then(
        () => log.warn('a certificate that etcd had forgotten was recorded again', { node: name, serial }),
        (error: unknown) =>
          log.warn('a certificate that etcd has forgotten could not be recorded', {
            ...{ node: name, serial },
            error: messageOf(error),
          }),
      );
  }

  /** Turns the users of the embedded etcd on, where nobody uses it in plain text any more. @throws the signal's reason */
  async enableUsers(store: ControllerStore, signal: AbortSignal): Promise<void> {
    if (!this.#hasUsers || this.authority === undefined || this.authority.servesPlainText) return;
    await store.synced(signal);
    this.#rights ??= new NetworkRights(store, this.log);
    store.sealRemovals(this.authority.sealingKey());
    while (!signal.aborted) {
      try {
        await store.users.ensure(store.credentials.certificates().flatMap(userOf));
        await this.#rights?.settle();
        return await store.users.enable();
      } catch (error) {
        this.log.warn('the users of etcd could not be made yet', { error: messageOf(error) });
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS).unref());
      }
    }
  }

  /** Makes what a certificate's holder needs in etcd. */
  async admit(subject: Subject, store: ControllerStore): Promise<void> {
    if (!this.#hasUsers) return;
    if (subject.role === 'node') await store.users.ensure([{ kind: 'node', name: subject.name }]);
    if (subject.role === 'flannel') await store.users.ensure([{ kind: 'flannel', network: subject.name }]);
  }

  /** `weft ca init`. @throws WeftError FAILED_PRECONDITION */
  async init(store: ControllerStore, signal: AbortSignal): Promise<Authority> {
    if (this.authority !== undefined) return this.authority;
    if (!isAuthority(this.settings))
      throw failedPrecondition(
        `this controller runs with ${this.settings.insecure ? '--insecure' : 'certificates that were brought (--tls-*)'}`,
        'Start it without them first.',
      );
    const authority = await Authority.open(this.options);
    authority.servesPlainText = true;
    this.authority = authority;
    this.#front?.replace(authority.tls());
    // Before etcd is started again: root's next command needs it. Where it cannot be written, follow() says so.
    await renewRootIdentity(this.#root(store, authority)).catch(() => undefined);
    // Root's next command finds an etcd that serves.
    await this.#apply(store, signal);
    void this.closePlainText(store, signal).catch(() => undefined);
    void this.follow(store, signal);
    return authority;
  }

  /** Ends plain text as soon as every node has a certificate. */
  async closePlainText(store: ControllerStore, signal: AbortSignal): Promise<void> {
    const { authority } = this;
    if (authority?.servesPlainText !== true) return;
    await store.synced(signal);
    while (nodesWithoutCertificate(store).length > 0) {
      if (signal.aborted) return;
      await delay(LOOK_MS, undefined, { signal, ref: false });
    }
    authority.servesPlainText = false;
    this.#front?.servePlain(false);
    await this.#apply(store, signal);
    await this.enableUsers(store, signal);
    this.log.info('every node has a certificate: plain text is not served any more');
  }

  /** `weft ca rotate`. @throws WeftError FAILED_PRECONDITION */
  async rotate(store: ControllerStore, signal: AbortSignal): Promise<void> {
    const { authority } = this;
    if (authority?.servesPlainText === true)
      throw failedPrecondition(
        'the cluster serves plain text beside TLS still',
        'See weft ca show: which nodes have no certificate yet.',
      );
    if (authority === undefined || authority.former !== undefined) return;
    await authority.replace();
    this.log.info('a new certificate authority replaces the former one', {
      authority: authority.hash,
      former: authority.former,
    });
    this.#changed();
    void this.dropFormer(store, signal).catch(() => undefined);
  }

  /** Ends the trust in a CA that was replaced, as soon as nobody needs it. @throws the signal's reason */
  async dropFormer(store: ControllerStore, signal: AbortSignal): Promise<void> {
    const { authority, log } = this;
    if (authority?.former === undefined) return;
    const { former } = authority;
    await store.synced(signal);
    while (holdersOfFormer(store, authority).length > 0)
      await delay(LOOK_MS, undefined, { signal, ref: false });
    await authority.dropFormer();
    rootFolder(this.settings.adminDir, former).remove();
    this.#changed();
    // What the former CA let in.
    this.#front?.disconnectTls();
    await this.#apply(store, signal);
    log.info('the former certificate authority is not trusted any more', { former });
  }

  /** Hashes of the CAs that members of the cluster must trust: by this authority, or by another controller's. */
  authorities({ credentials }: ControllerStore): readonly string[] {
    return this.authority?.hashes ?? (this.#brought === undefined ? [] : credentials.authorities());
  }

  /** Called when members must trust other CAs than before. */
  onAuthorities(listener: () => void): void {
    this.#onAuthorities = listener;
  }

  #changed(): void {
    this.#front?.replace(this.authority?.tls());
    this.#renewals.abort();
    this.#onAuthorities();
  }

  /** Keeps the controller's own certificates renewed. Settles when the signal aborts. */
  async follow(store: ControllerStore, signal: AbortSignal): Promise<void> {
    await this.#brought?.follow(
      {
        authorities: () => store.credentials.authorities(),
        replace: () => this.#front?.replace(this.tls),
        log: this.log,
      },
      signal,
    );
    while (this.authority !== undefined && !signal.aborted) {
      this.#renewals = new AbortController();
      await this.#renew(store, this.authority, AbortSignal.any([signal, this.#renewals.signal]));
    }
  }

  #root({ credentials }: ControllerStore, authority: Authority): RootIdentityOptions {
    return { authority, adminDir: this.settings.adminDir, credentials, log: this.log };
  }

  /** For the nodes of other controllers. */
  async #nameAuthorities(
    { credentials }: ControllerStore,
    { hashes }: Authority,
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted && credentials.authorities().join() !== hashes.join()) {
      await credentials
        .setAuthorities(hashes)
        .catch(() => delay(LOOK_MS, undefined, { signal, ref: false }).catch(() => undefined));
    }
  }

  /** Until the signal aborts, or the CA is another one. */
  async #renew(store: ControllerStore, authority: Authority, signal: AbortSignal): Promise<void> {
    const { log } = this;
    const onFailure = (error: unknown): void =>
      log.warn('a certificate of the controller could not be renewed', { error: messageOf(error) });
    const own = {
      info: () => authority.own.read().info,
      renew: async () => {
        await authority.renewOwn();
        this.#front?.replace(authority.tls());
      },
      onFailure,
    };
    await Promise.all([
      keepRenewed(own, signal),
      this.#nameAuthorities(store, authority, signal),
      keepRootIdentity({ ...this.#root(store, authority), onFailure }, signal),
    ]);
  }

  /** Refuses a node's certificates. Returns whether it had any, and what is left for a person to do. */
  async expel(
    node: string,
    { credentials, users }: ControllerStore,
  ): Promise<{ had: boolean; note?: string }> {
    const had = (await credentials.refuse(node)).length > 0;
    if (this.#hasUsers) await users.delete({ kind: 'node', name: node });
    if (!had || this.settings.etcd === undefined) return { had };
    const note = `etcd is not weft's own: if node ${node} has a user or a certificate of it, take them away there.`;
    return { had, note };
  }

  /** Problems of the cluster's certificates. */
  problems(store: ControllerStore): Problem[] {
    if (this.#brought !== undefined) return this.#ownCertificate();
    if (this.settings.insecure || !store.isSynced) return [];
    const without = nodesWithoutCertificate(store);
    const names = without.slice(0, NAMED).join(', ');
    const more = without.length > NAMED ? ` and ${without.length - NAMED} more` : '';
    if (this.authority === undefined)
      return [
        {
          what: 'the cluster',
          why: `is plain text: ${without.length === 0 ? 'its etcd was made so' : `it has nodes without certificates (${names}${more})`}`,
          fix: 'Move it to TLS with weft ca init, on this host; or say that it is meant to be with --insecure.',
        },
      ];
    if (!this.authority.servesPlainText) return this.#ownCertificate();
    return [
      {
        what: 'the cluster',
        why: `serves plain text beside TLS, until every node has a certificate; without: ${names}${more}`,
        fix: 'For each of them: weft token create --node NAME, then start its agent with --token and without --insecure.',
      },
    ];
  }

  warnings(store: ControllerStore): Problem[] {
    const { etcd, insecure } = this.settings;
    const seen = [...this.#unrestricted];
    return [
      ...plainTextWarnings({ etcd: etcd ?? [], insecure: insecure && this.#brought === undefined }),
      ...rotationWarnings(store, this.authority),
      ...(seen.length === 0
        ? []
        : [
            {
              what: 'certificates without a role',
              why: `they may do everything; used since this controller started: ${seen.slice(0, NAMED).join(', ')}`,
              fix: 'Put a URI into the subject alternative name: weft://node/NAME, weft://admin, weft://viewer or weft://controller.',
            },
          ]),
    ];
  }

  sawUnrestricted(serial: string): void {
    if (this.#unrestricted.size < NAMED) this.#unrestricted.add(serial);
  }

  #ownCertificate(): Problem[] {
    const info = this.info();
    if (info === undefined || !endsSoon(info)) return [];
    return [
      {
        what: 'the certificate of this controller',
        why: `ends at ${info.to.toISOString()}, and was not renewed`,
        fix:
          this.#brought?.isRenewed === false
            ? 'Put a new one in its place (--tls-cert), and start the controller again; or let it be renewed (--authority).'
            : 'See its log, and whether the clock of this host is right.',
      },
    ];
  }

  /** Of the server, for status and metrics. */
  info(): CertificateInfo | undefined {
    const { tls } = this;
    return tls && certificateInfo(tls.cert);
  }

  async #become(): Promise<void> {
    this.authority = await Authority.open(this.options);
  }

  /** The embedded etcd serves as the gRPC server does. */
  async #apply(store: ControllerStore, signal: AbortSignal): Promise<void> {
    if (this.#etcd === undefined || this.settings.etcdCa !== undefined) return;
    const again = this.#etcd.reconfigure(this.etcdServing());
    store.moveTo([this.#etcd.url]);
    await again;
    const until = performance.now() + CONNECTED_MS;
    while (!store.state.connected && performance.now() < until)
      await delay(50, undefined, { signal, ref: false });
  }
}

/** Whom a certificate makes a user of etcd. */
function userOf({ role, name, refused }: CertificateRecord): EtcdUser[] {
  if (refused || name === undefined) return [];
  if (role === 'node') return [{ kind: 'node', name }];
  return role === 'flannel' ? [{ kind: 'flannel', network: name }] : [];
}

/** The addresses that others are told: those of the settings, that of --listen, or that of the default route. */
export async function advertised({ advertise, listen }: ControllerSettings): Promise<string[]> {
  if (advertise !== undefined) return advertise.map(String);
  if (isIP(listen.host) !== 0 && listen.host !== '0.0.0.0' && listen.host !== '::') return [listen.host];
  // RFC 5737 and RFC 3849: addresses for documentation, which have no routes of their own.
  const routed = (await sourceTo('udp4', '192.0.2.1')) ?? (await sourceTo('udp6', '2001:db8::1'));
  return [routed ?? '127.0.0.1'];
}

/** The address that packets to this one would have; undefined where there is no route. Nothing is sent. */
function sourceTo(type: 'udp4' | 'udp6', ip: string): Promise<string | undefined> {
  const socket = createSocket(type);
  return new Promise<string | undefined>((resolve) => {
    socket.once('error', () => resolve(undefined));
    socket.connect(9, ip, () => resolve(socket.address().address));
  }).finally(() => socket.close());
}

/** HOST:PORT or a URL's host. */
export const hostOf = (ip: string): string => (isIP(ip) === 6 ? `[${ip}]` : ip);
