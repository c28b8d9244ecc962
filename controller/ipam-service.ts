// IpamService: findings about addresses, and their release after two looks that agree.
import { failedPrecondition, messageOf, notFound, unavailable } from '../core/errors.js';
import { unary } from '../daemon/grpc.js';
import type { LocalEndpoint } from '../proto/gen/weft/v1/inspection.js';
import type { IpamFinding, IpamServiceServer } from '../proto/gen/weft/v1/ipam.js';
import type { Store } from '../store/store.js';
import { timestamp, type Clock } from './clock.js';
import { findingsOf, type Finding, type Release } from './ipam-findings.js';
import type { LeaseTimes } from './lease-times.js';
import type { Registry } from './registry.js';
import type { Sessions } from './sessions.js';
import { waitForSync } from './wait-for-sync.js';

/** Between two looks that agree: longer than anything that is only under way takes. */
const APART_MS = 120_000;
/** How long a node may take. */
const ASK_MS = 5000;

export interface IpamOptions {
  store: Store;
  sessions: Pick<Sessions, 'has' | 'query' | 'request'>;
  registry: Pick<Registry, 'names' | 'isUp'>;
  leaseTimes: LeaseTimes;
  clock: Clock;
}

interface Look {
  findings: Finding[];
  notes: string[];
}

export function ipamService(options: IpamOptions): IpamServiceServer {
  const { store, clock } = options;
  /** By id: when the first of the looks in a row that found it was. */
  const since = new Map<string, number>();

  const look = async (signal: AbortSignal): Promise<Look> => {
    await waitForSync(store);
    if (!store.state.connected)
      throw unavailable('etcd is not reached, so nothing is known for sure', 'Try again when it is back.');
    const found = await lookOnce(options, signal);
    const ids = new Set(found.findings.map(({ id }) => id));
    for (const id of since.keys()) if (!ids.has(id)) since.delete(id);
    for (const id of ids) if (!since.has(id)) since.set(id, clock.now());
    return found;
  };

  const messageOf = ({ release, ...finding }: Finding): IpamFinding => {
    const first = since.get(finding.id) ?? clock.now();
    const safeFrom = release === undefined ? undefined : first + APART_MS;
    return {
      ...finding,
      safe: safeFrom !== undefined && clock.now() >= safeFrom,
      safeFrom: safeFrom === undefined ? undefined : timestamp(safeFrom),
      since: timestamp(first),
    };
  };

  return {
    checkIpam: unary(async (_request, { signal }) => {
      const { findings, notes } = await look(signal);
      return { findings: findings.map(messageOf), notes };
    }),

    releaseAddresses: unary(async ({ ids }, { signal }) => {
      const { findings } = await look(signal);
      const chosen = ids.map((id): { message: IpamFinding; release: Release } => {
        const finding = findings.find((one) => one.id === id);
        if (finding === undefined) throw notFound(`${id}: there is no such finding`, 'See weft ipam check.');
        const message = messageOf(finding);
        if (finding.release === undefined)
          throw failedPrecondition(`${id}: cannot be released: ${finding.why}`, 'See weft ipam check.');
        if (!message.safe)
          throw failedPrecondition(
            `${id}: was seen first at ${message.since}, and may be only under way`,
            `Release it after ${message.safeFrom}.`,
          );
        return { message, release: finding.release };
      });
      for (const { release } of chosen) await carryOut(release, options, signal);
      return { released: chosen.map(({ message }) => message) };
    }),
  };
}

async function lookOnce(options: IpamOptions, signal: AbortSignal): Promise<Look> {
  const { store, leaseTimes, clock } = options;
  const { local, notes } = await askNodes(options, signal);
  const leases = [...store.view.leases.values()].flatMap((found) => [...found.values()]);
  await leaseTimes.refresh(leases);
  const findings = findingsOf({
    view: store.view,
    local,
    ends: (lease) => {
      const at = lease.reservation ? undefined : leaseTimes.expiry(lease);
      return at === undefined ? undefined : Date.parse(at);
    },
    now: clock.now(),
  });
  return { findings, notes };
}

async function askNodes(
  { registry, sessions }: IpamOptions,
  signal: AbortSignal,
): Promise<{ local: Map<string, LocalEndpoint[]>; notes: string[] }> {
  const local = new Map<string, LocalEndpoint[]>();
  const notes: string[] = [];
  await Promise.all(
    registry.names().map(async (node) => {
      if (!registry.isUp(node)) return void notes.push(`node ${node} is down: its containers are not known`);
      const found: LocalEndpoint[] = [];
      const soon = AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]);
      try {
        const query = { node, query: { $case: 'ipam', value: {} } } as const;
        await sessions.query(
          node,
          query,
          ({ answer }) => {
            if (answer?.$case === 'endpoint') found.push(answer.value);
            return Promise.resolve();
          },
          soon,
        );
        local.set(node, found);
      } catch (error) {
        notes.push(`its containers are not known: ${messageOf(error)}`);
      }
    }),
  );
  return { local, notes: notes.toSorted() };
}

async function carryOut(
  release: Release,
  { store, sessions }: IpamOptions,
  signal: AbortSignal,
): Promise<void> {
  switch (release.do) {
    case 'delete-endpoint':
      return await store.deleteEndpoint(release.network, release.id);
    case 'delete-claim':
      return await store.deleteClaim(release.network, release.ip, release.endpoint);
    case 'release-lease':
      return await store.releaseLease(release.lease);
    case 'detach': {
      const { node, network, target } = release;
      await sessions.request(node, { $case: 'detach', value: { network, target } }, signal);
    }
  }
}
