// Manual pages are made from the help texts.
import test from 'ava';

import { formatHelp, manualPages } from '../../bundle/package/manual.js';

const HELP = `Usage: weft agent [flags]

The daemon of a node.

General
  --node <NAME>  name of this node, unique in the cluster (default the
                 hostname; WEFT_NODE)
  -h, --help     show this

Options:
  --dash-ed <'X'>  .starts with a dot
`;

test('terms, what they mean, and headings', (t) => {
  t.is(
    formatHelp(HELP),
    [
      ...['.SS Usage', '.B weft agent [flags]', '.P', 'The daemon of a node.', '.P', '.SS General'],
      ...['.TP', '.B \\-\\-node <NAME>', 'name of this node, unique in the cluster (default the'],
      'hostname; WEFT_NODE)',
      ...['.TP', '.B \\-h, \\-\\-help', 'show this', '.P', '.SS Options'],
      ...['.TP', ".B \\-\\-dash\\-ed <'X'>", '\\&.starts with a dot'],
    ].join('\n'),
  );
});

test('every command has a page, with all that is below it', (t) => {
  const pages = new Map(
    manualPages({ agent: HELP, controller: HELP }, '2026-01-31').map(({ name, text }) => [name, text]),
  );
  t.regex(pages.get('weft-network.8') ?? '', /\.SH WEFT NETWORK CREATE\n[^]*\\-\\-subnet /);
  t.regex(
    pages.get('weft-agent.8') ?? '',
    /^\.TH WEFT-AGENT 8 2026-01-31 "weft [\d.]+"\n\.SH NAME\nweft\\-agent \\- the daemon/,
  );
  const seeAlso = [...(pages.get('weft.8') ?? '').matchAll(/^\.BR (weft-\S+) \(8\)/gm)].map(
    ([, name = '']) => `${name}.8`,
  );
  t.deepEqual(seeAlso.toSorted(), [...pages.keys()].filter((name) => name !== 'weft.8').toSorted());
  t.false(pages.has('weft-__complete.8'));
});
