// Completion in a real bash, with the script that weft prints.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';

import test from 'ava';

import { Fakes, inTurn, run, WEFT } from './fakes.js';

const fakes = new Fakes();
const engine = join(fakes.folder, 'docker.sock');
const docker = createServer((request, response) => {
  const running = [{ Names: ['/web/shop', '/shop-1'] }, { Names: ['/shop-2'] }];
  response.end(JSON.stringify(request.url === '/containers/json' ? running : { message: 'page not found' }));
});
let printed = '';
test.before(async () => {
  await fakes.start();
  printed = (await run(['completion', 'bash'])).stdout;
  await once(docker.listen(engine), 'listening');
});
test.after.always(() => {
  docker.close();
  fakes.stop();
});

/** @param words of the line, the last one being the one at the cursor */
function offered(words: readonly string[], controller = fakes.address, before = 'true'): Promise<string[]> {
  const script =
    'eval "$BEFORE"; eval "$PRINTED"; COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; _weft; printf "%s\\n" "${COMPREPLY[@]}"';
  const { PATH = '', HOME = '' } = process.env;
  const services = { WEFT_CONTROLLER: controller, WEFT_AGENT: fakes.socket, WEFT_DOCKER: `unix://${engine}` };
  const env = { PATH: `${dirname(WEFT)}:${PATH}`, HOME, BEFORE: before, PRINTED: printed, ...services };
  const ask = (): Promise<string[]> =>
    new Promise((resolve, reject) => {
      execFile(
        'bash',
        ['--norc', '-c', script, 'bash', 'weft', ...words],
        { env },
        (error, stdout, stderr) => {
          if (error !== null) reject(new Error(error.message));
          else if (stderr !== '') reject(new Error(stderr));
          else resolve(stdout.split('\n').filter((line) => line !== ''));
        },
      );
    });
  return inTurn(ask);
}

test('bash completes commands, options, their values and names', async (t) => {
  const [commands, below, options, values, networks, endpoints, ports, ends, places, targets] =
    await Promise.all([
      offered(['']),
      offered(['network', '']),
      offered(['attach', 'blue', 'web', '--ip']),
      offered(['network', 'ls', '-o', '']),
      offered(['network', 'rm', 'b']),
      offered(['endpoint', 'inspect', '']),
      offered(['port', '']),
      offered(['trace', 'c1', '']),
      offered(['ping', '']),
      offered(['attach', 'blue', 'run:']),
    ]);
  for (const word of ['network', 'attach', 'endpoint', 'node', 'status', 'agent', 'controller'])
    t.true(commands.includes(word), `${word} in ${commands.join(' ')}`);
  t.false(commands.includes('__complete'));
  t.deepEqual(below.filter((word) => word !== 'help').toSorted(), [
    'create',
    'inspect',
    'ls',
    'rm',
    'route',
    'update',
  ]);
  t.deepEqual(
    ports.filter((word) => word !== 'help'),
    ['ls', 'publish', 'rm'],
  );
  t.deepEqual(options, ['--ip', '--ip6']);
  t.deepEqual(values, ['json', 'name', 'table', 'wide', 'yaml']);
  t.deepEqual(networks, ['blue']);
  t.deepEqual(ends, ['a', 'web']);
  // Names are what people type; ids are not.
  t.deepEqual(endpoints, ['web']);
  t.deepEqual(places, ['a', 'web']);
  t.deepEqual(targets, ['web']);
});

test('a word with a colon is completed from where bash starts it', async (t) => {
  const line = ['run', '--network'];
  t.deepEqual(await offered([...line, 'con']), ['container:web']);
  t.deepEqual(await offered([...line, 'container:']), ['web']);
  t.deepEqual(await offered([...line, 'container:w']), ['web']);
  t.deepEqual(await offered([...line, 'container:x']), []);
  // A common setting in ~/.bashrc.
  const whole = 'COMP_WORDBREAKS=${COMP_WORDBREAKS//:}';
  t.deepEqual(await offered([...line, 'container:w'], fakes.address, whole), ['container:web']);
});

test('inspect takes several words, of every kind that it finds', async (t) => {
  t.deepEqual(await offered(['inspect', '']), ['a', 'blue', 'web']);
  t.deepEqual(await offered(['inspect', 'web', 'b']), ['blue']);
});

test('containers of Docker are TARGETs, with and without their prefix', async (t) => {
  t.deepEqual(await offered(['attach', 'blue', 'shop']), ['shop-1', 'shop-2']);
  t.deepEqual(await offered(['attach', 'blue', 'docker:shop']), ['shop-1', 'shop-2']);
  t.deepEqual(await offered(['detach', 'blue', 'shop-2']), ['shop-2']);
});

test('completion stays silent where no controller answers', async (t) => {
  t.deepEqual(await offered(['network', 'rm', ''], '127.0.0.1:1'), []);
});

test('names come from the service that the command itself would call', async (t) => {
  const line = ['network', 'rm', '--controller'];
  t.deepEqual(await offered([...line, fakes.address, ''], '127.0.0.1:1'), ['blue']);
  t.deepEqual(await offered([...line, '127.0.0.1:1', '']), []);
});

test('each shell has a script', async (t) => {
  const scripts = await Promise.all(['bash', 'zsh', 'fish'].map((shell) => run(['completion', shell])));
  for (const { code, stdout } of scripts) {
    t.is(code, 0);
    t.regex(stdout, /weft __complete/);
  }
});
