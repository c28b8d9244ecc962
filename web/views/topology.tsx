// Networks, nodes and endpoints. Of the edges only the bad ones are drawn.
import { useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';

import { visible } from '../../core/text.js';
import { AsOf, counted, Link, Name, State } from '../parts.js';
import type { Cluster } from '../state/store.js';
import { pictureOf, type Edge, type Placed } from '../state/topology.js';
import { List } from './problems.js';

const [WIDTH, HEIGHT, INSET] = [140, 56, 8];
const MANY = 100;
const MOST_ENDPOINTS = 200;

/** As many as fit; with many nodes the picture is wider than its box, and scrolls. */
function columnsFor(count: number, width: number): number {
  const fitting = Math.max(2, Math.floor(width / WIDTH));
  return count < MANY ? fitting : Math.max(fitting, Math.min(16, Math.ceil(Math.sqrt(count * 0.6))));
}

/** Of what the picture is in, in pixels. */
function useWidth(box: { current: HTMLElement | null }): number {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    if (box.current === null) return;
    const resized = new ResizeObserver(([entry]) => setWidth(entry?.contentRect.width ?? 0));
    setWidth(box.current.clientWidth);
    resized.observe(box.current);
    return () => resized.disconnect();
  }, []);
  return width;
}

export function Topology({ cluster, node: chosen }: { cluster: Cluster; node: string }) {
  const [network, setNetwork] = useState('');
  const box = useRef<HTMLDivElement>(null);
  const boxWidth = useWidth(box);
  const version = cluster.versions.node;
  const picture = useMemo(() => {
    const columns = columnsFor(cluster.nodes.size, boxWidth);
    return pictureOf(cluster, network, { columns, width: WIDTH, height: HEIGHT });
  }, [version, network, boxWidth]);
  return (
    <>
      <AsOf cluster={cluster} feeds={['node', 'network', 'endpoint']} />
      <h1>Topology</h1>
      <fieldset class="networks">
        <legend>Networks</legend>
        {['', ...[...cluster.networks.keys()].sort()].map((name) => (
          <label key={name}>
            <input type="radio" name="network" checked={name === network} onChange={() => setNetwork(name)} />{' '}
            {name === '' ? 'every network' : <Name>{name}</Name>}
            {name !== '' && <small> {cluster.networks.get(name)?.endpoints ?? 0} endpoints</small>}
          </label>
        ))}
      </fieldset>
      <p>
        {counted(picture.nodes.length, 'node')}, each with the number of its endpoints.{' '}
        {counted(picture.edges.length + picture.more, 'pair')} of nodes with broken paths
        {picture.more > 0 && `, ${picture.more} of them not drawn`}.
      </p>
      <div
        ref={box}
        class="scroll"
        tabIndex={0}
        role="group"
        aria-label="Nodes, and broken paths between them"
      >
        <svg width={picture.width} height={picture.height} class="topology">
          {picture.nodes.map((placed) => (
            <Card key={placed.node.name} placed={placed} isChosen={placed.node.name === chosen} />
          ))}
          {picture.edges.map((edge) => (
            <Line key={`${edge.from.node.name} ${edge.to.node.name}`} edge={edge} />
          ))}
        </svg>
      </div>
      {chosen !== '' && <NodeView cluster={cluster} name={chosen} />}
    </>
  );
}

const Card = ({ placed: { node, x, y }, isChosen }: { placed: Placed; isChosen: boolean }) => {
  const { name, state, endpoints, problems } = node;
  const kind = `${state} ${problems.length > 0 ? 'bad' : ''}`;
  return (
    <a href={`#/topology/${encodeURIComponent(name)}`} aria-current={isChosen ? 'true' : undefined}>
      <g transform={`translate(${x + INSET} ${y + INSET})`} class={kind}>
        <rect width={WIDTH - 2 * INSET} height={HEIGHT - 2 * INSET} rx="5" />
        <text x="8" y="17">
          {shortened(visible(name))}
        </text>
        <text x="8" y="32" class="small">
          {state === 'up'
            ? problems.length > 0
              ? `! ${counted(problems.length, 'problem')}`
              : '✓ up'
            : '– down'}
        </text>
        <text x={WIDTH - 2 * INSET - 8} y="32" class="small" text-anchor="end">
          {endpoints}
        </text>
      </g>
    </a>
  );
};

/** Along the gaps between cards, from the side of one to that of the other. */
function Line({ edge: { from, to, networks } }: { edge: Edge }) {
  const [start, end] = [anchor(from), anchor(to)];
  const between = to.y < from.y ? from.y : from.y + HEIGHT;
  const [out, back] = [from.x + WIDTH, to.x + WIDTH];
  return (
    <g>
      <title>{visible(`broken: ${from.node.name}, ${to.node.name} in ${networks.join(', ')}`)}</title>
      <path d={`M${start.x} ${start.y}H${out}V${between}H${back}V${end.y}H${end.x}`} />
      <circle cx={start.x} cy={start.y} r="4" />
      <circle cx={end.x} cy={end.y} r="4" />
    </g>
  );
}

const anchor = ({ x, y }: Placed): { x: number; y: number } => ({ x: x + WIDTH - INSET, y: y + HEIGHT / 2 });

const shortened = (name: string): string => (name.length > 14 ? `${name.slice(0, 13)}…` : name);

function NodeView({ cluster, name }: { cluster: Cluster; name: string }) {
  const node = cluster.nodes.get(name);
  const version = cluster.versions.endpoint;
  const endpoints = useMemo(
    () =>
      [...cluster.endpoints.values()]
        .filter((it) => it.node === name)
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    [version, name],
  );
  if (node === undefined)
    return (
      <p role="status">
        There is no node <Name>{name}</Name>.
      </p>
    );
  return (
    <section aria-label={`Node ${visible(name)}`}>
      <h2>
        <Name>{name}</Name> <State is={node.state} />
      </h2>
      <p>
        {visible([node.publicIp, node.publicIp6, `weft ${node.version}`].filter(Boolean).join(', '))}; in{' '}
        {node.networks.length === 0 ? 'no network' : visible(node.networks.join(', '))}
        {node.why !== undefined && `; ${visible(node.why)}`}
      </p>
      <List problems={node.problems} />
      <table>
        <caption>{counted(endpoints.length, 'endpoint')}</caption>
        <tbody>
          {endpoints.slice(0, MOST_ENDPOINTS).map(({ id, name, network, ip, ip6 }) => (
            <tr key={id}>
              <td>
                <Link to={['endpoint', id]}>{`${name}.${network}`}</Link>
              </td>
              <td>{visible(ip || (ip6 ?? ''))}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {endpoints.length > MOST_ENDPOINTS && (
        <p>and {endpoints.length - MOST_ENDPOINTS} more: search for them.</p>
      )}
    </section>
  );
}
