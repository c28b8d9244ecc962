// Options of every command: the output format, whom to ask, credentials.
import { Option } from 'commander';

import { FORMATS, type Format } from './output.js';

export interface GlobalOptions {
  output?: Format;
  controller: string;
  agent: string;
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
  insecure: boolean;
  logLevel: string;
}

/** The options of every command. */
export function globalOptions(): Option[] {
  return [
    new Option('-o, --output <format>', 'how to print').choices([...FORMATS]).default('table'),
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
