// Addresses of controllers and etcd, as the firewall closes them.
import test from 'ava';

import { configuredControl, ControlAddresses } from '../../../agent/networks/control-addresses.js';
import { hostPort } from '../../../daemon/kinds.js';
import { silentLogger } from '../../../daemon/log.js';

const place = (text: string) => hostPort({ listen: false }).parse(text, 'a test');

test('addresses of the settings and of the controller, here and elsewhere; each change is told once', async (t) => {
  let changes = 0;
  const control = new ControlAddresses({
    configured: [place('127.0.0.1:7400')],
    log: silentLogger,
    changed: () => {
      changes++;
      return Promise.resolve();
    },
  });
  t.teardown(() => control.stop());
  t.deepEqual(control.current, [{ ip: '127.0.0.1', port: 7400, here: true }]);
  await control.start();
  t.is(changes, 0);
  await control.told(['192.0.2.10:7400', '[2001:db8::10]:2379', '127.0.0.1:7400']);
  t.deepEqual(control.current, [
    { ip: '127.0.0.1', port: 7400, here: true },
    { ip: '192.0.2.10', port: 7400, here: false },
    { ip: '2001:db8::10', port: 2379, here: false },
  ]);
  t.is(changes, 1);
  await control.told(['192.0.2.10:7400', '[2001:db8::10]:2379']);
  t.is(changes, 1);
  await control.told([]);
  t.is(control.current.length, 1);
  t.is(changes, 2);
});

test('what a controller said holds after a restart, before anything is looked up', async (t) => {
  let saved: readonly string[] = [];
  const options = {
    configured: [place('192.0.2.9:7400'), place('controller.invalid:7400')],
    save: (addresses: readonly string[]) => void (saved = addresses),
    log: silentLogger,
    changed: () => Promise.resolve(),
  };
  const first = new ControlAddresses(options);
  await first.told(['192.0.2.10:2379']);
  const second = new ControlAddresses({ ...options, told: [...saved, 'torn'] });
  t.deepEqual(second.current, [
    { ip: '192.0.2.10', port: 2379, here: false },
    { ip: '192.0.2.9', port: 7400, here: false },
  ]);
});

test('etcd is closed by a setting alone, at the port of its URL', (t) => {
  const settings = {
    controller: [place('192.0.2.9:7400')],
    etcd: ['https://192.0.2.8', 'http://[2001:db8::8]:2379', 'http://etcd.example'],
  };
  const closed = (closeEtcd: 'on' | 'off'): string[] =>
    configuredControl({ ...settings, closeEtcd }).map(({ host, port }) => `${host} ${port}`);
  t.deepEqual(closed('off'), ['192.0.2.9 7400']);
  t.deepEqual(closed('on'), ['192.0.2.9 7400', '192.0.2.8 443', '2001:db8::8 2379', 'etcd.example 80']);
});
