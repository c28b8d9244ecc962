// What is wrong, first: problems with what follows from them and how to mend them, warnings, the latest events.
import type { ComponentChildren } from 'preact';
import { useMemo } from 'preact/hooks';

import { visible } from '../../core/text.js';
import type { Problem } from '../../proto/gen/weft/v1/types.js';
import { AsOf, counted, Events, Fix, Name, State } from '../parts.js';
import { networksByBroken } from '../state/paths.js';
import type { Cluster } from '../state/store.js';

const LATEST = 30;

export function Problems({ cluster }: { cluster: Cluster }) {
  const { status } = cluster;
  const events = cluster.events.slice(-LATEST).reverse();
  return (
    <>
      <AsOf cluster={cluster} feeds={['status', 'event']} />
      <h1>Problems</h1>
      {status === undefined ? (
        <p role="status">Asking the controller…</p>
      ) : (
        <>
          <Figures cluster={cluster} />
          {status.problems.length === 0 ? (
            <p class="well">
              <State is="ok">Nothing is wrong.</State>
            </p>
          ) : (
            <>
              <h2>What is wrong</h2>
              <List problems={causesFirst(status.problems)} />
            </>
          )}
          {status.warnings.length > 0 && (
            <>
              <h2>Warnings</h2>
              <List problems={status.warnings} kind="warnings" />
            </>
          )}
        </>
      )}
      <h2>Latest events</h2>
      <Events events={events} />
    </>
  );
}

function Figures({ cluster }: { cluster: Cluster }) {
  const { status, versions } = cluster;
  const broken = useMemo(
    () => networksByBroken(cluster).reduce((sum, { broken }) => sum + broken, 0),
    [versions.node],
  );
  const down = status?.controller?.nodesDown ?? 0;
  return (
    <dl class="figures">
      <Figure name="Cluster">{status && <State is={status.health} />}</Figure>
      <Figure name="Nodes up" to="topology">
        {status?.controller?.nodesUp ?? 0}
        {down > 0 && <State is="down">{`${down} down`}</State>}
      </Figure>
      <Figure name="Broken paths" to="paths">
        {broken === 0 ? 0 : <State is="broken">{String(broken)}</State>}
      </Figure>
      <Figure name="Networks" to="addresses">
        {status?.networks.length ?? 0}
      </Figure>
      <Figure name="Endpoints" to="topology">
        {cluster.endpoints.size}
      </Figure>
    </dl>
  );
}

const Figure = ({ name, to, children }: { name: string; to?: string; children: ComponentChildren }) => (
  <div>
    <dt>{to === undefined ? name : <a href={`#/${to}`}>{name}</a>}</dt>
    <dd>{children}</dd>
  </div>
);

const causesFirst = (problems: readonly Problem[]): Problem[] =>
  [...problems].sort((a, b) => Number(b.isCause) - Number(a.isCause));

export const List = ({
  problems,
  kind = 'problems',
}: {
  problems: readonly Problem[];
  kind?: 'problems' | 'warnings';
}) => (
  <ul class={kind}>
    {problems.map((problem) => (
      <li key={`${problem.what} ${problem.why}`}>
        <h3>
          <Name>{problem.what}</Name>
          {problem.isCause && <span class="tag">root cause</span>}
        </h3>
        <p>{visible(problem.why)}</p>
        {problem.fix !== '' && <Fix>{problem.fix}</Fix>}
        {problem.consequences.length > 0 && (
          <details>
            <summary>{counted(problem.consequences.length, 'consequence')}</summary>
            <ul>
              {problem.consequences.map((line) => (
                <li key={line}>{visible(line)}</li>
              ))}
            </ul>
          </details>
        )}
      </li>
    ))}
  </ul>
);
