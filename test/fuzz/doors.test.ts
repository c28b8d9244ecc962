// Garbage at the doors: values and keys in etcd, state files, requests of the agent's API, the command line. Whatever comes,
// nothing crashes or hangs, and what is refused is refused with a clear error. A fixed budget; WEFT_FUZZ=N for N times as
// much. Docker's socket belongs here, too, once there is one.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';
import fc from 'fast-check';

import { parseAttach } from '../../agent/attach-request.js';
import { parseDetach } from '../../agent/api.js';
import { State } from '../../agent/state.js';
import { WeftError } from '../../core/errors.js';
import { AttachRequest, DetachRequest } from '../../proto/gen/weft/v1/agent.js';
import { decodeRecord } from '../../store/decode.js';
import { Keys } from '../../store/keys.js';
import { exec } from '../lab/exec.js';
import { WEFT } from '../lab/lab.js';

const TIMES = Number(process.env['WEFT_FUZZ'] ?? 1);

const scalar = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.constantFrom(
    '10.100.0.0/16',
    '10.100.5.1',
    '::',
    'fd42::/64',
    '02:00:00:00:00:01',
    '999.1.1.1/99',
    '-1',
    'x'.repeat(300),
  ),
);
const FIELDS = [
  ...[
    'Network',
    'SubnetLen',
    'SubnetMin',
    'SubnetMax',
    'IPv6Network',
    'EnableIPv6',
    'Backend',
    'Type',
    'VNI',
    'Port',
  ],
  ...[
    'MTU',
    'Weft',
    'PublicIP',
    'PublicIPv6',
    'BackendType',
    'BackendData',
    'VtepMAC',
    'Node',
    'Instance',
    'Since',
  ],
  ...[
    'name',
    'node',
    'target',
    'sandbox',
    'ip',
    'ip6',
    'mac',
    'aliases',
    'publish',
    'state',
    'instance',
    'publicIp',
  ],
  ...['at', 'forced', 'network', 'lease', 'granted', 'config', '__proto__', 'constructor', 'toString'],
];
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    scalar,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.constantFrom(...FIELDS), fc.string()), tie('value'), { maxKeys: 8 }),
  ),
}));
const text = fc.oneof(
  value.map((one) => JSON.stringify(one)),
  fc.string({ unit: 'binary' }),
  value.map((one) => JSON.stringify(one).slice(0, -1)),
);
const KEYS = [
  ...[
    'networks/blue/config',
    'networks/blue/subnets/10.100.5.0-24',
    'networks/blue/endpoints/0123456789abcdef',
  ],
  ...[
    'networks/blue/claims/10.100.5.9',
    'nodes/h1',
    'nodes/h1/alive',
    'removed/networks/blue',
    'removed/nodes/h1',
  ],
];
const key = fc.oneof(fc.constantFrom(...KEYS), fc.string(), fc.string({ unit: 'binary' }));

test('values and keys in etcd: each is a record, none, or unreadable with a reason', (t) => {
  const keys = new Keys('/weft');
  fc.assert(
    fc.property(key, text, (name, written) => {
      const decoded = decodeRecord(keys.parse(`/weft/${name}`), written, '0');
      if (decoded !== undefined && 'bad' in decoded) t.true(decoded.bad.length > 0);
    }),
    { numRuns: 5000 * TIMES },
  );
  t.pass();
});

test('state files: each is read or put aside', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'weft-fuzz-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  let n = 0;
  fc.assert(
    fc.property(text, text, fc.string({ unit: 'binary' }), (network, endpoint, instance) => {
      const folder = join(root, `${++n}`);
      for (const kind of ['networks', 'endpoints']) mkdirSync(join(folder, kind), { recursive: true });
      writeFileSync(join(folder, 'networks', 'blue.json'), network);
      writeFileSync(join(folder, 'endpoints', '0123456789abcdef.json'), endpoint);
      writeFileSync(join(folder, 'instance'), instance);
      const loaded = new State(folder).load();
      t.is(loaded.torn.length + loaded.networks.length + loaded.endpoints.length, 2);
      t.regex(loaded.instance, /^[0-9a-f-]{36}$/);
      rmSync(folder, { recursive: true });
    }),
    { numRuns: 300 * TIMES },
  );
});

test('requests of the agent: a request, or an error that says what is wrong', (t) => {
  const parsed = (parse: () => unknown): void => {
    try {
      parse();
    } catch (error) {
      t.true(error instanceof WeftError && error.code === 'INVALID_ARGUMENT', String(error));
    }
  };
  const word = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('10.100.5.2', 'blue', '::1'),
  );
  fc.assert(
    fc.property(
      fc.record({
        network: word,
        target: word,
        name: word,
        ip: word,
        ip6: word,
        mac: word,
        ifname: word,
        alias: word,
      }),
      ({ alias, ...wire }) => {
        parsed(() => parseAttach(AttachRequest.fromPartial({ ...wire, aliases: [alias] })));
        const { network, target } = wire;
        parsed(() => parseDetach(DetachRequest.fromPartial({ network, target })));
      },
    ),
    { numRuns: 3000 * TIMES },
  );
  t.pass();
});

test('the command line: refused with two lines and 2, or done; never a stack trace', async (t) => {
  const noTrailing = fc.string({ maxLength: 20 }).map((one) => one.replaceAll('\0', ''));
  const words = fc.oneof(
    noTrailing,
    fc.constantFrom(
      'network',
      'create',
      'attach',
      'detach',
      'endpoint',
      'node',
      'ls',
      'rm',
      '--subnet',
      '--ip',
      '-o',
      'json',
      '--',
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(words, { maxLength: 6 }), async (args) => {
      const env = { WEFT_CONTROLLER: '127.0.0.1:1', WEFT_AGENT: '/nonexistent/agent.sock' };
      const { code, stderr } = await exec([WEFT, ...args.filter((one) => one !== 'run')], { env });
      t.true([0, 1, 2].includes(code), `${JSON.stringify(args)}: exit ${code}\n${stderr}`);
      t.notRegex(stderr, /^\s+at .*\.js:\d+/m, JSON.stringify(args));
    }),
    { numRuns: 12 * TIMES },
  );
});
