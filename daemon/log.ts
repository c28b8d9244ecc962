// The daemons' log on standard error: a static message and fields on each line.
//
// The only user of winston.
import winston from 'winston';

import { WeftError } from '../core/errors.js';
import { visible } from '../core/text.js';

export type Fields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFormat = 'text' | 'json';

// sd-daemon(3): journald reads the priority from the front of the line, and adds the time itself.
const PRIORITY: Record<LogLevel, number> = { error: 3, warn: 4, info: 6, debug: 7 };

export function createLogger(options: {
  level: LogLevel;
  format: LogFormat;
  stream?: NodeJS.WritableStream;
  journal?: boolean;
}): Logger {
  const {
    level,
    format,
    stream = process.stderr,
    journal = process.env['JOURNAL_STREAM'] !== undefined,
  } = options;
  const withStacks = level === 'debug';
  const line = (time: string, at: LogLevel, message: string, fields: Fields): string => {
    // Fields hold what others wrote: nothing of it may begin a line or reach a terminal as a control sequence.
    if (format === 'json')
      return visible(JSON.stringify({ time, level: at, message, ...plainFields(fields, withStacks) }));
    const front = journal ? `<${PRIORITY[at]}>` : `${time} ${at.padEnd(5)} `;
    return visible(front + [message, ...textFields(fields, withStacks)].join('  '));
  };
  const logger = winston.createLogger({
    level,
    transports: [new winston.transports.Stream({ stream, eol: '\n' })],
    format: winston.format.printf((info) => String(info.message)),
  });
  const at =
    (name: LogLevel) =>
    (message: string, fields: Fields = {}): void => {
      if (logger.isLevelEnabled(name))
        logger.log(name, line(new Date().toISOString(), name, message, fields));
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** Discards everything; for tests. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

function plainFields(fields: Fields, withStacks: boolean): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [
        key,
        value instanceof Error ? describeError(value, withStacks) : jsonValue(value),
      ]),
  );
}

function textFields(fields: Fields, withStacks: boolean): string[] {
  return Object.entries(plainFields(fields, withStacks)).map(([key, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return `${key}=${/^[^\s"=]+$/.test(text) || typeof value === 'object' ? text : JSON.stringify(text)}`;
  });
}

function jsonValue(value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

/** An error with its causes on one line; with the stack at debug level. */
export function describeError(error: unknown, withStack = false): string {
  if (!(error instanceof Error)) return String(error);
  if (withStack && error.stack !== undefined) return error.stack;
  // A WeftError's message includes its cause.
  if (error instanceof WeftError)
    return error.next === undefined ? error.message : `${error.message}. ${error.next}`;
  // A cause is often already quoted by the message that wraps it.
  const because = error.cause === undefined ? '' : describeError(error.cause);
  return error.message + (because === '' || error.message.includes(because) ? '' : ` (${because})`);
}
