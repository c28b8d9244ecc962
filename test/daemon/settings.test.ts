// Settings of both daemons: sources, precedence, and the errors for every mistake.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import test from 'ava';

import { agentProgramWith, agentSettingsFrom } from '../../agent/settings.js';
import { controllerProgram, etcdListenOf } from '../../controller/settings.js';
import { WeftError } from '../../core/errors.js';
import {
  loadSettings,
  ownValues,
  type Loaded,
  type Program,
  type SettingsTable,
} from '../../daemon/settings.js';
import { cnm } from '../../plugin/cnm/index.js';

const folder = mkdtempSync(join(tmpdir(), 'weft-settings-'));
test.after.always(() => rmSync(folder, { recursive: true }));

let files = 0;
function yaml(text: string): string {
  const path = join(folder, `${++files}.yaml`);
  writeFileSync(path, text);
  return path;
}

// The real files in /etc must not be read.
const agent = { ...agentProgramWith([cnm]), defaultFile: join(folder, 'agent.yaml') };
const controller = { ...controllerProgram, defaultFile: join(folder, 'controller.yaml') };

function valuesOf<T extends SettingsTable>(
  program: Program<T>,
  argv: string[],
  env: Record<string, string> = {},
): Extract<Loaded<T>, { kind: 'values' }>['values'] {
  const loaded = loadSettings(program, argv, env);
  if (loaded.kind === 'help') throw new Error('help was shown');
  return loaded.values;
}

function mistake<T extends SettingsTable>(
  program: Program<T>,
  argv: string[],
  env: Record<string, string> = {},
): string {
  try {
    loadSettings(program, argv, env);
  } catch (error) {
    if (!(error instanceof WeftError) || error.code !== 'INVALID_ARGUMENT') throw error;
    return `${error.message}\n${error.next ?? ''}`;
  }
  throw new Error('nothing was refused');
}

const ETCD = ['--etcd', 'http://192.0.2.1:2379'];

test('the defaults are those of the contract', (t) => {
  const values = agentSettingsFrom(valuesOf(agent, ETCD));
  t.deepEqual(values.etcd, ['http://192.0.2.1:2379']);
  t.deepEqual(
    { ...values, ...ownValues(cnm.settings, values), node: undefined, etcd: undefined },
    {
      cniSocket: '/run/weft/cni.sock',
      cnmSocket: '/run/docker/plugins/weft.sock',
      node: undefined,
      etcd: undefined,
      prefix: '/weft',
      controller: [],
      underlayIp: undefined,
      underlayIface: undefined,
      publicIp: undefined,
      join: [],
      subnetOnly: [],
      firewall: 'auto',
      flannel: 'on',
      closeEtcd: 'off',
      maxConnections: undefined,
      gceEndpoint: undefined,
      subnetTtl: { ms: 86_400_000, seconds: 86_400, text: '24h' },
      nodeTtl: { ms: 3000, seconds: 3, text: '3s' },
      runDir: '/run/weft',
      stateDir: '/var/lib/weft',
      dns: 'on',
      dnsServer: undefined,
      docker: { socketPath: '/run/docker.sock' },
      http: { host: '127.0.0.1', port: 7402, text: '127.0.0.1:7402' },
      etcdCa: undefined,
      etcdCert: undefined,
      etcdKey: undefined,
      etcdUsername: undefined,
      etcdPasswordFile: undefined,
      tlsCa: undefined,
      tlsCert: undefined,
      tlsKey: undefined,
      token: undefined,
      tokenFile: undefined,
      insecure: false,
      hasPrefix: false,
      logLevel: 'info',
      logFormat: 'text',
      cleanup: false,
      dryRun: false,
      endpointMetrics: 'off',
      output: 'text',
    },
  );
  const { listen, http, etcd, stateDir, prefix, adminDir } = valuesOf(controller, []);
  t.deepEqual(
    [listen.text, http.text, etcd, stateDir, prefix, adminDir],
    ['0.0.0.0:7400', '127.0.0.1:7401', undefined, '/var/lib/weft', '/weft', '/etc/weft/admin'],
  );
  const nowhere = ['--state-dir', '/nowhere'];
  t.is(etcdListenOf(valuesOf(controller, nowhere)), 'https://0.0.0.0:2379');
  t.is(etcdListenOf(valuesOf(controller, [...nowhere, '--insecure'])), 'http://127.0.0.1:2379');
});

test('the URL of an API has no user, query or slash at its end', (t) => {
  const of = (url: string): string | undefined => valuesOf(controller, ['--gce-endpoint', url]).gceEndpoint;
  t.is(of('https://compute.example/'), 'https://compute.example');
  t.is(of('http://192.0.2.1:5100/path'), 'http://192.0.2.1:5100/path');
  for (const url of [
    'compute.example',
    'ftp://compute.example',
    'https://me:secret@compute.example',
    'https://a/?b',
  ])
    t.regex(
      mistake(controller, ['--gce-endpoint', url]),
      /^flag --gce-endpoint: ".*" is not the URL of an API\n/,
    );
  t.notRegex(mistake(agent, [...ETCD, '--gce-endpoint', 'https://me:secret@compute.example']), /secret/);
});

test('flags override the environment, which overrides the file', (t) => {
  const file = yaml('etcd: http://192.0.2.3:2379\nnode: from-file\nprefix: /from-file\n');
  const env = { WEFT_ETCD: 'http://192.0.2.2:2379', WEFT_NODE: 'from-environment' };
  const values = valuesOf(agent, ['--config', file, '--etcd=http://192.0.2.1:2379'], env);
  t.deepEqual(values.etcd, ['http://192.0.2.1:2379']);
  t.is(values.node, 'from-environment');
  t.is(values.prefix, '/from-file');
});

test('a file is taken from --config, from WEFT_CONFIG, or from the default place where there is one', (t) => {
  const file = yaml('node: n7\netcd: http://192.0.2.3\n');
  t.is(valuesOf(agent, ['--config', file]).node, 'n7');
  t.is(valuesOf(agent, [], { WEFT_CONFIG: file }).node, 'n7');
  t.is(valuesOf({ ...agent, defaultFile: file }, []).node, 'n7');
  t.regex(
    mistake(agent, [...ETCD, '--config', '/nowhere.yaml']),
    /^flag --config: \/nowhere.yaml: there is no such file\n/,
  );
  t.regex(
    mistake(agent, ETCD, { WEFT_CONFIG: '/nowhere.yaml' }),
    /^environment WEFT_CONFIG: \/nowhere.yaml: there is no/,
  );
});

test('lists: commas, repeated flags and YAML lists mean the same', (t) => {
  const urls = ['http://192.0.2.1:2379', 'http://192.0.2.2:2379'];
  t.deepEqual(valuesOf(agent, ['--etcd', urls.join(',')]).etcd, urls);
  t.deepEqual(
    valuesOf(
      agent,
      urls.flatMap((url) => ['--etcd', url]),
    ).etcd,
    urls,
  );
  t.deepEqual(valuesOf(agent, ['--config', yaml(`etcd: [${urls.join(', ')}]`)]).etcd, urls);
  t.deepEqual(valuesOf(agent, [], { WEFT_ETCD: urls.join(',') }).etcd, urls);
});

test('--dry-run and its output format are flags alone: a file must not keep the agent from starting', (t) => {
  t.true(valuesOf(agent, [...ETCD, '--dry-run']).dryRun);
  t.false(valuesOf(agent, ETCD, { WEFT_DRY_RUN: '1' }).dryRun);
  t.regex(mistake(agent, ['--config', yaml('etcd: http://192.0.2.3\ndry-run: true\n')]), /dry-run/);
  for (const words of [['-o', 'json'], ['-ojson'], ['--output=json']])
    t.is(valuesOf(agent, [...ETCD, '--dry-run', ...words]).output, 'json', words.join(' '));
  t.regex(mistake(agent, [...ETCD, '-o', 'json']), /^flag --output: it is for --dry-run alone\n/);
  t.regex(mistake(agent, [...ETCD, '--dry-run', '-o', 'xml']), /^flag --output: "xml" is not one/);
  t.regex(
    mistake(agent, [...ETCD, '--cleanup', '--dry-run']),
    /^flag --cleanup: it changes what flag --dry-run leaves as it is\n/,
  );
});

test('a file with a byte order mark is read in the encoding that it names', (t) => {
  const text = '\ufeffnode: n7\netcd: http://192.0.2.3\n';
  const utf16 = Buffer.from(text, 'utf16le');
  for (const [encoding, bytes] of [
    ['UTF-8', Buffer.from(text)],
    ['UTF-16LE', utf16],
    ['UTF-16BE', Buffer.from(utf16).swap16()],
  ] as const) {
    const path = yaml('');
    writeFileSync(path, bytes);
    t.is(valuesOf(agent, ['--config', path]).node, 'n7', encoding);
  }
  const controllerFile = yaml('\ufefflisten: 127.0.0.1:7400\netcd: http://192.0.2.3\n');
  t.is(valuesOf(controller, ['--config', controllerFile]).listen.port, 7400);
  t.regex(
    mistake(agent, ['--config', yaml('\ufeffnoed: n7\n')]),
    /noed at line 1: not known\nDid you mean node/,
  );
});

test('an empty variable or file sets nothing; other commands’ variables are ignored', (t) => {
  const env = { WEFT_PREFIX: '', WEFT_AGENT: '/run/weft/agent.sock', WEFT_NONSENSE: 'x' };
  t.is(valuesOf(agent, [...ETCD, '--config', yaml('# nothing\n')], env).prefix, '/weft');
});

test('values are read into what the daemons use', (t) => {
  const values = valuesOf(agent, [
    ...ETCD,
    '--underlay-ip=192.0.2.10,2001:db8::10',
    '--public-ip=203.0.113.10',
    '--subnet-ttl=1h30m',
    '--cnm-socket=none',
    '--docker=tcp://192.0.2.9:2375',
    '--controller=[2001:db8::1]:7400,ctl.example:7401',
    '--join=blue,green',
    '--cleanup',
  ]);
  t.is(values.underlayIp?.ip.toString(), '192.0.2.10');
  t.is(values.underlayIp?.ip6?.toString(), '2001:db8::10');
  t.is(values.publicIp?.ip.toString(), '203.0.113.10');
  t.is(values.subnetTtl.seconds, 5400);
  t.deepEqual(ownValues(cnm.settings, values), {
    cnmSocket: undefined,
    docker: { host: '192.0.2.9', port: 2375 },
  });
  t.deepEqual(values.docker, { host: '192.0.2.9', port: 2375 });
  t.deepEqual(
    values.controller?.map(({ host, port, text }) => [host, port, text]),
    [
      ['2001:db8::1', 7400, '[2001:db8::1]:7400'],
      ['ctl.example', 7401, 'ctl.example:7401'],
    ],
  );
  t.deepEqual(values.join, ['blue', 'green']);
  t.true(values.cleanup);
  t.deepEqual(valuesOf(agent, ['--etcd', 'https://etcd.example:443', '--etcd-ca', 'ca.pem']).etcd, [
    'https://etcd.example:443',
  ]);
});

const mistakes: [name: string, argv: string[], env: Record<string, string>, message: RegExp][] = [
  [
    'nothing set',
    [],
    {},
    /^etcd: not set, and the agent needs it\nGive --etcd http:\/\/HOST:2379, WEFT_ETCD, or the key etcd/,
  ],
  [
    'unknown flag',
    [...ETCD, '--underlay-ipp', 'x'],
    {},
    /^flag --underlay-ipp: not known\nDid you mean --underlay-ip\?/,
  ],
  ['unknown flag, nothing near', [...ETCD, '--zzz'], {}, /^flag --zzz: not known\nweft agent --help/],
  ['flag without its value', ['--etcd'], {}, /^flag --etcd: has no value\nWrite it as --etcd URL/],
  ['value for a toggle', [...ETCD, '--cleanup=yes'], {}, /^flag --cleanup: takes no value/],
  [
    'stray word',
    [...ETCD, 'node'],
    {},
    /^argument "node": weft agent takes flags alone\nDid you mean --node\?/,
  ],
  [
    'URL without scheme',
    ['--etcd', '192.0.2.1:2379'],
    {},
    /^flag --etcd: "192.0.2.1:2379" .*\nDid you mean http:\/\/192.0.2.1:2379\?/,
  ],
  [
    'URL with a path',
    [],
    { WEFT_ETCD: 'http://a:1/v3' },
    /^environment WEFT_ETCD: .* has a path.*\nDid you mean http:\/\/a:1\?/,
  ],
  [
    'URL with a user',
    ['--etcd', 'http://u:secret@a:1'],
    {},
    /^flag --etcd: "http:\/\/…@a:1" has a user name in it\nGive it as --etcd-username/,
  ],
  [
    'a user without a password',
    [...ETCD, '--etcd-username', 'weft'],
    {},
    /^flag --etcd-username: needs --etcd-password-file beside it/,
  ],
  [
    'a password without a user',
    ETCD,
    { WEFT_ETCD_PASSWORD_FILE: 'f' },
    /^environment WEFT_ETCD_PASSWORD_FILE: needs --etcd-username beside it/,
  ],
  ['an empty user name', [...ETCD, '--etcd-username', ''], {}, /^flag --etcd-username: "" is no name/],
  ['empty item', ['--etcd', 'http://a:1,'], {}, /^flag --etcd: "http:\/\/a:1," has an empty item/],
  ['mixed schemes', ['--etcd', 'http://a:1,https://b:1'], {}, /some URLs are https and some are http/],
  ['https without CA', ['--etcd', 'https://b:1'], {}, /^flag --etcd: https:\/\/b:1 needs --etcd-ca/],
  [
    'certificates without https',
    [...ETCD, '--etcd-ca', 'f'],
    {},
    /^flag --etcd-ca: is for TLS.*\nWrite --etcd https:\/\/192.0.2.1:2379/,
  ],
  [
    'half a pair',
    [...ETCD],
    { WEFT_ETCD_KEY: 'f' },
    /^environment WEFT_ETCD_KEY: needs --etcd-cert beside it/,
  ],
  [
    'part of TLS',
    [...ETCD, '--tls-cert', 'f'],
    {},
    /^flag --tls-cert: TLS is always mutual, and --tls-ca is not set/,
  ],
  ['node name', [...ETCD, '--node', 'a b'], {}, /^flag --node: "a b" is not a valid name\nUse letters/],
  [
    'duration without unit',
    [...ETCD, '--node-ttl', '3'],
    {},
    /^flag --node-ttl: "3" is not a duration\nGive 1s to 1h/,
  ],
  ['duration too short', [...ETCD, '--node-ttl', '500ms'], {}, /"500ms" is too short/],
  [
    'part of a second',
    [...ETCD],
    { WEFT_NODE_TTL: '1500ms' },
    /^environment WEFT_NODE_TTL: "1500ms" is not a whole number of/,
  ],
  [
    'two underlays',
    [...ETCD, '--underlay-ip', '192.0.2.1', '--underlay-iface', 'eth0'],
    {},
    /^flag --underlay-ip and flag --underlay-iface: only one/,
  ],
  [
    'two of a family',
    [...ETCD, '--underlay-ip', '2001:db8::1,2001:db8::2'],
    {},
    /is not one address, or one of each/,
  ],
  [
    'no address',
    [...ETCD, '--underlay-ip', '192.0.2.300'],
    {},
    /^flag --underlay-ip: "192.0.2.300" is not an IP address/,
  ],
  [
    'long interface',
    [...ETCD, '--underlay-iface', 'abcdefghijklmnop'],
    {},
    /is not the name of an interface/,
  ],
  [
    'prefix with a slash',
    [...ETCD, '--prefix', '/weft/'],
    {},
    /^flag --prefix: "\/weft\/" is not a key prefix\nBegin it with \//,
  ],
  ['prefix without one', [...ETCD, '--prefix', 'weft'], {}, /is not a key prefix/],
  [
    'port too large',
    [...ETCD, '--http', '127.0.0.1:70000'],
    {},
    /^flag --http: "127.0.0.1:70000" has no valid port/,
  ],
  [
    'no port',
    [...ETCD, '--controller', 'ctl'],
    {},
    /^flag --controller: "ctl" is not HOST:PORT\nWrite it as/,
  ],
  ['no host', [...ETCD, '--controller', '1.2.3:80'], {}, /has no valid host \("1.2.3"\)/],
  ['relative folder', [...ETCD, '--run-dir', 'run'], {}, /^flag --run-dir: "run" is not an absolute path/],
  [
    'unknown word',
    [...ETCD, '--firewall', 'ufw'],
    {},
    /^flag --firewall: "ufw" .*\nGive one of: auto, nftables, iptables\./,
  ],
  ['network name', [...ETCD, '--join', 'a.b'], {}, /^flag --join: "a.b" is not a network name/],
  [
    'engine',
    [...ETCD, '--docker', '/run/docker.sock'],
    {},
    /^flag --docker: .*\nWrite it as unix:\/\/\/run\/docker.sock/,
  ],
];

for (const [name, argv, env, message] of mistakes) {
  test(`refused: ${name}`, (t) => {
    t.regex(mistake(agent, argv, env), message);
  });
}

const broken: [name: string, text: string, message: RegExp][] = [
  [
    'unknown key',
    'node: n1\n\nunderlayIp: 192.0.2.1\n',
    /: underlayIp at line 3: not known\nDid you mean underlay-ip\?/,
  ],
  ['unknown key, nothing near', 'zzz: 1\n', /: zzz at line 1: not known\nKnown are: node, etcd, /],
  ['cleanup is no property', 'cleanup: true\n', /: cleanup at line 1: not known/],
  ['bad value', 'http: 127.0.0.1\n', /: http at line 1: "127.0.0.1" is not HOST:PORT/],
  ['number', 'node-ttl: 3\n', /: node-ttl at line 1: "3" is not a duration/],
  ['nothing', 'etcd:\n', /: etcd at line 1: the value is nothing\nWrite it as URL/],
  ['list for one', 'node: [a, b]\n', /: node at line 1: the value is a list\nWrite it as NAME/],
  ['map', 'etcd: {a: b}\n', /: etcd at line 1: the value is a map/],
  ['twice', 'node: a\nnode: b\n', /: line 2: not YAML: Map keys must be unique/],
  ['not YAML', 'node: [a\n', /: line \d: not YAML: /],
  ['no map', '- a\n', /: is not a list of "key: value"/],
];

for (const [name, text, message] of broken) {
  test(`refused in the file: ${name}`, (t) => {
    const path = yaml(text);
    const found = mistake(agent, ['--config', path]);
    t.true(found.startsWith(path));
    t.regex(found, message);
  });
}

test('the controller: an embedded etcd and a named one exclude each other, and it listens on addresses', (t) => {
  t.regex(
    mistake(controller, [...ETCD, '--etcd-listen', 'http://127.0.0.1:1']),
    /^flag --etcd-listen: is for the embedded etcd, but flag --etcd names another/,
  );
  t.regex(mistake(controller, ['--etcd-listen', 'http://etcd.example:1']), /has a name as its host/);
  t.regex(mistake(controller, ['--etcd-listen', 'https://192.0.2.1:2379', '--insecure']), /needs --etcd-ca/);
  t.regex(
    mistake(controller, ['--etcd-listen', 'http://192.0.2.1:2379', '--state-dir', '/nowhere']),
    /is plain text, and this cluster is not to have any\nWrite https:\/\/192.0.2.1:2379, or add --insecure/,
  );
  t.regex(
    mistake(controller, ['--etcd-username', 'weft', '--etcd-password-file', 'f']),
    /^flag --etcd-username: is for an etcd with authentication, and the embedded etcd has none/,
  );
  t.is(valuesOf(controller, ['--etcd', 'none']).etcd, undefined);
  t.is(valuesOf(controller, ['--listen', '127.0.0.1:0']).listen.port, 0);
  t.is(valuesOf(controller, ['--ui', '127.0.0.1:7443']).ui?.port, 7443);
  t.regex(
    mistake(controller, ['--ui', '127.0.0.1:7443', '--insecure']),
    /^flag --ui: the page is served by mutual TLS alone/,
  );
});

test('--help names every flag with its default and its variable', (t) => {
  for (const program of [agent, controller]) {
    const loaded = loadSettings<SettingsTable>(
      { ...program, settings: program.settings, check: () => undefined },
      ['--help'],
      {},
    );
    if (loaded.kind !== 'help') throw new Error('not what was expected');
    const text = loaded.text.replaceAll(/\s+/g, ' ');
    for (const key of Object.keys(program.settings)) t.true(text.includes(`--${key} `), key);
    t.true(text.includes('(default /weft; WEFT_PREFIX)'));
    t.true(text.includes(`settings in YAML (default ${program.defaultFile} where it exists; WEFT_CONFIG)`));
    t.true(loaded.text.split('\n').every((line) => line.length <= 110));
  }
});

test('a mistake ends the process with 2 and a message on stderr; help ends it with 0', async (t) => {
  const settings = fileURLToPath(new URL('../../daemon/settings.js', import.meta.url));
  const program = fileURLToPath(new URL('../../agent/settings.js', import.meta.url));
  const script = `
    import { settingsOrExit } from '${settings}';
    import { agentProgram } from '${program}';
    settingsOrExit(agentProgram, process.argv.slice(1), {});
    console.log('went on');`;
  const run = (...argv: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> =>
    new Promise((resolve) => {
      execFile(
        process.execPath,
        ['--input-type=module', '-e', script, '--', ...argv],
        (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }),
      );
    });
  t.deepEqual(await run('--etdc', 'x'), {
    code: 2,
    stdout: '',
    stderr: 'weft agent: flag --etdc: not known\nDid you mean --etcd?\n',
  });
  const help = await run('--help');
  t.is(help.code, 0);
  t.true(help.stdout.startsWith('Usage: weft agent [flags]'));
});

test('the CNI socket is in the run directory, where it is named, or nowhere', (t) => {
  const socketOf = (...flags: string[]): string | undefined => {
    const loaded = loadSettings(agent, [...ETCD, ...flags], {});
    if (loaded.kind === 'help') throw new Error('help was shown');
    return agentSettingsFrom(loaded.values, loaded.origin).cniSocket;
  };
  t.is(socketOf('--run-dir=/run/other'), '/run/other/cni.sock');
  t.is(socketOf('--cni-socket=/run/cni.sock'), '/run/cni.sock');
  t.is(socketOf('--cni-socket=none'), undefined);
});
