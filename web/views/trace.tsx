// A trace from A to B: the hops there and back, and where it stops.
import { useState } from 'preact/hooks';

import { visible } from '../../core/text.js';
import type { Hop, TraceResult } from '../../proto/gen/weft/v1/trace.js';
import { ask, type Answer } from '../live.js';
import { Command, FailureText, Fix, Name, State } from '../parts.js';
import { commandOf } from '../state/commands.js';

const PROTOCOLS = ['icmp', 'tcp', 'udp'] as const;

export function Trace({ from: first }: { from: string }) {
  const [from, setFrom] = useState(first);
  const [to, setTo] = useState('');
  const [protocol, setProtocol] = useState<string>('icmp');
  const [port, setPort] = useState('');
  const [answer, setAnswer] = useState<Answer<TraceResult> | 'asking'>();
  const send = async (): Promise<void> => {
    setAnswer('asking');
    setAnswer(
      await ask('trace', { from, to, protocol, port: protocol === 'icmp' ? 0 : Number(port), size: 0 }),
    );
  };
  const kind = protocol === 'icmp' ? [] : [`--${protocol}`, port];
  const command = commandOf('weft', 'trace', from, to, ...kind);
  return (
    <>
      <h1>Trace</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
      >
        <Field name="From" value={from} onInput={setFrom} />
        <Field name="To" value={to} onInput={setTo} />
        <label>
          Protocol{' '}
          <select value={protocol} onChange={(event) => setProtocol(event.currentTarget.value)}>
            {PROTOCOLS.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        {protocol !== 'icmp' && (
          <label>
            Port{' '}
            <input
              type="number"
              required
              min="1"
              max="65535"
              value={port}
              onInput={(event) => setPort(event.currentTarget.value)}
            />
          </label>
        )}
        <button type="submit" disabled={answer === 'asking'}>
          Trace
        </button>
      </form>
      <div aria-live="polite">
        {answer === 'asking' && <p role="status">A packet is on its way: two seconds or so.</p>}
        {typeof answer === 'object' && 'failure' in answer && <FailureText failure={answer.failure} />}
        {typeof answer === 'object' && 'ok' in answer && <Result result={answer.ok} command={command} />}
      </div>
    </>
  );
}

const Field = ({
  name,
  value,
  onInput,
}: {
  name: string;
  value: string;
  onInput: (text: string) => void;
}) => (
  <label>
    {name}{' '}
    <input
      required
      value={value}
      placeholder="name, address, id or node"
      onInput={(event) => onInput(event.currentTarget.value)}
    />
  </label>
);

const Result = ({ result, command }: { result: TraceResult; command: string }) => (
  <>
    <h2>
      <State is={result.verdict} /> {result.node !== undefined && <Name>{`on ${result.node}`}</Name>}
      {result.reason !== undefined && visible(`: ${result.reason}`)}
    </h2>
    <p>{visible(result.why)}</p>
    {result.fix !== '' && <Fix>{result.fix}</Fix>}
    <div class="ways">
      <Way title={`There: ${result.source} to ${result.destination}`} hops={result.hops} />
      <Way title="Back" hops={result.back} />
    </div>
    <Command>{command}</Command>
  </>
);

/** The packet's way from the top down: where it was seen, and where it was not. */
const Way = ({ title, hops }: { title: string; hops: readonly Hop[] }) => (
  <section>
    <h3>{visible(title)}</h3>
    {hops.length === 0 && <p>There is nothing to see.</p>}
    <ol class="hops">
      {hops.map(({ node, point, seen, detail }, index) => (
        <li key={index} class={seen === undefined ? 'unseen' : seen ? 'seen' : 'missed'}>
          <b>{seen === undefined ? '· cannot be seen' : seen ? '✓ seen' : '✗ not seen'}</b>{' '}
          <Name>{node === undefined ? point : `${node}: ${point}`}</Name> <small>{visible(detail)}</small>
        </li>
      ))}
    </ol>
  </section>
);
