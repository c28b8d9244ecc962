// When a certificate that should have been renewed becomes a problem.
import test from 'ava';

import { endsSoon } from '../../daemon/certificate.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

test('a certificate is a problem a week before its end, or, of a short life, after 85 % of it', (t) => {
  const from = new Date(0);
  const soon = (life: number, age: number): boolean =>
    endsSoon({ from, to: new Date(life), serial: '', identity: { role: 'admin' } }, age);
  t.false(soon(90 * DAY, 83 * DAY - 1));
  t.true(soon(90 * DAY, 83 * DAY + 1));
  t.false(soon(10 * HOUR, 8.5 * HOUR - 1));
  t.true(soon(10 * HOUR, 8.5 * HOUR + 1));
});
