// Which keys a process follows, and what is left of a range without others.
import test from 'ava';
import fc from 'fast-check';

import { Keys, type KeyRange } from '../../store/keys.js';
import { LeftOut } from '../../store/left-out.js';
import { contains, leftOut, networkWithin, scopeOf, without } from '../../store/ranges.js';

const keys = new Keys('/weft');

const textOf = (range: KeyRange | undefined): string | undefined =>
  range && `${range.key.toString()} ${range.range_end.toString()}`;

test('of other networks the containers are left out, and what controllers alone read', (t) => {
  const scope = scopeOf(['blue']);
  const of = (key: string): string | undefined => textOf(leftOut(keys, scope, `/weft/${key}`));
  const before = '/weft/networks/red/ /weft/networks/red/config';
  const behind = '/weft/networks/red/config\0 /weft/networks/red/subnets/';
  for (const [key, range] of [
    ['networks/red/claims/10.2.0.9', before],
    ['networks/red/dns/www', behind],
    ['networks/red/endpoints/ab', behind],
    ['networks/red/names/c', behind],
    ['networks/blue/names/c', '/weft/networks/blue/names/ /weft/networks/blue/names0'],
    ['tokens/ab', '/weft/tokens/ /weft/tokens0'],
    ['certificates/ab', '/weft/certificates/ /weft/certificates0'],
  ] as const)
    t.is(of(key), range, key);
  for (const key of [
    ...['networks/red/config', 'networks/red/subnets/10.2.5.0-24', 'networks/red', 'allocated', 'tokens'],
    ...['networks/blue/claims/10.1.0.9', 'networks/blue/endpoints/ab', 'networks/blue/dns/www'],
    ...['nodes/h1', 'nodes/h1/alive', 'policies/p', 'removed/networks/red', 'authorities', 'else/what'],
  ])
    t.is(of(key), undefined, key);
  t.is(leftOut(keys, scopeOf(undefined), '/weft/tokens/ab'), undefined, 'a controller leaves nothing out');
  t.is(leftOut(keys, scope, '/other/networks/red/endpoints/ab'), undefined, 'another program’s');
});

test('a key is of the containers of its network, of its config or leases, or of no network', (t) => {
  t.is(networkWithin(keys, '/weft/networks/red/endpoints/ab'), 'red');
  t.is(networkWithin(keys, '/weft/networks/red/claims/10.2.0.9'), 'red');
  for (const key of ['networks/red/config', 'networks/red/subnets/10.2.5.0-24', 'nodes/h1', 'networks/red'])
    t.is(networkWithin(keys, `/weft/${key}`), undefined, key);
});

test('what is left of a range has every key that the others have not, once', (t) => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 2 }).map((it) => Buffer.from(it));
  const ranges = fc
    .tuple(bytes, bytes)
    .filter(([a, b]) => a.compare(b) < 0)
    .map(([key, range_end]): KeyRange => ({ key, range_end }));
  fc.assert(
    fc.property(ranges, fc.array(ranges, { maxLength: 4 }), bytes, (whole, others, key) => {
      const left = without([whole], others);
      const isLeft = contains(whole, key) && !others.some((other) => contains(other, key));
      t.is(left.filter((one) => contains(one, key)).length, isLeft ? 1 : 0);
      t.true(left.every((one) => one.key.compare(one.range_end) < 0));
    }),
  );
});

test('an agent can leave a thousand networks out of its watches, and answers meanwhile', (t) => {
  const names = Array.from({ length: 1000 }, (_, at) => `n${at}`);
  const left = new LeftOut(keys, names);
  const wanted = scopeOf(['n7']);
  const since = performance.now();
  const parts = left.rest([keys.all()], wanted);
  t.is(left.rest(parts, wanted).length, 2 * 999 + 1);
  const ms = performance.now() - since;
  t.true(ms < 5000, `${Math.round(ms)} ms`);
});
