// Small parts that several views have.
import { useState } from 'preact/hooks';

import type { Failure, Feed } from '../daemon/page/update.js';
import { visible } from '../core/text.js';
import type { Event } from '../proto/gen/weft/v1/events.js';
import { partsOf } from './state/commands.js';
import type { Cluster } from './state/store.js';

/** Text that somebody chose: characters that hide or reverse are written out, and it is a unit of its own direction. */
export const Name = ({ children }: { children: string }) => <bdi class="name">{visible(children)}</bdi>;

export const Link = ({ to, children }: { to: string[]; children: string }) => (
  <a href={`#/${to.map(encodeURIComponent).join('/')}`}>
    <Name>{children}</Name>
  </a>
);

export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** A command to copy. */
export function Command({ children }: { children: string }) {
  const [isCopied, setCopied] = useState(false);
  const copy = (): void => void navigator.clipboard.writeText(visible(children)).then(() => setCopied(true));
  return (
    <span class="command">
      <code>{visible(children)}</code>
      <button type="button" onClick={copy} aria-label={`Copy ${visible(children)}`}>
        {isCopied ? 'Copied' : 'Copy'}
      </button>
    </span>
  );
}

/** A next step, with the commands in it to be copied. */
export const Fix = ({ children }: { children: string }) => (
  <p class="fix">
    {partsOf(children).map(({ text, isCommand }, index) =>
      isCommand ? <Command key={index}>{text}</Command> : visible(text),
    )}
  </p>
);

const MARKS: Readonly<Record<string, string>> = {
  ...{ ok: '✓', up: '✓', reached: '✓', slow: '~', degraded: '!', down: '–', none: '·', unknown: '·' },
};

/** Never by colour alone: the mark and the word say the same. */
export function State({ is, children = is }: { is: string; children?: string }) {
  const mark = MARKS[is] ?? '✗';
  return (
    <span class={`state ${is}`}>
      <span aria-hidden="true">{mark}</span> {children}
    </span>
  );
}

export const FailureText = ({ failure }: { failure: Failure }) => (
  <div class="failure" role="alert">
    <p>{visible(failure.message)}</p>
    {failure.next !== null && <Fix>{failure.next}</Fix>}
  </div>
);

/** The time of day, as logs write it; with its date where that is another than today. */
export function clock(time: string | number): string {
  const at = new Date(time);
  const isToday = at.toDateString() === new Date().toDateString();
  return `${isToday ? '' : `${at.toLocaleDateString()} `}${at.toLocaleTimeString(undefined, { hourCycle: 'h23' })}`;
}

/** What is not live says since when, and what is not there yet that it comes. */
export function AsOf({ cluster, feeds }: { cluster: Cluster; feeds: readonly Feed[] }) {
  const lost = feeds.map((feed) => cluster.lost(feed)).find((it) => it !== undefined);
  const store = cluster.status?.store;
  if (lost === undefined && store?.state === 'disconnected')
    return (
      <div class="as-of" role="status">
        <p>As of {clock(store.since)}: the controller does not reach etcd.</p>
      </div>
    );
  if (lost === undefined) {
    const isComplete = feeds.every((feed) => !cluster.isWatched(feed) || cluster.isComplete(feed));
    return isComplete ? null : <p role="status">Asking the controller…</p>;
  }
  return (
    <div class="as-of" role="status">
      <p>As of {clock(lost.since)}: this is not live.</p>
      <FailureText failure={lost.failure} />
    </div>
  );
}

export const Events = ({ events }: { events: readonly Event[] }) =>
  events.length === 0 ? <p class="muted">There are none.</p> : <EventList events={events} />;

const EventList = ({ events }: { events: readonly Event[] }) => (
  <ol class="events">
    {events.map(({ time, type, node, reason, message, sequence }) => (
      <li key={`${node} ${sequence} ${time}`} class={type}>
        <time dateTime={time}>{clock(time)}</time>
        <b class={`tag ${type}`}>{type}</b>
        <Name>{node === '' ? 'cluster' : node}</Name>
        <span class="message">
          <b>{visible(reason)}</b> {visible(message)}
        </span>
      </li>
    ))}
  </ol>
);

/** @param value a second */
export function scaled(value: number, unit: string): string {
  const units = ['', 'k', 'M', 'G', 'T'];
  const power = value < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  return `${Number((value / 1000 ** power).toPrecision(3))} ${units[power]}${unit}/s`;
}
