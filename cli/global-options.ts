// Options of every command: the output format, whom to ask, credentials.
import { InvalidArgumentError, Option } from 'commander';

import { WeftError } from '../core/errors.js';
import { integer } from './checks.js';
import { type Filter, parseFilter } from './filter.js';
import { parseTemplate } from './template.js';
import { FORMATS, type Format } from './output.js';

export interface GlobalOptions {
  output?: Format | 'wide' | 'name';
  format?: string;
  filter?: Filter[];
  /** Of a list: names alone. */
  quiet?: boolean;
  headers?: boolean;
  /** Seconds. */
  watch?: number | true;
  controller: string;
  agent: string;
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
  insecure: boolean;
  logLevel: string;
}

/** The options of every command. @param hasName whether what it prints has one */
export function globalOptions(hasName = true): Option[] {
  return [
    new Option('-o, --output <format>', 'how to print')
      .choices([...FORMATS, 'wide', ...(hasName ? ['name'] : [])])
      .default('table'),
    new Option('--controller <host:port>', 'the controller to ask')
      .env('WEFT_CONTROLLER')
      .default('127.0.0.1:7400'),
    new Option('--agent <path>', 'the socket of this host’s agent')
      .env('WEFT_AGENT')
      .default('/run/weft/agent.sock'),
    new Option('--tls-ca <file>', 'CA of the controller’s certificate').env('WEFT_TLS_CA'),
    new Option('--tls-cert <file>', 'certificate to show').env('WEFT_TLS_CERT'),
    new Option('--tls-key <file>', 'its private key').env('WEFT_TLS_KEY'),
    new Option('--insecure', 'ask a controller that serves plain text').env('WEFT_INSECURE').default(false),
    new Option('--log-level <level>', 'debug shows where an error comes from')
      .choices(['debug', 'info', 'warn', 'error'])
      .default('info'),
  ];
}

/** Of commands that list. @param fields of what they list */
export function listOptions(fields: readonly string[]): Option[] {
  return [
    new Option('-q, --quiet', 'names alone'),
    new Option('--no-headers', 'without the headings'),
    new Option('--filter <key=value>', 'only what fits; may be repeated').argParser(
      (text: string, before: Filter[] | undefined): Filter[] => [
        ...(before ?? []),
        usage(() => parseFilter(text, fields)),
      ],
    ),
  ];
}

/** Of commands that show. @param fields of what they show, where they are known before */
export function showOptions(fields?: readonly string[]): Option[] {
  return [
    new Option(
      '--format <template>',
      'such as {{.name}}, {{json .}} or "table {{.name}}\\t{{.node}}"',
    ).argParser((text: string): string => {
      usage(() => parseTemplate(text, fields));
      return text;
    }),
    new Option('--watch [seconds]', 'again and again, until Ctrl-C (default: every 2)').argParser(
      (text: string) => integer('watch', 1, 3600)(text),
    ),
  ];
}

/** For commander: the error names the option itself. */
function usage<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    throw new InvalidArgumentError([error.message, error.next ?? ''].join('\n').trim());
  }
}

/** Moves global options that stand before the command behind it, as in `weft -o json network ls`. */
export function optionsLast(argv: readonly string[]): string[] {
  const options = globalOptions();
  const find = (word: string | undefined): Option | undefined =>
    options.find(({ short, long }) => [short, long].includes(word?.split('=', 1)[0] ?? ''));
  let taken = 0;
  for (let option = find(argv[0]); option !== undefined; option = find(argv[taken]))
    taken += argv[taken]?.includes('=') === true || !option.required ? 1 : 2;
  const rest = argv.slice(taken);
  const end = rest.includes('--') ? rest.indexOf('--') : rest.length;
  return [...rest.slice(0, end), ...argv.slice(0, taken), ...rest.slice(end)];
}
