// TraceService: follows a packet, by the agents at both ends.
import { randomInt } from 'node:crypto';

import { IpAddress } from '../../core/address.js';
import { failedPrecondition, invalidArgument, messageOf, unavailable } from '../../core/errors.js';
import { bareIn } from '../../core/families.js';
import { areRouted } from '../../core/network.js';
import { judge as judgePolicies } from '../../core/policy/index.js';
import { addressesOf, type Endpoint } from '../../core/records.js';
import { unary } from '../../daemon/grpc.js';
import {
  Probe,
  type Hop as HopMessage,
  type ProbeReply,
  type ProbeView,
  type TraceRequest,
  type TraceResult,
  type TraceServiceServer,
} from '../../proto/gen/weft/v1/trace.js';
import type { Store } from '../../store/store.js';
import type { Sessions } from '../sessions.js';
import { PolicyWords } from '../policy-words.js';
import { waitForSync } from '../wait-for-sync.js';
import { destinationOf, endOf, ownerOf, whole, type TraceEnd } from './ends.js';
import type { BlindEnd, Hop, NodeView } from './hops.js';
import { judge, type Evidence, type Verdict } from './judge.js';
import type { RecordFacts } from './reasons.js';

/** Bytes of what ping sends, of IPv4 and of IPv6; a connection begins without data. */
const USUAL_SIZE = { icmp: { 4: 84, 6: 104 }, udp: { 4: 84, 6: 104 }, tcp: { 4: 40, 6: 60 } } as const;
const SMALLEST = 64;
const LARGEST = 65_535;
/** How long the agent that sends may take for a step, in milliseconds. */
const STEP_MS = 5000;
/** And the other one, without which the trace goes on. */
const FAR_MS = 1000;

interface Options {
  store: Store;
  sessions: Pick<Sessions, 'has' | 'probe'>;
}

type Protocol = Evidence['protocol'];

interface Asked {
  from: TraceEnd & { node: string };
  to: TraceEnd;
  destination: string;
  family: 4 | 6;
  protocol: Protocol;
  port: number;
  size: number;
}

export const traceService = (options: Options): TraceServiceServer => ({
  trace: unary(async (request, { signal }) => {
    await waitForSync(options.store);
    const asked = parse(options, request);
    const usual = USUAL_SIZE[asked.protocol][asked.family];
    // At once, and not after it: where a large packet is lost, a small one says whether it is its size.
    const [first, small] = await Promise.all([
      run(options, asked, signal),
      asked.size <= usual ? undefined : run(options, { ...asked, size: usual }, signal),
    ]);
    const isItsSize = first.verdict.isLost && small?.verdict.verdict === 'reached';
    return resultOf(asked, isItsSize ? tooLarge(first, asked.size, usual) : first);
  }),
});

interface Run {
  source: string;
  verdict: Verdict;
}

function tooLarge(run: Run, size: number, usual: number): Run {
  const { verdict } = run;
  const between = verdict.reason?.replace(/^.* is lost /, '') ?? '';
  return {
    ...run,
    verdict: {
      ...verdict,
      reason: `packets of ${size} bytes are lost ${between}, and those of ${usual} bytes pass`,
      why: 'the path between the nodes carries less than their links say, and tells nobody',
      fix: 'Mend the path, or give the network a smaller MTU: weft network create --mtu. `weft status` names the size that passes.',
    },
  };
}

/** @throws WeftError INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION */
function parse({ store, sessions }: Options, request: TraceRequest): Asked {
  const { view } = store;
  const protocol = protocolOf(request.protocol);
  const { port } = request;
  if (protocol !== 'icmp' && (port < 1 || port > 65_535))
    throw invalidArgument(`port: ${port} is none`, 'Give a port from 1 to 65535.');
  const from = whole(endOf(view, request.from, request.fromHere), view);
  const own = from.address === undefined ? from : ownerOf(view, from, from, protocol, 0);
  const named = whole(endOf(view, request.to, request.toHere), view);
  const to = ownerOf(view, named, own, protocol, port);
  const { node } = own;
  if (node === undefined)
    throw failedPrecondition(
      `${own.name}: a trace begins at a container or a node of weft, and ${own.foreign ?? 'this is none'}`,
      'Name one as the first end.',
    );
  if (own.node === to.node && own.endpoints[0]?.target === to.endpoints[0]?.target)
    throw invalidArgument('trace: both ends are the same', 'Name two different ends.');
  if (!sessions.has(node))
    throw unavailable(
      `node ${node}: its agent has no session with this controller`,
      'Start the agent with --controller and this address.',
    );
  const destination = destinationOf(own, to);
  const { family } = IpAddress.parse(destination);
  const size = request.size === 0 ? USUAL_SIZE[protocol][family] : request.size;
  if (request.size !== 0 && (size < SMALLEST || size > LARGEST))
    throw invalidArgument(`size: ${size} bytes`, `Give ${SMALLEST} to ${LARGEST} bytes, with the IP header.`);
  return { from: { ...own, node }, to, destination, family, protocol, port, size };
}

function protocolOf(text: string): Protocol {
  if (text === '' || text === 'icmp') return 'icmp';
  if (text === 'tcp' || text === 'udp') return text;
  throw invalidArgument(`protocol: "${text}" is not known`, 'It is icmp, tcp or udp.');
}

async function run({ store, sessions }: Options, asked: Asked, signal: AbortSignal): Promise<Run> {
  const { from, to, destination, protocol, port, size } = asked;
  const isOneNode = to.node === from.node;
  const ask = (node: string, probe: Partial<Probe>): Promise<ProbeReply> =>
    sessions.probe(
      node,
      { ...Probe.fromPartial({}), tag, ...probe },
      AbortSignal.any([signal, AbortSignal.timeout(node === from.node ? STEP_MS : FAR_MS)]),
    );
  // Neither it nor the next number is 0.
  const tag = randomInt(1, 0xffff_fffe);
  const base = { step: 'watch', protocol, port, size, destination };
  const end = ({ endpoints, port: its }: TraceEnd): Probe['to'] => ({
    endpoints: endpoints.map(({ id }) => id),
    port: its ?? port,
  });
  const begun = await ask(from.node, { ...base, from: end(from), to: isOneNode ? end(to) : undefined });
  const { source } = begun;
  const far = isOneNode ? undefined : await watchFar();
  const { refused } = await ask(from.node, { step: 'send' });
  const views = await Promise.all([
    collect(from.node),
    far === undefined || 'text' in far
      ? undefined
      : collect(far.node).catch((error: unknown) => blind(messageOf(error))),
  ]);
  const [near, seen] = views;
  const other = far !== undefined && 'text' in far ? far : seen;
  const evidence: Evidence = {
    ...{ family: asked.family, protocol, port, size, refused },
    names: { from: from.name, to: to.name },
    near,
    ...(other !== undefined && { far: other }),
    facts: {
      ...factsOf(store, from.endpoints, to.endpoints, destination),
      ...deniedBy(store, asked, source),
    },
  };
  return { source, verdict: judge(evidence) };

  async function watchFar(): Promise<{ node: string } | BlindEnd> {
    const { node } = to;
    if (node === undefined) return blind(to.foreign ?? 'no node of weft has it');
    if (!sessions.has(node)) return blind(`the agent of node ${node} has no session with this controller`);
    try {
      await ask(node, { ...base, source, to: end(to) });
      return { node };
    } catch (error) {
      return blind(`the agent of node ${node} does not look on: ${messageOf(error)}`);
    }
  }

  function blind(detail: string): BlindEnd {
    return { ...(to.node !== undefined && { node: to.node }), text: to.name, detail };
  }

  async function collect(node: string): Promise<NodeView> {
    const { view } = await ask(node, { step: 'collect' });
    return { node, view: view ?? NO_VIEW };
  }
}

const NO_VIEW: ProbeView = { sightings: [], drops: [], from: undefined, to: undefined, blind: [], macs: [] };

/** What the networks of both ends say of each other, where they have none in common. */
function factsOf(
  { view }: Pick<Store, 'view'>,
  from: readonly Endpoint[],
  to: readonly Endpoint[],
  destination: string,
): RecordFacts {
  const networksOf = (endpoints: readonly Endpoint[]) =>
    endpoints.flatMap(({ network }) => view.networks.get(network) ?? []);
  const [own, others] = [networksOf(from), networksOf(to)];
  const [mine] = own;
  if (mine === undefined) return others[0]?.internal === true ? { internal: others[0].name } : {};
  const aimed =
    others.find(({ name }) =>
      to.some((one) => one.network === name && one.ip.startsWith(`${destination}/`)),
    ) ?? others[0];
  if (aimed === undefined) return own.every(({ internal }) => internal) ? { internal: mine.name } : {};
  if (own.some(({ name }) => name === aimed.name) || own.some((one) => areRouted(one, aimed))) return {};
  if (aimed.internal) return { internal: aimed.name };
  return own.every(({ internal }) => internal) ? { internal: mine.name } : { apart: [mine.name, aimed.name] };
}

/** What the policies say of the packet, as it is at the container: behind a published port it has another destination. */
export function deniedBy(
  { view }: Pick<Store, 'view'>,
  { to, destination, family, protocol, port }: Omit<Asked, 'from' | 'size'>,
  source: string,
): Pick<RecordFacts, 'denied'> {
  const isNamed = to.endpoints.some((endpoint) => addressesOf(endpoint).includes(destination));
  const [first] = to.endpoints;
  const target = isNamed || first === undefined ? destination : bareIn(first, family);
  const [from, at] = [IpAddress.tryParse(source), IpAddress.tryParse(target ?? '')];
  if (from === undefined || at === undefined) return {};
  const { verdict, why } = judgePolicies(new PolicyWords(view).world, {
    ...{ from, to: at },
    ...(protocol !== 'icmp' && { protocol, port: to.port ?? port }),
  });
  return verdict === 'denied' ? { denied: why } : {};
}

const hopMessage = ({ node, text, seen, detail }: Hop): HopMessage => ({ node, point: text, seen, detail });

const resultOf = ({ destination, size }: Asked, { source, verdict }: Run): TraceResult => ({
  ...{ verdict: verdict.verdict, node: verdict.node, reason: verdict.reason },
  ...{ why: verdict.why, fix: verdict.fix },
  hops: verdict.hops.map(hopMessage),
  back: verdict.back.map(hopMessage),
  ...{ source, destination, size },
});
