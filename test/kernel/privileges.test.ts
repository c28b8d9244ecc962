// Missing capabilities are reported before anything is tried.
import test from 'ava';

import { checkPrivileges } from '../../agent/kernel/privileges.js';

const holding = (...bits: number[]): string =>
  `Name:\tnode\nCapEff:\t${bits
    .reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n)
    .toString(16)
    .padStart(16, '0')}\nCapBnd:\t000001ffffffffff\n`;

test('both capabilities suffice, with or without others', (t) => {
  t.notThrows(() => checkPrivileges(holding(12, 21)));
  t.notThrows(() => checkPrivileges(holding(0, 1, 12, 21, 40)));
  t.notThrows(() => checkPrivileges(), 'these tests run as root');
});

test('the first missing one is named, with the next step', (t) => {
  for (const [bits, name] of [
    [[], 'CAP_NET_ADMIN'],
    [[21, 40], 'CAP_NET_ADMIN'],
    [[12, 13], 'CAP_SYS_ADMIN'],
  ] as const) {
    t.throws(() => checkPrivileges(holding(...bits)), {
      code: 'PERMISSION_DENIED',
      message: new RegExp(`^the agent has no ${name}: it could `),
      instanceOf: Error,
    });
  }
});
