// weft trace, against a scripted controller and agent.
import test from 'ava';

import { invalidArgument } from '../../core/errors.js';
import { TraceResult } from '../../proto/gen/weft/v1/trace.js';
import { Fakes } from './fakes.js';

const fakes = new Fakes();
test.before(() => fakes.start());
test.beforeEach(() => {
  fakes.asked.length = 0;
  fakes.failure = undefined;
  fakes.trace = STOPPED;
});
test.after.always(() => fakes.stop());

const SENT = { source: '10.100.5.2', destination: '10.100.43.2', size: 84 };
const STOPPED: TraceResult = {
  ...TraceResult.fromPartial({ ...SENT, verdict: 'stopped', node: 'h2' }),
  ...{ reason: 'a rule drops it', why: 'nftrace', fix: 'Change it.' },
  hops: [
    { node: 'h1', point: 'eth0 in c1', seen: true, detail: 'to 10.100.43.2' },
    { node: 'h2', point: 'tunnel wfvx1', seen: false, detail: '' },
  ],
  back: [{ node: undefined, point: '10.100.43.2', seen: undefined, detail: 'a flanneld' }],
};

test.serial('what is asked: the words, what they mean on this host, protocol, port and size', async (t) => {
  await fakes.weft('trace', 'c1', 'db.blue', '--tcp', '5432', '--size', '1400');
  await fakes.weft('trace', 'c1', 'c2', '--udp', '53');
  await fakes.weft('trace', 'c1', 'c2');
  const own = { fromHere: ['a'.repeat(16)], toHere: [] };
  const asked = fakes.asked.filter(([method]) => method === 'trace').map(([, request]) => request);
  t.deepEqual(asked, [
    { from: 'c1', to: 'db.blue', protocol: 'tcp', port: 5432, size: 1400, ...own },
    { from: 'c1', to: 'c2', protocol: 'udp', port: 53, size: 0, ...own },
    { from: 'c1', to: 'c2', protocol: 'icmp', port: 0, size: 0, ...own },
  ]);
});

test.serial(
  'JSON has every field, with null for what is not known; the exit status tells the verdict',
  async (t) => {
    const { code, stdout } = await fakes.weft('trace', 'c1', 'c2', '-o', 'json');
    t.is(code, 1);
    t.deepEqual(JSON.parse(stdout), {
      ...{ verdict: 'stopped', node: 'h2', reason: 'a rule drops it', why: 'nftrace', fix: 'Change it.' },
      hops: STOPPED.hops,
      back: [{ node: null, point: '10.100.43.2', seen: null, detail: 'a flanneld' }],
      ...SENT,
    });
    fakes.trace = TraceResult.fromPartial({ ...SENT, verdict: 'reached' });
    const whole = await fakes.weft('trace', 'c1', 'c2', '-o', 'json');
    t.is(whole.code, 0);
    t.like(JSON.parse(whole.stdout), { verdict: 'reached', node: null, reason: null });
    fakes.trace = TraceResult.fromPartial({ ...SENT, verdict: 'unknown' });
    t.is((await fakes.weft('trace', 'c1', 'c2')).code, 1);
  },
);

test.serial('for people: the verdict first, then the hops there and back', async (t) => {
  const { stdout } = await fakes.weft('trace', 'c1', 'c2', '--tcp', '80');
  t.deepEqual(stdout.trimEnd().split('\n'), [
    'Trace:   c1 to c2: 10.100.5.2 to 10.100.43.2, TCP port 80, 84 bytes',
    'Verdict: stopped on h2',
    'Reason:  a rule drops it',
    'Why:     nftrace',
    'Next:    Change it.',
    '',
    'There:',
    '  NODE  POINT         SEEN  DETAIL',
    '  h1    eth0 in c1    yes   to 10.100.43.2',
    '  h2    tunnel wfvx1  no    -',
    '',
    'Back:',
    '  NODE  POINT        SEEN     DETAIL',
    '  -     10.100.43.2  unknown  a flanneld',
  ]);
});

test.serial('a word of several meanings is a wrong call, and so are wrong options', async (t) => {
  fakes.failure = invalidArgument('db: means 2 containers: a, b', 'Give an id or an address.');
  const { code, stdout, stderr } = await fakes.weft('trace', 'db', 'c2', '-o', 'json');
  t.is(code, 2);
  t.is(stderr, 'weft: db: means 2 containers: a, b\n      Give an id or an address.\n');
  t.like(JSON.parse(stdout), { error: { code: 'INVALID_ARGUMENT' } });
  fakes.failure = undefined;
  fakes.asked.length = 0;
  for (const wrong of [
    ['c1', 'c2', '--tcp', '0'],
    ['c1', 'c2', '--tcp', '1', '--udp', '1'],
    ['c1', 'c2', '--size', '63'],
    ['c1'],
  ])
    t.is((await fakes.weftHere('trace', ...wrong)).code, 2, wrong.join(' '));
  t.deepEqual(fakes.asked, []);
});
