// Which commands of a next step can be copied.
import test from 'ava';

import { commandOf, partsOf } from '../../web/state/commands.js';

const cases: readonly [string, string[]][] = [
  ['See weft node ls and weft node inspect NAME.', ['weft node ls', 'weft node inspect NAME']],
  ['if it is gone for good, weft node rm h2.', ['weft node rm h2']],
  [
    'Run `weft network update blue --port-security off`, then wait.',
    ['weft network update blue --port-security off'],
  ],
  ['Restart it.', []],
  ['Run `weft node rm $(reboot)`.', ['weft node rm']],
];

for (const [text, commands] of cases)
  test(text, (t) => {
    const parts = partsOf(text);
    t.deepEqual(
      parts.filter(({ isCommand }) => isCommand).map(({ text }) => text),
      commands,
    );
    t.is(parts.map(({ text }) => text).join(''), text);
  });

test('a name is one word for a shell, whatever it is', (t) => {
  t.is(commandOf('weft', 'trace', 'h1', "a'b $(reboot)"), `weft trace h1 'a'\\''b $(reboot)'`);
  t.is(commandOf('weft', ''), "weft ''");
});
