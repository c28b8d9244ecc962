// Arguments of `weft run`, and its launch texts.
import test from 'ava';
import fc from 'fast-check';

import { WeftError } from '../../core/errors.js';
import { launchArgv, launchMark, launchWord } from '../../core/launch.js';
import { checkRun, parseNewNetworkName, parseRunNetwork, type RunWords } from '../../core/run.js';

const words: RunWords = {
  network: 'blue',
  attach: { aliases: [], allowedAddresses: [], labels: {}, publish: [], noDefaultRoute: false, dns: false },
  detached: false,
  remove: false,
  restart: 'no',
};

test('a network, or a mode', (t) => {
  t.deepEqual(parseRunNetwork('blue'), { kind: 'network', name: 'blue' });
  t.deepEqual(parseRunNetwork('none'), { kind: 'none' });
  t.deepEqual(parseRunNetwork('host'), { kind: 'host' });
  t.deepEqual(parseRunNetwork('container:web.1'), { kind: 'container', name: 'web.1' });
  t.is(parseNewNetworkName('hosts'), 'hosts');
  for (const text of ['', 'a b', 'container:', 'container:a b', 'web.1', '-x']) {
    t.throws(() => parseRunNetwork(text), { instanceOf: WeftError }, text);
  }
  for (const text of ['none', 'host']) {
    t.throws(() => parseNewNetworkName(text), { message: /is a mode of `weft run --network`/ });
  }
});

for (const [what, more, message] of [
  ['an address', { attach: { ...words.attach, ip: '10.0.0.1' } }, /^--ip: with --network none/],
  ['a port', { attach: { ...words.attach, publish: ['80'] } }, /^--publish: with/],
  ['no default route', { attach: { ...words.attach, noDefaultRoute: true } }, /^--no-default-route: with/],
  ['a resolv.conf', { attach: { ...words.attach, dns: true } }, /^--dns: with/],
  ['a VLAN', { attach: { ...words.attach, vlan: 7 } }, /^--vlan: with/],
  ['restart and rm', { restart: 'always', detached: true, remove: true }, /exclude each other/],
  ['restart in the foreground', { restart: 'always' }, /detached/],
] as const satisfies [string, Partial<RunWords>, RegExp][]) {
  test(`refused without a network: ${what}`, (t) => {
    t.throws(() => checkRun({ ...words, network: 'none', ...more }), { instanceOf: WeftError, message });
  });
}

test('options of an attach require a network', (t) => {
  const attach = { ...words.attach, aliases: ['www'], ip: '10.0.0.1', publish: ['80'], vlan: 7 };
  t.deepEqual(checkRun({ ...words, attach }), { kind: 'network', name: 'blue' });
});

test('only modes with a namespace of their own create one', (t) => {
  const made = (text: string): string[] => launchArgv('0123456789abcdef', parseRunNetwork(text), ['true']);
  t.true(made('blue').includes('--net'));
  t.true(made('none').includes('--net'));
  t.false(made('host').includes('--net'));
  t.false(made('container:a').includes('--net'));
  for (const text of ['blue', 'none', 'host', 'container:a']) {
    t.true(made(text).includes('--mount'));
    t.true(made(text).includes(launchMark('0123456789abcdef')));
  }
});

test('a command’s words arrive unchanged, whatever they contain', (t) => {
  fc.assert(
    fc.property(fc.array(fc.string(), { minLength: 1 }), (command) => {
      const argv = launchArgv('0123456789abcdef', { kind: 'none' }, command);
      t.deepEqual(argv.slice(-command.length), command);
    }),
  );
  t.is(launchWord({ folder: '/run/x', hostname: 'web' }), '/run/x\nweb\n\n\n');
  t.is(launchWord({ folder: '/run/x', hostname: '', join: 7, log: '/log' }), '/run/x\n\n7\n/log\n');
});
