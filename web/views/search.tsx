// Search by name, IP, MAC and container.
import { useMemo, useState } from 'preact/hooks';

import { Link } from '../parts.js';
import { visible } from '../../core/text.js';
import { search } from '../state/search.js';
import type { Cluster } from '../state/store.js';

const VIEWS = { node: 'topology', network: 'paths', endpoint: 'endpoint' } as const;

export function Search({ cluster }: { cluster: Cluster }) {
  const [text, setText] = useState('');
  const { node, network, endpoint } = cluster.versions;
  const found = useMemo(() => search(cluster, text), [text, node, network, endpoint]);
  return (
    <search>
      <input
        type="search"
        value={text}
        placeholder="Name, IP, MAC, container"
        aria-label="Search by name, IP, MAC or container"
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => event.key === 'Escape' && setText('')}
      />
      {text.trim() !== '' && (
        <ul class="found" aria-live="polite" onClick={() => setText('')}>
          {found.length === 0 && <li>Nothing is called so.</li>}
          {found.map(({ kind, key, title, detail }) => (
            <li key={`${kind} ${key}`}>
              <Link to={[VIEWS[kind], key]}>{title}</Link> <small>{visible(detail)}</small>
            </li>
          ))}
        </ul>
      )}
    </search>
  );
}
