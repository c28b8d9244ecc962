// Traffic and drops of networks over the last hour.
import { useEffect, useMemo, useRef } from 'preact/hooks';
import uPlot from 'uplot';

import { AsOf, clock, Name, scaled } from '../parts.js';
import type { Cluster } from '../state/store.js';
import { curvesOf, type Curve } from '../state/curves.js';

/** The busiest ones have curves; all of them are in the table. */
const MOST_CURVES = 8;

export function Traffic({ cluster }: { cluster: Cluster }) {
  const version = cluster.versions.traffic;
  const curves = useMemo(() => curvesOf(cluster.traffic), [version]);
  const since = cluster.traffic[0]?.at;
  return (
    <>
      <AsOf cluster={cluster} feeds={['traffic']} />
      <h1>Traffic</h1>
      {since === undefined ? (
        <p role="status">The first figures come within half a minute: agents keep no history.</p>
      ) : (
        <p>
          Since <time dateTime={new Date(since).toISOString()}>{clock(since)}</time>
          {curves.some(({ missing }) => missing > 0) && '; some nodes did not answer, see the table'}.
        </p>
      )}
      {curves.length > 0 && <Table curves={curves} />}
      {curves.slice(0, MOST_CURVES).map((curve) => (
        <Plot key={curve.network} curve={curve} />
      ))}
    </>
  );
}

const HEIGHT = 160;

const Table = ({ curves }: { curves: readonly Curve[] }) => (
  <table>
    <thead>
      <tr>
        <th scope="col">Network</th>
        <th scope="col">Sent now</th>
        <th scope="col">At most</th>
        <th scope="col">Drops now</th>
        <th scope="col">Nodes without an answer</th>
      </tr>
    </thead>
    <tbody>
      {curves.map(({ network, bytes, drops, missing }) => (
        <tr key={network}>
          <th scope="row">
            <Name>{network}</Name>
          </th>
          <td class="number">{scaled(bytes.at(-1) ?? 0, 'B')}</td>
          <td class="number">{scaled(Math.max(0, ...bytes), 'B')}</td>
          <td class="number">{scaled(drops.at(-1) ?? 0, '')}</td>
          <td class="number">{missing}</td>
        </tr>
      ))}
    </tbody>
  </table>
);

/** Of the axis of time: one point alone has no width. In seconds. */
const atLeastMinutes = (_plot: uPlot, low: number, high: number): uPlot.Range.MinMax => [
  Math.min(low, high - 300),
  high,
];

/** Nothing is at the bottom of the picture, however little there is. */
const fromZero = (_plot: uPlot, _low: number, high: number): uPlot.Range.MinMax => [
  0,
  Math.max(1, high * 1.1),
];

function Plot({ curve }: { curve: Curve }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const data = (): uPlot.AlignedData => [curve.times, curve.bytes, curve.drops];
  useEffect(() => {
    const box = place.current;
    if (box === null) return;
    const colour = (name: string): string => getComputedStyle(box).getPropertyValue(name);
    const axis = {
      stroke: colour('--text'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { stroke: colour('--line'), width: 1 },
    };
    plot.current = new uPlot(
      {
        width: box.clientWidth,
        height: HEIGHT,
        scales: {
          x: { range: atLeastMinutes },
          y: { range: fromZero },
          drops: { range: fromZero },
        },
        series: [
          {},
          { label: 'bytes/s', stroke: colour('--focus'), width: 2 },
          { label: 'drops/s', stroke: colour('--broken'), dash: [4, 3], scale: 'drops' },
        ],
        axes: [
          { ...axis, space: 80, values: (_plot, all) => all.map((at) => clock(at * 1000)) },
          { ...axis, size: 70, values: (_plot, all) => all.map((it) => scaled(it, 'B')) },
          { ...axis, scale: 'drops', side: 1 },
        ],
      },
      data(),
      box,
    );
    const resized = new ResizeObserver(() =>
      plot.current?.setSize({ width: box.clientWidth, height: HEIGHT }),
    );
    resized.observe(box);
    return () => {
      resized.disconnect();
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData(data()), [curve]);
  return (
    <figure>
      <figcaption>
        <Name>{curve.network}</Name>
      </figcaption>
      <div ref={place} aria-hidden="true" />
    </figure>
  );
}
