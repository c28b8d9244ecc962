// The paths of one network: who reaches whom, and how fast.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import type { Failure } from '../../daemon/page/update.js';
import { visible } from '../../core/text.js';
import type { PingPath } from '../../proto/gen/weft/v1/inspection.js';
import { ask } from '../live.js';
import { AsOf, Command, counted, FailureText, Fix, Name, State } from '../parts.js';
import { commandOf } from '../state/commands.js';
import { matrixOf, networksByBroken, stateOf, type PathMatrix } from '../state/paths.js';
import type { Cluster } from '../state/store.js';
import { MatrixCanvas, SLOW_MS, type Cell, type Times } from './matrix.js';

/** Of the list below the matrix. */
const MOST_LISTED = 100;
/** Of measurements; the server takes no more than twice as many questions. */
const AT_ONCE = 8;

export function Paths({ cluster, network: wanted }: { cluster: Cluster; network: string }) {
  const version = cluster.versions.node;
  const networks = useMemo(() => networksByBroken(cluster), [version]);
  const network = wanted === '' ? (networks[0]?.network ?? '') : wanted;
  const matrix = useMemo(() => matrixOf(cluster, network), [version, network]);
  // By names: a node that comes or goes moves the cells.
  const [chosen, setChosen] = useState<{ from: string; to: string }>();
  const [times, setTimes] = useState<Times>(new Map());
  const cell = chosen && cellOf(matrix, chosen);
  useEffect(() => setTimes(new Map()), [network]);
  const choose = ({ from, to }: Cell): void =>
    setChosen({ from: matrix.names[from] ?? '', to: matrix.names[to] ?? '' });
  return (
    <>
      <AsOf cluster={cluster} feeds={['node']} />
      <h1>Paths</h1>
      <label class="field">
        Network
        <select
          value={network}
          onChange={(event) => (location.hash = `#/paths/${encodeURIComponent(event.currentTarget.value)}`)}
        >
          {networks.map(({ network, broken }) => (
            <option key={network} value={network}>
              {visible(network)} {broken > 0 && `(${broken} broken)`}
            </option>
          ))}
        </select>
      </label>
      {matrix.names.length === 0 ? (
        cluster.isComplete('node') && <p>No node is in a network yet: weft attach brings it there.</p>
      ) : (
        <>
          <p class="legend">
            <span>
              {counted(matrix.names.length, 'node')}, {counted(matrix.broken, 'broken path')}. Rows send,
              columns receive.
            </span>
            <State is="ok" />
            <State is="slow">{`slower than ${SLOW_MS} ms, where measured`}</State>
            <State is="broken" />
            <State is="down" />
          </p>
          <div class="paths">
            <MatrixCanvas matrix={matrix} times={times} chosen={cell} onChoose={choose} />
            <div class="beside">
              <div aria-live="polite">
                {cell ? (
                  <Chosen
                    key={`${network} ${cell.from} ${cell.to}`}
                    {...{ matrix, cell, network }}
                    onTimes={(measured) => setTimes((known) => new Map([...known, ...measured]))}
                  />
                ) : (
                  <p class="hint">Choose a path: click on its cell, or use the arrow keys.</p>
                )}
              </div>
              <BrokenList matrix={matrix} onChoose={choose} />
            </div>
          </div>
        </>
      )}
    </>
  );
}

function cellOf({ names }: PathMatrix, { from, to }: { from: string; to: string }): Cell | undefined {
  const cell = { from: names.indexOf(from), to: names.indexOf(to) };
  return cell.from < 0 || cell.to < 0 ? undefined : cell;
}

function Chosen(props: {
  matrix: PathMatrix;
  cell: Cell;
  network: string;
  onTimes: (measured: Times) => void;
}) {
  const { matrix, cell, network, onTimes } = props;
  const [from = '', to = ''] = [matrix.names[cell.from], matrix.names[cell.to]];
  const problem = matrix.problems.get(cell.from * matrix.names.length + cell.to);
  const state = stateOf(matrix, cell.from, cell.to);
  const [measured, setMeasured] = useState<string | Failure>('');
  const measure = async (): Promise<void> => {
    setMeasured('measuring…');
    const answer = await ask('ping', { node: from, peer: to, network });
    if ('failure' in answer) return setMeasured(answer.failure);
    const { paths } = answer.ok;
    onTimes(timesOf(from, to, paths));
    const lines = paths.map(({ family, state, mtu, p50, lost, sent }) => {
      const time = p50 === undefined ? 'no answer' : `${p50.toFixed(2)} ms`;
      return `IPv${family}: ${state}, ${time}, MTU ${mtu ?? 'unknown'}, ${lost} of ${sent} lost`;
    });
    setMeasured(lines.join('; ') || 'the node has no such path');
  };
  /** All paths of the sender, some at once, until another one is chosen. */
  const isOver = useRef(false);
  useEffect(() => () => void (isOver.current = true), []);
  const measureRow = async (): Promise<void> => {
    const peers = matrix.names.filter((_, index) => stateOf(matrix, cell.from, index) === 'ok').values();
    let count = 0;
    const work = async (): Promise<void> => {
      for (const peer of peers) {
        if (isOver.current) return;
        const answer = await ask('ping', { node: from, peer, network });
        if ('ok' in answer) onTimes(timesOf(from, peer, answer.ok.paths));
        setMeasured(`${(count += 1)} paths of ${from} are measured`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  };
  return (
    <section class="chosen" aria-label="The chosen path">
      <h2>
        <Name>{from}</Name> to <Name>{to}</Name> <State is={state} />
      </h2>
      {problem && <p>{visible(`${problem.what}: ${problem.why}`)}</p>}
      {problem && <Fix>{problem.fix}</Fix>}
      {state !== 'none' && (
        <p>
          <button type="button" onClick={() => void measure()}>
            Measure
          </button>{' '}
          <button type="button" onClick={() => void measureRow()}>
            Measure its row
          </button>{' '}
          <Command>{commandOf('weft', 'trace', from, to)}</Command>
        </p>
      )}
      {typeof measured === 'string' ? (
        measured !== '' && <p>{visible(measured)}</p>
      ) : (
        <FailureText failure={measured} />
      )}
    </section>
  );
}

/** Of the slower family, where both have a path. */
function timesOf(from: string, to: string, paths: readonly PingPath[]): Times {
  const times = paths.map(({ p50 }) => p50).filter((p50) => p50 !== undefined);
  return times.length === 0 ? new Map() : new Map([[`${from} ${to}`, Math.max(...times)]]);
}

/** The same without a picture. */
function BrokenList({ matrix, onChoose }: { matrix: PathMatrix; onChoose: (cell: Cell) => void }) {
  const count = matrix.names.length;
  const all = [...matrix.problems].sort(([a], [b]) => a - b);
  if (all.length === 0) return null;
  return (
    <table>
      <caption>Broken paths</caption>
      <thead>
        <tr>
          <th scope="col">From</th>
          <th scope="col">To</th>
          <th scope="col">Why</th>
        </tr>
      </thead>
      <tbody>
        {all.slice(0, MOST_LISTED).map(([index, problem]) => {
          const cell = { from: Math.floor(index / count), to: index % count };
          return (
            <tr key={index}>
              <td>
                <button type="button" class="link" onClick={() => onChoose(cell)}>
                  <Name>{matrix.names[cell.from] ?? ''}</Name>
                </button>
              </td>
              <td>
                <Name>{matrix.names[cell.to] ?? ''}</Name>
              </td>
              <td>{visible(problem.why)}</td>
            </tr>
          );
        })}
      </tbody>
      {all.length > MOST_LISTED && (
        <tfoot>
          <tr>
            <td colSpan={3}>and {all.length - MOST_LISTED} more</td>
          </tr>
        </tfoot>
      )}
    </table>
  );
}
