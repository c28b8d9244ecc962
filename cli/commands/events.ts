// weft events, and the last events of an object for `inspect`.
import { Option, type Command } from 'commander';

import { WeftError } from '../../core/errors.js';
import { EVENT_KINDS, EVENT_TYPES, eventObject, type EventKind } from '../../core/events.js';
import { visible, visibleLines } from '../../core/text.js';
import type { Event, WatchEventsRequest } from '../../proto/gen/weft/v1/events.js';
import type { Action } from '../action.js';
import { eventObjectOf, spanOf } from '../checks.js';
import type { Connector } from '../connect.js';
import { type Format, printWarning, relative, type Result } from '../output.js';
import { eventShape } from '../shapes.js';

const ALL: WatchEventsRequest = { since: '', object: '', type: '', last: 0, follow: false };

interface EventOptions {
  follow?: true;
  /** Milliseconds. */
  since?: number;
  for?: string;
  type?: string;
}

export function eventsCommand(program: Command, action: Action): void {
  program
    .command('events')
    .description('what happened on the nodes and in the cluster, the oldest first')
    .option('-f, --follow', 'go on with what happens, until Ctrl-C')
    .option('--since <span>', 'only events of this time until now, such as 10m', spanOf)
    .option(
      '--for <object>',
      `only events of KIND/NAME, such as node/h1 or endpoint/web.blue; kinds: ${EVENT_KINDS.join(', ')}`,
      eventObjectOf,
    )
    .addOption(new Option('--type <type>', 'only events of this type').choices(EVENT_TYPES))
    .action(
      action(async ({ connect, format }, _words, options: EventOptions): Promise<undefined> => {
        connect.checkController();
        const request: WatchEventsRequest = {
          ...ALL,
          since: options.since === undefined ? '' : new Date(Date.now() - options.since).toISOString(),
          object: options.for ?? '',
          type: options.type ?? '',
          follow: options.follow === true,
        };
        const write = await printerOf(format);
        await ask(connect, request, write);
      }),
    );
}

/** The controller knows all nodes' events; without it this host's agent knows its own. */
async function ask(
  connect: Connector,
  request: WatchEventsRequest,
  write: (event: Event) => void,
): Promise<void> {
  let newest = '';
  try {
    return await connect.events('controller', request, (event) => {
      newest = event.time;
      write(event);
    });
  } catch (error) {
    if (!(error instanceof WeftError) || !AWAY.has(error.code)) throw error;
    // Nothing was printed yet: later it would be unclear whose events are missing.
    if (newest !== '') throw error;
    try {
      let isTold = false;
      await connect.events('agent', request, (event) => {
        if (!isTold) printWarning(`${error.message}; these are the events of this node alone`);
        isTold = true;
        write(event);
      });
      if (!isTold) printWarning(`${error.message}; this node alone has no such events`);
    } catch {
      throw error;
    }
  }
}

const AWAY: ReadonlySet<string> = new Set(['UNAVAILABLE', 'DEADLINE_EXCEEDED']);

async function printerOf(format: Format): Promise<(event: Event) => void> {
  if (format === 'json') return (event) => out(JSON.stringify(eventShape(event)));
  if (format === 'table') return (event) => out(eventLine(event));
  const { stringify } = await import('yaml');
  // Documents of their own: the list may have no end.
  return (event) => process.stdout.write(visibleLines(`---\n${stringify(eventShape(event))}`));
}

const out = (line: string): void => void process.stdout.write(`${visible(line)}\n`);

const eventLine = (event: Event): string => `${event.time}  ${event.node || '-'}  ${aboutOf(event)}`;

const aboutOf = ({ type, reason, object, message, actor, count }: Event): string =>
  [
    `${type}  ${reason}  ${object}  ${message}`,
    ...(actor === '' ? [] : [`(${actor})`]),
    ...(count > 1 ? [`[${count} times]`] : []),
  ].join(' ');

/** How many `inspect` shows. */
const LAST = 5;

/** A result with the last events of its object. A controller that has none, or may not tell them, changes nothing. */
export async function withEvents(
  connect: Connector,
  [kind, name]: [kind: EventKind, name: string],
  { value, text }: { value: object; text: () => string | Promise<string> },
): Promise<Result> {
  const events: Event[] = [];
  const request = { ...ALL, object: eventObject(kind, name), last: LAST };
  await connect
    .events('controller', request, (event) => events.push(event))
    .catch((error: unknown) => {
      if (!(error instanceof WeftError)) throw error;
    });
  return {
    value: { ...value, events: events.map(eventShape) },
    text: async () =>
      [await text(), ...(events.length === 0 ? [] : ['', 'Events:', ...events.map(shortLine)])].join('\n'),
  };
}

const shortLine = (event: Event): string => visible(`  ${relative(event.time)}  ${aboutOf(event)}`);
