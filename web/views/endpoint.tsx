// One endpoint: addresses, names, ports, policies, drops, its last events.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { endpointObject } from '../../core/events.js';
import { visible } from '../../core/text.js';
import type { ListPoliciesResponse, Policy } from '../../proto/gen/weft/v1/controller.js';
import type { Event } from '../../proto/gen/weft/v1/events.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import { ask, type Answer } from '../live.js';
import { AsOf, Command, Events, FailureText, Link, Name } from '../parts.js';
import { commandOf } from '../state/commands.js';
import { policiesOf } from '../state/policies.js';
import type { Cluster } from '../state/store.js';

interface Asked {
  /** With its drops, which only its node knows. */
  endpoint: Answer<Endpoint>;
  policies: Answer<ListPoliciesResponse>;
  events: Answer<{ events: Event[] }>;
}

export function EndpointView({ cluster, id }: { cluster: Cluster; id: string }) {
  const endpoint = cluster.endpoints.get(id);
  const [asked, setAsked] = useState<Asked>();
  const object = endpoint && endpointObject(endpoint);
  useEffect(() => {
    setAsked(undefined);
    if (object === undefined) return;
    let isOver = false;
    void Promise.all([ask('endpoint', { id }), ask('policies', {}), ask('events', { object })]).then(
      ([endpoint, policies, events]) => isOver || setAsked({ endpoint, policies, events }),
    );
    return () => void (isOver = true);
  }, [id, object]);
  if (endpoint === undefined)
    return (
      <>
        <AsOf cluster={cluster} feeds={['endpoint']} />
        <h1>
          <Name>{id}</Name>
        </h1>
        {cluster.isComplete('endpoint') && <p role="status">There is no such endpoint, or no more.</p>}
      </>
    );
  return (
    <>
      <AsOf cluster={cluster} feeds={['endpoint']} />
      <h1>
        <Name>{`${endpoint.name}.${endpoint.network}`}</Name>
      </h1>
      <dl class="facts">
        <Fact name="Addresses">{[endpoint.ip, endpoint.ip6].filter(Boolean).join(', ')}</Fact>
        <Fact name="MAC">{endpoint.mac}</Fact>
        <Fact name="Node">
          <Link to={['topology', endpoint.node]}>{endpoint.node}</Link>
        </Fact>
        <Fact name="Container">
          <Name>{endpoint.target}</Name>
        </Fact>
        <Fact name="Interface">
          {visible(`${endpoint.ifname}, ${endpoint.hostIfname} on the node, MTU ${endpoint.mtu}`)}
        </Fact>
        <Fact name="Names">{visible([endpoint.name, ...endpoint.aliases].join(', '))}</Fact>
        <Fact name="Labels">
          {visible(
            Object.entries(endpoint.labels)
              .map((pair) => pair.join('='))
              .join(', '),
          )}
        </Fact>
        <Fact name="Published ports">
          {endpoint.publish
            .map(
              (it) =>
                `${it.everywhere ? 'every node' : it.hostIp || 'the node'}:${it.hostPort} to ${it.port}/${it.protocol}`,
            )
            .join(', ')}
        </Fact>
        <Fact name="Allowed addresses">{endpoint.allowedAddresses.join(', ')}</Fact>
        <Fact name="Managed by">{endpoint.manager ?? 'weft'}</Fact>
        <Fact name="Drops">{dropsOf(asked?.endpoint)}</Fact>
      </dl>
      <p>
        <a href={`#/trace/${encodeURIComponent(id)}`}>Trace from here</a>{' '}
        <Command>{commandOf('weft', 'endpoint', 'inspect', id)}</Command>
      </p>
      <h2>Policies</h2>
      <Policies
        answer={asked?.policies}
        endpoint={endpoint}
        isIsolated={cluster.networks.get(endpoint.network)?.isolated === true}
      />
      <h2>Last events</h2>
      <Shown answer={asked?.events}>{({ events }) => <Events events={events.toReversed()} />}</Shown>
    </>
  );
}

/** What is empty is not shown. */
const Fact = ({ name, children }: { name: string; children: ComponentChildren }) =>
  children === '' ? null : (
    <>
      <dt>{name}</dt>
      <dd>{typeof children === 'string' ? visible(children) : children}</dd>
    </>
  );

function dropsOf(answer: Answer<Endpoint> | undefined): string {
  if (answer === undefined) return 'asking its node…';
  if ('failure' in answer) return visible(answer.failure.message);
  return (
    answer.ok.drops.map(({ reason, packets }) => `${packets} packets: ${visible(reason)}`).join('; ') ||
    'none'
  );
}

function Shown<T>({
  answer,
  children,
}: {
  answer: Answer<T> | undefined;
  children: (value: T) => ComponentChildren;
}) {
  if (answer === undefined) return <p role="status">Asking…</p>;
  return 'failure' in answer ? <FailureText failure={answer.failure} /> : <>{children(answer.ok)}</>;
}

const Policies = (props: {
  answer: Answer<ListPoliciesResponse> | undefined;
  endpoint: Endpoint;
  isIsolated: boolean;
}) => (
  <Shown answer={props.answer}>
    {({ policies }) => {
      const { to, from } = policiesOf(policies, props.endpoint);
      const isClosed = props.isIsolated || to.length > 0;
      return (
        <>
          <p>
            {isClosed
              ? `It admits only what a policy allows${props.isIsolated ? ': its network is isolated' : ''}.`
              : 'No policy concerns it: everybody may reach it.'}
          </p>
          <PolicyList title="Let others in" policies={to} />
          <PolicyList title="Let it reach others" policies={from} />
        </>
      );
    }}
  </Shown>
);

const PolicyList = ({ title, policies }: { title: string; policies: readonly Policy[] }) =>
  policies.length === 0 ? null : (
    <>
      <h3>{title}</h3>
      <ul>
        {policies.map(({ name, from, to, ports }) => (
          <li key={name}>
            <Name>{name}</Name>:{' '}
            {visible(`${from.join(' or ')} to ${to.join(' or ')}, ${ports.join(', ') || 'all ports'}`)}
          </li>
        ))}
      </ul>
    </>
  );
