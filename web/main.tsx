// The page: its views, the one that the address names, and what is live.
import { render } from 'preact';
import { useEffect, useLayoutEffect, useReducer, useState } from 'preact/hooks';

import { follow } from './live.js';
import { counted, State } from './parts.js';
import type { Cluster } from './state/store.js';
import { Addresses } from './views/addresses.js';
import { EndpointView } from './views/endpoint.js';
import { Paths } from './views/paths.js';
import { Problems } from './views/problems.js';
import { Search } from './views/search.js';
import { Topology } from './views/topology.js';
import { Trace } from './views/trace.js';
import { Traffic } from './views/traffic.js';

const VIEWS = ['problems', 'paths', 'topology', 'addresses', 'traffic', 'trace'] as const;

const route = (): string[] => location.hash.replace(/^#\/?/, '').split('/').map(decoded);

// Somebody may write what they like into the address.
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function Page({ start }: { start: (onChange: () => void) => Cluster }) {
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const [cluster] = useState(() => start(() => draw(undefined)));
  const [[view = '', word = ''], setRoute] = useState(route);
  // Before the first paint: an address that changes between the two would be missed.
  useLayoutEffect(() => {
    const onHash = (): void => setRoute(route());
    addEventListener('hashchange', onHash);
    return () => removeEventListener('hashchange', onHash);
  }, []);
  return (
    <>
      <a class="skip" href="#main" onClick={toMain}>
        To the content
      </a>
      <header>
        <strong>weft</strong>
        <nav aria-label="Views">
          {VIEWS.map((name) => (
            <a
              key={name}
              href={`#/${name}`}
              aria-current={name === (view || 'problems') ? 'page' : undefined}
            >
              {name.charAt(0).toUpperCase() + name.slice(1)}
            </a>
          ))}
        </nav>
        <Health cluster={cluster} />
        <Search cluster={cluster} />
      </header>
      <main id="main" tabIndex={-1}>
        {viewOf(cluster, view, word)}
      </main>
    </>
  );
}

/** Not by the address, which names the view. */
function toMain(event: Event): void {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

/** On every view, and in the title of the tab. */
function Health({ cluster }: { cluster: Cluster }) {
  const { status } = cluster;
  const problems = status?.problems.length ?? 0;
  const isLive = cluster.lost('status') === undefined;
  useEffect(() => {
    document.title = problems > 0 ? `(${problems}) weft` : 'weft';
  }, [problems]);
  if (status === undefined) return null;
  return (
    <a class={isLive ? 'health' : 'health stale'} href="#/problems">
      <State is={status.health} />
      {problems > 0 && <span>{counted(problems, 'problem')}</span>}
      {!isLive && <span>not live</span>}
    </a>
  );
}

function viewOf(cluster: Cluster, view: string, word: string) {
  switch (view) {
    case 'paths':
      return <Paths cluster={cluster} network={word} />;
    case 'topology':
      return <Topology cluster={cluster} node={word} />;
    case 'addresses':
      return <Addresses cluster={cluster} />;
    case 'traffic':
      return <Traffic cluster={cluster} />;
    case 'endpoint':
      return <EndpointView cluster={cluster} id={word} />;
    case 'trace':
      return <Trace key={word} from={word} />;
    default:
      return <Problems cluster={cluster} />;
  }
}

const place = document.getElementById('page');
if (place !== null) {
  place.replaceChildren();
  render(<Page start={follow} />, place);
}
