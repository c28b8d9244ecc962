// The address space of every network as a strip.
import { useMemo, useState } from 'preact/hooks';

import type { CheckIpamResponse } from '../../proto/gen/weft/v1/ipam.js';
import { ask, type Answer } from '../live.js';
import { visible } from '../../core/text.js';
import { AsOf, Command, counted, FailureText, Link, Name } from '../parts.js';
import { commandOf } from '../state/commands.js';
import { stripsOf, type Piece, type Strip } from '../state/addresses.js';
import type { Cluster } from '../state/store.js';

const percent = (part: number): string =>
  part > 0 && part < 0.001 ? 'less than 0.1 %' : `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`;

export function Addresses({ cluster }: { cluster: Cluster }) {
  const { network, endpoint } = cluster.versions;
  const strips = useMemo(() => stripsOf(cluster), [network, endpoint]);
  return (
    <>
      <AsOf cluster={cluster} feeds={['network', 'endpoint']} />
      <h1>Addresses</h1>
      <Check />
      <p class="legend">
        <span class="state ok">subnet of a node</span>
        <span class="state used">used in it</span>
        <span class="state slow">subnet near its end (80 %)</span>
        <span class="state claim">claim outside of its node’s subnet</span>
      </p>
      {strips.length === 0 && cluster.isComplete('network') && (
        <p>There are no networks yet: weft network create makes one.</p>
      )}
      {strips.map((strip) => (
        <StripView key={`${strip.network} ${strip.space}`} strip={strip} />
      ))}
    </>
  );
}

/** The first ones, and how many more. */
const some = (names: readonly string[]): string =>
  names.length > 4 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');

function StripView({ strip }: { strip: Strip }) {
  const { network, space, pieces, claims, taken, isNearEnd, overlaps } = strip;
  const [isOpen, setOpen] = useState(false);
  return (
    <section class="strip">
      <h2>
        <Link to={['paths', network]}>{network}</Link> <small>{visible(space)}</small>
        {isNearEnd && <span class="tag">near its end</span>}
        {overlaps.length > 0 && <span class="tag">overlaps {visible(some(overlaps))}</span>}
        <span class="taken">{percent(taken)} taken</span>
      </h2>
      <svg
        viewBox="0 0 1000 24"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${percent(taken)} of ${space} taken`}
      >
        <rect width="1000" height="24" class="space" />
        {pieces.map((piece) => (
          <PieceView key={piece.subnet} piece={piece} />
        ))}
        {claims.map(({ ip, node, at }) => (
          <rect key={ip} class="claim" x={at * 1000} width="2" height="24">
            <title>{`${ip}, claimed by ${visible(node)}`}</title>
          </rect>
        ))}
      </svg>
      {/* A list of a thousand subnets is made when somebody looks at it. */}
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          {counted(pieces.length, 'subnet')}, {counted(claims.length, 'claim')} outside of them
        </summary>
        {isOpen && <Details strip={strip} />}
      </details>
    </section>
  );
}

/** A subnet, and from below how much of it is used. */
const PieceView = ({ piece: { subnet, from, width, node, used, room, isNearEnd } }: { piece: Piece }) => {
  const place = { x: from * 1000, width: Math.max(2, width * 1000 - 0.5) };
  const part = Math.min(1, used / Math.max(1, room));
  return (
    <g>
      <title>{`${subnet} of ${visible(node ?? 'a flanneld')}: ${used} of ${room} addresses`}</title>
      <rect class={isNearEnd ? 'lease near' : 'lease'} {...place} height="24" />
      <rect class="used" {...place} y={24 - part * 24} height={part * 24} />
    </g>
  );
};

const Details = ({ strip: { pieces, claims } }: { strip: Strip }) => (
  <table>
    <thead>
      <tr>
        <th scope="col">Subnet</th>
        <th scope="col">Node</th>
        <th scope="col">Addresses</th>
      </tr>
    </thead>
    <tbody>
      {pieces.map(({ subnet, node, used, room, isNearEnd }) => (
        <tr key={subnet}>
          <td>{visible(subnet)}</td>
          <td>{node === null ? 'a flanneld' : <Name>{node}</Name>}</td>
          <td>
            {used} of {room} {isNearEnd && <span class="tag">near its end</span>}
          </td>
        </tr>
      ))}
      {claims.map(({ ip, node, endpoint }) => (
        <tr key={ip}>
          <td>{visible(ip)}</td>
          <td>
            <Name>{node}</Name>
          </td>
          <td>
            claim of <Link to={['endpoint', endpoint]}>{endpoint}</Link>
          </td>
        </tr>
      ))}
    </tbody>
  </table>
);

/** What etcd, nodes and containers say, and where they disagree: nodes are asked only on demand. */
function Check() {
  const [answer, setAnswer] = useState<Answer<CheckIpamResponse>>();
  return (
    <section>
      <button type="button" onClick={() => void ask('ipam', {}).then(setAnswer)}>
        Check all addresses
      </button>
      <div aria-live="polite">
        {answer !== undefined && 'failure' in answer && <FailureText failure={answer.failure} />}
        {answer !== undefined && 'ok' in answer && (
          <ul>
            {answer.ok.findings.length === 0 && <li>Nothing is wrong with them.</li>}
            {answer.ok.findings.map(({ id, kind, network, address, why, safe }) => (
              <li key={id}>
                {visible(kind)} <Name>{`${address} of ${network}`}</Name>: {visible(why)}{' '}
                {safe && <Command>{commandOf('weft', 'ipam', 'release', id)}</Command>}
              </li>
            ))}
            {answer.ok.notes.map((note) => (
              <li key={note}>{visible(note)}</li>
            ))}
          </ul>
        )}
      </div>
    </section>
  );
}
